-- Stores runs of records and moves positions: all of it, or nothing.
--
-- KEYS: metadata and ids of each topic; the stream of each run; the group of each claim.
-- ARGV: base, topics, runs, claims, whether repeated ids are dropped; for each
-- topic uid, window and retention in ms, bytes kept; for each run topic and
-- records; for each claim partition, member, epoch, number of the transaction, next id.
--
-- Answers {0, stored, dropped}; {1, topic} where a topic is another one;
-- {2, claim} where a claim is lost; {3} where this transaction was applied
-- before; {4, run} where a stream cannot be continued.
local base, topics, runs, claims, drop = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1'
local a = 5
local topic = {}
for i = 1, topics do
  topic[i] = {meta = KEYS[2 * i - 1], ids = KEYS[2 * i], uid = ARGV[a + 1], window = tonumber(ARGV[a + 2]), retention = tonumber(ARGV[a + 3]), bytes = tonumber(ARGV[a + 4])}
  a = a + 4
end
local run = {}
for i = 1, runs do
  run[i] = {topic = topic[tonumber(ARGV[a + 1])], stream = KEYS[2 * topics + i], packed = ARGV[a + 2], at = tonumber(ARGV[a + 1])}
  a = a + 2
end

-- Everything that can fail is tried before the first write.
local done = 0
for i = 1, claims do
  local c = a + 5 * (i - 1)
  local p = ARGV[c + 1]
  local held = redis.call('HMGET', KEYS[2 * topics + runs + i], 'o' .. p, 'e' .. p, 'x' .. p)
  if held[1] ~= ARGV[c + 2] or held[2] ~= ARGV[c + 3] then
    return {2, i}
  end
  if held[3] and tonumber(held[3]) >= tonumber(ARGV[c + 4]) then
    done = done + 1
  end
end
if done > 0 then
  -- Written again, so that WAIT behind this call waits for it.
  redis.call('HSET', KEYS[2 * topics + runs + 1], 'x' .. ARGV[a + 1], ARGV[a + 4])
  return {3}
end
for i = 1, topics do
  local t = topic[i]
  if t.uid ~= '' and redis.call('HGET', t.meta, 'uid') ~= t.uid then
    return {1, i}
  end
  if t.window > 0 then
    redis.call('ZCARD', t.ids)
  end
end
local us = now()
for i = 1, runs do
  local r = run[i]
  if r.topic.uid == '' and gone(r.topic.meta, '', r.stream) then
    return {1, r.at}
  end
  r.us = us
  local last = redis.call('XREVRANGE', r.stream, '+', '-', 'COUNT', 1)[1]
  if last and r.topic.uid ~= '' then
    if string.sub(last[1], 1, #base + 1) ~= base .. '-' then
      return {4, i}
    end
    r.us = math.max(us, stored(last) or 0)
  end
  r.records = cmsgpack.unpack(r.packed)
end

local count, dropped = 0, 0
local ms = math.floor(us / 1000)
for i = 1, runs do
  local r = run[i]
  local t, stream, records = r.topic, r.stream, r.records
  if t.uid == '' then
    for j = 1, #records do
      redis.call('XADD', stream, '*', unpack(records[j]))
    end
    count = count + #records
  else
    local stamp, auto, ids, window, cut = string.format('%.0f', r.us), base .. '-*', t.ids, t.window > 0, ms - t.window
    local last
    for j = 1, #records, 4 do
      local id, new = records[j], true
      if window and id ~= '' and redis.call('ZADD', ids, 'NX', ms, id) == 0 then
        if tonumber(redis.call('ZSCORE', ids, id)) < cut then
          redis.call('ZADD', ids, ms, id)
        else
          new = not drop
        end
      end
      if new then
        last = redis.call('XADD', stream, auto, 't', stamp, 'id', id, 'key', records[j + 1], 'h', records[j + 2], 'data', records[j + 3])
        count = count + 1
      else
        dropped = dropped + 1
      end
    end
    if last and t.retention > 0 then
      local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
      -- A little late, so that not every call has something to trim.
      if (stored(first) or 0) < us - t.retention * 1050 then
        redis.call('XTRIM', stream, 'MINID', string.format('%s-%.0f', base, since(stream, base, us - t.retention * 1000)))
      end
    end
    if last and t.bytes > 0 and (#records >= 1024 or number(last) % 256 < #records / 4) then
      local size = redis.call('MEMORY', 'USAGE', stream)
      if size > t.bytes then
        redis.call('XTRIM', stream, 'MAXLEN', '~', math.max(1, math.floor(redis.call('XLEN', stream) * 0.95 * t.bytes / size)))
      end
    end
  end
end
for i = 1, topics do
  local t = topic[i]
  if t.window > 0 then
    local old = redis.call('ZCOUNT', t.ids, '-inf', '(' .. (ms - t.window))
    if old > 0 then
      redis.call('ZREMRANGEBYRANK', t.ids, 0, math.min(old, 1000 + 2 * (count + dropped)) - 1)
    end
  end
end
for i = 1, claims do
  local c = a + 5 * (i - 1)
  redis.call('HSET', KEYS[2 * topics + runs + i], 'p' .. ARGV[c + 1], ARGV[c + 5], 'x' .. ARGV[c + 1], ARGV[c + 4])
end
return {0, count, dropped}
