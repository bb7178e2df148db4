-- Gives back one's own lease; another's is left alone.
-- KEYS[1]  stoker:lease:<name>  string  the owner
-- ARGV[1]  owner
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
