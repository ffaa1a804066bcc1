-- Reports a topic's partitions and how far a group has come.
--
-- KEYS: metadata, group (or metadata again where none is asked for), streams.
-- ARGV: uid, whether a group is asked for.
--
-- Answers {1} where the topic is another one, else {0} and for each partition
-- first id, last id, entries, bytes, the group's next id, the id of the first
-- entry at or behind it, and when that was stored, in microseconds.
if gone(KEYS[1], ARGV[1], KEYS[3]) then
  return {1}
end
local answer = {0}
for i = 3, #KEYS do
  local stream = KEYS[i]
  local first, last, length = bounds(stream)
  local next = ARGV[2] == '1' and redis.call('HGET', KEYS[2], 'p' .. (i - 3)) or ''
  local waits, t = '', ''
  if length > 0 then
    local e = redis.call('XRANGE', stream, next == '' and '-' or next, '+', 'COUNT', 1)[1]
    if e then
      waits = e[1]
      t = stored(e) and string.format('%.0f', stored(e)) or ''
    end
  end
  for _, v in ipairs({first, last, tostring(length), tostring(length > 0 and redis.call('MEMORY', 'USAGE', stream) or 0), next, waits, t}) do
    answer[#answer + 1] = v
  end
end
return answer
