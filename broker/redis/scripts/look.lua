-- Says whether a topic is still the same one, and the last id of a stream.
--
-- KEYS: metadata, stream. ARGV: uid.
if gone(KEYS[1], ARGV[1], KEYS[2]) then
  return {1}
end
local _, last = bounds(KEYS[2])
return {0, last}
