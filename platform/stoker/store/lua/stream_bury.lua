-- Moves a record to the dead letters, once.
-- KEYS[1]  stoker:stream:<name>:<shard>       stream
-- KEYS[2]  stoker:stream-dead:<name>:<group>  stream  records that were given up
-- KEYS[3]  stoker:stream-shard:<name>:0       hash    dead:<group>: bytes of them
-- ARGV[1]  group
-- ARGV[2]  id
-- ARGV[3]  most dead letters
-- ARGV[4]  most bytes of their data; the newest stays, however large it is
-- ARGV[5..]  field, value, ... of the dead letter
-- returns  1, or 0 when the record was not pending any more
local function size_of(fields)
  for index = 1, #fields, 2 do
    if fields[index] == 'd' then
      return #fields[index + 1]
    end
  end
end

if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then
  return 0
end
local counter = 'dead:' .. ARGV[1]
local fields = {unpack(ARGV, 5)}
redis.call('XADD', KEYS[2], '*', unpack(fields))
local bytes = tonumber(redis.call('HGET', KEYS[3], counter) or 0) + size_of(fields)
local count = redis.call('XLEN', KEYS[2])
while count > 1 and (count > tonumber(ARGV[3]) or bytes > tonumber(ARGV[4])) do
  local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
  redis.call('XDEL', KEYS[2], oldest[1])
  bytes, count = bytes - size_of(oldest[2]), count - 1
end
if count == 1 then
  bytes = size_of(fields)  -- whatever was counted before
end
redis.call('HSET', KEYS[3], counter, string.format('%.0f', bytes))
return 1
