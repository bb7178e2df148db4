-- Forgets a consumer group: where it was, what it held, what it gave up.
-- KEYS[1]   stoker:stream-dead:<name>:<group>  stream  records that were given up
-- KEYS[2]   stoker:stream-shard:<name>:0       hash    dead:<group>: bytes of them
-- KEYS[3..] stoker:stream:<name>:<shard>       stream
-- ARGV[1]   group
-- returns  dead letters that went; -1 when there was no such group
local known = false
for index = 3, #KEYS do
  if redis.call('EXISTS', KEYS[index]) == 1 then
    known = redis.call('XGROUP', 'DESTROY', KEYS[index], ARGV[1]) == 1 or known
  end
end
if not known then
  return -1
end
local dead = redis.call('XLEN', KEYS[1])
redis.call('DEL', KEYS[1])
redis.call('HDEL', KEYS[2], 'dead:' .. ARGV[1])
return dead
