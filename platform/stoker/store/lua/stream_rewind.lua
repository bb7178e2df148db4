-- Makes a group read a shard again from a record on.
-- KEYS[1]  stoker:stream:<name>:<shard>        stream
-- KEYS[2]  stoker:stream-shard:<name>:<shard>  hash    last, armed, again:<group>
-- ARGV[1]  group
-- ARGV[2]  sequence number before the first that is read again
-- ARGV[3]  channel of the bells
-- ARGV[4]  shard
-- ARGV[5]  name
-- returns  1, or 0 when there is no such group
local done = redis.pcall('XGROUP', 'SETID', KEYS[1], ARGV[1], ARGV[2] .. '-0')
if type(done) == 'table' and done.err then
  return 0
end
redis.call('HDEL', KEYS[2], 'armed')
-- What was put once more for the group until now is passed over where its original comes again.
redis.call('HSET', KEYS[2], 'again:' .. ARGV[1],
  ARGV[2] .. ' ' .. (redis.call('HGET', KEYS[2], 'last') or '0'))
redis.call('PUBLISH', ARGV[3], ARGV[4] .. ' ' .. ARGV[5])
return 1
