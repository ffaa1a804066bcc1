-- Keeps a group's members and hands partitions out. Whoever calls brings the
-- whole group up to date: members whose time is up leave, partitions without an
-- owner go to the members with the fewest, and no member keeps two more than
-- another. A partition that changes hands gets the next epoch, the fencing
-- token that commit.lua looks at.
--
-- KEYS: metadata, group, members, groups, streams of all partitions.
-- ARGV: uid, what (sync, leave, release), member, its time to live in ms,
-- group's name; to release: partition, epoch.
--
-- Answers {1} where the topic is another one, else {0, partition, epoch,
-- committed, first id, last id, …} with what the member holds.
local what, me = ARGV[2], ARGV[3]
local group, members = KEYS[2], KEYS[3]
local n = #KEYS - 4
if gone(KEYS[1], ARGV[1], KEYS[5]) then
  return {1}
end
local ms = math.floor(now() / 1000)
if what == 'leave' then
  redis.call('ZREM', members, me)
else
  redis.call('ZADD', members, ms + tonumber(ARGV[4]), me)
  redis.call('SADD', KEYS[4], ARGV[5])
end
for _, m in ipairs(redis.call('ZRANGEBYSCORE', members, '-inf', ms)) do
  redis.call('ZREM', members, m)
end
local live = redis.call('ZRANGE', members, 0, -1)
table.sort(live)
local holds = {}
for _, m in ipairs(live) do
  holds[m] = {}
end

local fields = {}
for p = 0, n - 1 do
  fields[#fields + 1] = 'o' .. p
end
local owner = redis.call('HMGET', group, unpack(fields))
local free = {}
for p = 0, n - 1 do
  local o = owner[p + 1]
  local released = what == 'release' and p == tonumber(ARGV[6]) and o == me and redis.call('HGET', group, 'e' .. p) == ARGV[7]
  if o and holds[o] and not released then
    table.insert(holds[o], p)
  else
    free[#free + 1] = p
    if o and o ~= '' then
      redis.call('HSET', group, 'o' .. p, '')
    end
  end
end
local function give(p, m)
  table.insert(holds[m], p)
  redis.call('HSET', group, 'o' .. p, m, 'x' .. p, 0)
  redis.call('HINCRBY', group, 'e' .. p, 1)
end
local function least()
  local l
  for _, m in ipairs(live) do
    if not l or #holds[m] < #holds[l] then
      l = m
    end
  end
  return l
end
local function most()
  local l
  for _, m in ipairs(live) do
    if not l or #holds[m] > #holds[l] then
      l = m
    end
  end
  return l
end
if #live > 0 then
  for _, p in ipairs(free) do
    give(p, least())
  end
  while #holds[most()] > #holds[least()] + 1 do
    give(table.remove(holds[most()]), least())
  end
end

local answer = {0}
for _, p in ipairs(holds[me] or {}) do
  local has = redis.call('HMGET', group, 'e' .. p, 'p' .. p)
  local first, last = bounds(KEYS[5 + p])
  for _, v in ipairs({tostring(p), has[1], has[2] or '', first, last}) do
    answer[#answer + 1] = v
  end
end
return answer
