-- Takes a free lease, or renews one's own.
-- KEYS[1]  stoker:lease:<name>  string  the owner
-- ARGV[1]  owner
-- ARGV[2]  time to live, milliseconds
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
