#!lua
-- Keeps the newest result of each key.
--
-- KEYS: the keys of all results. ARGV: hash or string, what stands behind a
-- string's key in that of its version, time to live in ms (0 keeps for ever),
-- results: for each its index in KEYS, its time, its id, and a list of fields
-- and values, or the text.
--
-- A version is the time, in nanoseconds with 20 digits, a space and the id. A
-- result goes in where its version is greater than that of the one there.
-- Answers how many went in.
local hash, suffix, ttl, results = ARGV[1] == 'hash', ARGV[2], tonumber(ARGV[3]), cmsgpack.unpack(ARGV[4])

-- The server's own comparison of strings follows its locale.
local function less(a, b)
  local at, bt = string.sub(a, 1, 20), string.sub(b, 1, 20)
  if at ~= bt then
    return at < bt
  end
  local n = math.min(#a, #b)
  for i = 21, n do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then
      return x < y
    end
  end
  return #a < #b
end

-- Everything that can fail is tried before the first write.
local current = {}
for i = 1, #KEYS do
  if hash then
    current[i] = redis.call('HGET', KEYS[i], '_version')
  else
    redis.call('STRLEN', KEYS[i])
    current[i] = redis.call('GET', KEYS[i] .. suffix)
  end
end
local kept, best = 0, {}
for _, r in ipairs(results) do
  local i, version = r[1], r[2] .. ' ' .. r[3]
  if not current[i] or less(current[i], version) then
    current[i], best[i] = version, r
    kept = kept + 1
  end
end
for i, r in pairs(best) do
  local key = KEYS[i]
  redis.call('DEL', key)
  if hash then
    local fields = r[4]
    local first = math.min(#fields, 2000)
    redis.call('HSET', key, '_version', current[i], unpack(fields, 1, first))
    for f = first + 1, #fields, 2000 do
      redis.call('HSET', key, unpack(fields, f, math.min(#fields, f + 1999)))
    end
  else
    redis.call('SET', key, r[4])
    redis.call('SET', key .. suffix, current[i])
  end
  if ttl > 0 then
    redis.call('PEXPIRE', key, ttl)
    if not hash then
      redis.call('PEXPIRE', key .. suffix, ttl)
    end
  end
end
return kept
