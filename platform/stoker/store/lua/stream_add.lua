-- What every script that adds records begins with.
-- KEYS[1]  stoker:streams                      hash    name -> JSON
-- KEYS[2]  stoker:stream:<name>:<shard>        stream  records <sequence>-0
-- KEYS[3]  stoker:stream-shard:<name>:<shard>  hash    last, bytes, armed
-- ARGV[1]  name
-- ARGV[2]  shard
-- ARGV[3]  most records of a shard
-- ARGV[4]  most bytes of a shard
-- ARGV[5]  channel of the bells
local TRIM = 16     -- records looked at in one step of trimming: they are read to be counted
local EXPIRE = 512  -- expired records dropped by one put: the rest by the next ones

local function sequence_of(id)
  return tonumber(string.match(id, '^%d+'))
end

local function id_of(sequence)
  return string.format('%.0f-0', sequence)
end

local function now_us()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function fields_of(entry)
  local fields = {}
  for index = 1, #entry[2], 2 do
    fields[entry[2][index]] = entry[2][index + 1]
  end
  return fields
end

-- The first sequence number that some group has not done with; nil when there is no group.
local function first_wanted(key)
  local lowest = nil
  if redis.call('EXISTS', key) == 0 then
    return nil
  end
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', key)) do
    local group = {}
    for index = 1, #flat, 2 do
      group[flat[index]] = flat[index + 1]
    end
    local first = sequence_of(group['last-delivered-id']) + 1
    if group['pending'] > 0 then
      first = math.min(first, sequence_of(redis.call('XPENDING', key, group['name'])[2]))
    end
    lowest = math.min(lowest or first, first)
  end
  return lowest
end

-- Drops the oldest records for as long as `goes` says so; bytes that went.
local function drop_while(key, most, goes)
  local freed, dropped = 0, 0
  while dropped < most do
    local oldest = redis.call('XRANGE', key, '-', '+', 'COUNT', TRIM)
    local kept = nil
    for _, entry in ipairs(oldest) do
      if not goes(entry) then
        kept = entry[1]
        break
      end
      freed = freed + #fields_of(entry).d
      dropped = dropped + 1
    end
    if #oldest > 0 and kept ~= oldest[1][1] then
      local first = kept or id_of(sequence_of(oldest[#oldest][1]) + 1)
      redis.call('XTRIM', key, 'MINID', first)
    end
    if kept or #oldest == 0 then
      break
    end
  end
  return freed
end

-- Adds {data, key, info, group, try, original} records; first sequence number, or {-1}: no such
-- stream, {-2, shards}: no such shard, {-3}: full. A record that moves is there already: it needs
-- no room, or a full shard could not let go of those that fill it.
local function add(records, moves)
  local text = redis.call('HGET', KEYS[1], ARGV[1])
  if not text then
    return {-1}
  end
  local spec = cjson.decode(text)
  if tonumber(ARGV[2]) >= spec.shards then
    return {-2, spec.shards}
  end
  local key, now = KEYS[2], now_us()
  local counted = redis.call('HMGET', KEYS[3], 'last', 'bytes', 'armed')
  local last, bytes = tonumber(counted[1] or 0), tonumber(counted[2] or 0)
  local expired = now - spec.retention_hours * 3600 * 1000000
  bytes = bytes - drop_while(key, EXPIRE, function(entry)
    return tonumber(fields_of(entry).t) < expired
  end)
  local size = 0
  for _, record in ipairs(records) do
    size = size + #record[1]
  end
  local length = redis.call('XLEN', key)
  local full = length + #records > tonumber(ARGV[3]) or bytes + size > tonumber(ARGV[4])
  if full and length > 0 then
    local wanted = first_wanted(key)
    local least_bytes, most_length = bytes + size - tonumber(ARGV[4]), tonumber(ARGV[3]) - #records
    local freed, gone = 0, 0
    freed = drop_while(key, length, function(entry)
      if wanted and sequence_of(entry[1]) >= wanted then
        return false
      end
      if freed >= least_bytes and length - gone <= most_length then
        return false
      end
      freed, gone = freed + #fields_of(entry).d, gone + 1
      return true
    end)
    bytes, length = bytes - freed, redis.call('XLEN', key)
    if not moves and length > 0 and (length > most_length or bytes + size > tonumber(ARGV[4])) then
      redis.call('HSET', KEYS[3], 'bytes', string.format('%.0f', bytes))
      return {-3}
    end
  end
  local first = last + 1
  for _, record in ipairs(records) do
    last = last + 1
    redis.call('XADD', key, id_of(last), 't', string.format('%.0f', now), 'd', record[1],
      'k', record[2], 'i', record[3], 'g', record[4], 'x', record[5] or '1', 'o', record[6] or '0')
  end
  redis.call('HSET', KEYS[3], 'last', string.format('%.0f', last),
    'bytes', string.format('%.0f', bytes + size))
  if counted[3] then
    redis.call('HDEL', KEYS[3], 'armed')
    redis.call('PUBLISH', ARGV[5], ARGV[2] .. ' ' .. ARGV[1])
  end
  return {first}
end
