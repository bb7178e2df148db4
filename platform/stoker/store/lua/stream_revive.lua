-- Takes a record out of the dead letters and puts it at the end of its shard, for its group alone.
-- KEYS[4]  stoker:stream-dead:<name>:<group>  stream  records that were given up
-- KEYS[5]  stoker:stream-shard:<name>:0       hash    dead:<group>: bytes of them
-- ARGV[6]  group
-- ARGV[7]  id of the dead letter
-- returns  see add; {0} when there is no such dead letter
local entry = redis.call('XRANGE', KEYS[4], ARGV[7], ARGV[7])[1]
if not entry then
  return {0}
end
local fields = fields_of(entry)
local added = add({{fields.d, fields.k, fields.i, ARGV[6], '1', fields.n}})
if added[1] > 0 then
  redis.call('XDEL', KEYS[4], ARGV[7])
  redis.call('HINCRBY', KEYS[5], 'dead:' .. ARGV[6], -#fields.d)
end
return added
