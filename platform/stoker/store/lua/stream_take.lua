-- The next records for a group, and another while of the lease; arms the bell when there are none.
-- KEYS[1]  stoker:lease:stream:...             string  who reads the shard for the group
-- KEYS[2]  stoker:stream:<name>:<shard>        stream
-- KEYS[3]  stoker:stream-shard:<name>:<shard>  hash    last, bytes, armed
-- ARGV[1]  who asks
-- ARGV[2]  time to live of the lease, milliseconds
-- ARGV[3]  group
-- ARGV[4]  its consumer
-- ARGV[5]  most records
-- returns  {1, last, {{id, {field, value, ...}}, ...}}; {0}: the lease is another's;
--          {-1}: there is no such group
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {0}
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local last = tonumber(redis.call('HGET', KEYS[3], 'last') or 0)
while true do
  local reply = redis.pcall('XREADGROUP', 'GROUP', ARGV[3], ARGV[4], 'COUNT', ARGV[5],
    'STREAMS', KEYS[2], '>')
  if not reply then
    redis.call('HSET', KEYS[3], 'armed', '1')
    return {1, last, {}}
  end
  if reply.err then
    return {-1}
  end
  local mine = {}
  for _, entry in ipairs(reply[1][2]) do
    local fields = {}
    for index = 1, #entry[2], 2 do
      fields[entry[2][index]] = entry[2][index + 1]
    end
    if fields.g == '' or fields.g == ARGV[3] then
      mine[#mine + 1] = entry
      if fields.x ~= '1' then
        redis.call('XCLAIM', KEYS[2], ARGV[3], ARGV[4], 0, entry[1], 'RETRYCOUNT', fields.x,
          'JUSTID')
      end
    else
      -- It was replayed for another group.
      redis.call('XACK', KEYS[2], ARGV[3], entry[1])
    end
  end
  if #mine > 0 then
    return {1, last, mine}
  end
end
