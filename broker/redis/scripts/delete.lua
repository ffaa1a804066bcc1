-- Removes a topic with its records, ids and groups.
--
-- KEYS: metadata, catalogue, ids, groups, streams. ARGV: uid, name, what stands
-- before its keys.
if gone(KEYS[1], ARGV[1], KEYS[5]) then
  return 1
end
for _, g in ipairs(redis.call('SMEMBERS', KEYS[4])) do
  redis.call('UNLINK', ARGV[3] .. 'group:' .. g, ARGV[3] .. 'members:' .. g)
end
redis.call('SREM', KEYS[2], ARGV[2])
for i = 5, #KEYS do
  redis.call('UNLINK', KEYS[i])
end
redis.call('UNLINK', KEYS[1], KEYS[3], KEYS[4])
return 0
