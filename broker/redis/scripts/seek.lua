-- Finds the first entry stored at or after a time in a stream with dense ids.
--
-- KEYS: metadata, stream. ARGV: uid, base, time in microseconds. Answers its
-- number, or -1 where the topic is another one.
if gone(KEYS[1], ARGV[1], KEYS[2]) then
  return -1
end
return since(KEYS[2], ARGV[2], tonumber(ARGV[3]))
