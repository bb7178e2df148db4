-- Notes which try of a record comes next; what is not pending any more stays so.
-- KEYS[1]  stoker:stream:<name>:<shard>  stream
-- ARGV[1]  group
-- ARGV[2]  its consumer
-- ARGV[3..]  id, try
for index = 3, #ARGV, 2 do
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[index], 'RETRYCOUNT', ARGV[index + 1],
    'JUSTID')
end
return 1
