-- The first record that arrived at or after a time.
-- KEYS[1]  stoker:stream:<name>:<shard>        stream
-- KEYS[2]  stoker:stream-shard:<name>:<shard>  hash    last
-- ARGV[1]  time, epoch microseconds
-- returns  its sequence number; the last one plus 1 when there is none
local last = tonumber(redis.call('HGET', KEYS[2], 'last') or 0)
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if not oldest then
  return last + 1
end
local low, high = tonumber(string.match(oldest[1], '^%d+')), last + 1
while low < high do
  local middle = math.floor((low + high) / 2)
  local id = string.format('%.0f-0', middle)
  local entry = redis.call('XRANGE', KEYS[1], id, '+', 'COUNT', 1)[1]
  if entry and tonumber(entry[2][2]) < tonumber(ARGV[1]) then
    low = middle + 1
  else
    high = middle
  end
end
return low
