-- The next records for a group, and another while of the lease; arms the bell when there are none.
-- KEYS[1]  stoker:lease:stream:...             string  who reads the shard for the group
-- KEYS[2]  stoker:stream:<name>:<shard>        stream
-- KEYS[3]  stoker:stream-shard:<name>:<shard>  hash    last, bytes, armed, again:<group>
-- ARGV[1]  who asks
-- ARGV[2]  time to live of the lease, milliseconds
-- ARGV[3]  group
-- ARGV[4]  its consumer
-- ARGV[5]  most records
-- ARGV[6]  most bytes of their data, about: at most STEP records more
-- returns  {1, last, {{id, {field, value, ...}}, ...}}; {0}: the lease is another's;
--          {-1}: there is no such group
local STEP = 4  -- records read at once: how large they are is known only then
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {0}
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local kept = redis.call('HMGET', KEYS[3], 'last', 'again:' .. ARGV[3])
local last = tonumber(kept[1] or 0)
local before, until_ = string.match(kept[2] or '0 0', '(%d+) (%d+)')

-- Whether a record is a copy, from before the last rewind, of one that this brought again.
local function comes_again(id, fields)
  local original = tonumber(fields.o)
  if original <= tonumber(before) or tonumber(string.match(id, '^%d+')) > tonumber(until_) then
    return false
  end
  local at = string.format('%.0f-0', original)
  return #redis.call('XRANGE', KEYS[2], at, at) == 1
end

local mine, size = {}, 0
while #mine < tonumber(ARGV[5]) and size < tonumber(ARGV[6]) do
  local step = math.min(STEP, tonumber(ARGV[5]) - #mine)
  local reply = redis.pcall('XREADGROUP', 'GROUP', ARGV[3], ARGV[4], 'COUNT', step,
    'STREAMS', KEYS[2], '>')
  if not reply then
    if #mine == 0 then
      redis.call('HSET', KEYS[3], 'armed', '1')
    end
    break
  end
  if reply.err then
    return {-1}
  end
  for _, entry in ipairs(reply[1][2]) do
    local fields = {}
    for index = 1, #entry[2], 2 do
      fields[entry[2][index]] = entry[2][index + 1]
    end
    if fields.g == '' or (fields.g == ARGV[3] and not comes_again(entry[1], fields)) then
      mine[#mine + 1] = entry
      size = size + #fields.d
      if fields.x ~= '1' then
        redis.call('XCLAIM', KEYS[2], ARGV[3], ARGV[4], 0, entry[1], 'RETRYCOUNT', fields.x,
          'JUSTID')
      end
    else
      -- It was replayed for another group, or need not be read twice.
      redis.call('XACK', KEYS[2], ARGV[3], entry[1])
    end
  end
end
return {1, last, mine}
