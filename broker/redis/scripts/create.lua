-- Makes a topic.
--
-- KEYS: metadata, catalogue, the key of a stream without metadata, streams.
-- ARGV: base, name, uid, retention in ms, bytes kept, window in ms.
--
-- Answers the number of partitions of the topic that is there now.
local there = redis.call('HGET', KEYS[1], 'partitions')
if there then
  return tonumber(there)
end
if redis.call('EXISTS', KEYS[3]) == 1 then
  return redis.call('TYPE', KEYS[3]).ok == 'stream' and 1 or -1
end
for i = 4, #KEYS do
  -- An empty stream that remembers the id before its first one, so that ids
  -- count from there, those that XADD * makes too.
  redis.call('DEL', KEYS[i])
  redis.call('XADD', KEYS[i], ARGV[1] .. '-0', 't', 0)
  redis.call('XTRIM', KEYS[i], 'MAXLEN', 0)
end
redis.call('HSET', KEYS[1], 'uid', ARGV[3], 'partitions', #KEYS - 3, 'retention', ARGV[4], 'bytes', ARGV[5], 'window', ARGV[6])
redis.call('SADD', KEYS[2], ARGV[2])
return #KEYS - 3
