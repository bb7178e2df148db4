-- Moves a record to the dead letters, once.
-- KEYS[1]  stoker:stream:<name>:<shard>       stream
-- KEYS[2]  stoker:stream-dead:<name>:<group>  stream  records that were given up
-- ARGV[1]  group
-- ARGV[2]  id
-- ARGV[3]  most dead letters
-- ARGV[4..]  field, value, ... of the dead letter
-- returns  1, or 0 when the record was not pending any more
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then
  return 0
end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', unpack(ARGV, 4))
return 1
