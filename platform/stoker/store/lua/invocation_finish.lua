-- The first reply counts; a second run's reply is dropped.
-- KEYS[1]  stoker:invocations      stream  unfinished invocations
-- KEYS[2]  stoker:invocation:<id>  hash    the invocation
-- ARGV[1]  consumer group
-- ARGV[2]  HTTP status
-- ARGV[3]  headers, JSON
-- ARGV[4]  body of the reply
-- ARGV[5]  now, epoch seconds
-- ARGV[6]  time to live, seconds
local known = redis.call('HMGET', KEYS[2], 'state', 'entry')
if not known[1] or known[1] == 'finished' then
  return 0
end
redis.call('HSET', KEYS[2], 'state', 'finished', 'status', ARGV[2], 'headers', ARGV[3],
  'reply', ARGV[4], 'finished_at', ARGV[5])
redis.call('HDEL', KEYS[2], 'body')
redis.call('EXPIRE', KEYS[2], ARGV[6])
redis.call('XACK', KEYS[1], ARGV[1], known[2])
redis.call('XDEL', KEYS[1], known[2])
return 1
