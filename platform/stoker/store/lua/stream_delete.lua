-- Forgets a stream, unless it changed since its keys were listed.
-- KEYS[1]  stoker:streams  hash  name -> JSON
-- KEYS[2..]  every other key of the stream
-- ARGV[1]  name
-- ARGV[2]  JSON as it was read
-- returns  1, or 0 when it changed
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end
redis.call('HDEL', KEYS[1], ARGV[1])
for index = 2, #KEYS do
  redis.call('DEL', KEYS[index])
end
return 1
