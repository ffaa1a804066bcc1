-- Shared by the scripts of this folder; it stands before each of them.

-- gone says that a topic is not the one that the caller knows: uid is that of
-- its metadata, and empty for a stream that has none.
local function gone(meta, uid, stream)
  if uid ~= '' then
    return redis.call('HGET', meta, 'uid') ~= uid
  end
  return redis.call('EXISTS', meta) == 1 or redis.call('TYPE', stream).ok ~= 'stream'
end

local function now()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

-- bounds returns the id of the first entry ('' where there is none), the last
-- id given out and the number of entries.
local function bounds(stream)
  if redis.call('EXISTS', stream) == 0 then
    return '', '0-0', 0
  end
  local info, first, last, length = redis.call('XINFO', 'STREAM', stream), '', '0-0', 0
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      last = info[i + 1]
    elseif info[i] == 'length' then
      length = info[i + 1]
    elseif info[i] == 'first-entry' and info[i + 1] then
      first = info[i + 1][1]
    end
  end
  return first, last, length
end

-- stored is when an entry was stored, in microseconds; nil where it does not say.
local function stored(entry)
  local f = entry[2]
  if f and f[1] == 't' then
    return tonumber(f[2])
  end
end

local function number(id)
  return tonumber(string.match(id, '%-(%d+)$'))
end

-- since finds the first entry stored at or after t microseconds in a stream
-- with dense ids, by halving, and returns its number; the one behind the last
-- where there is none.
local function since(stream, base, t)
  local first, last = bounds(stream)
  local high = number(last) + 1
  if first == '' then
    return high
  end
  local low = number(first)
  while low < high do
    local mid = math.floor((low + high) / 2)
    local e = redis.call('XRANGE', stream, string.format('%s-%.0f', base, mid), '+', 'COUNT', 1)[1]
    if not e or (stored(e) or 0) >= t then
      high = mid
    else
      low = number(e[1]) + 1
    end
  end
  return low
end
