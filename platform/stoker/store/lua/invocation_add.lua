-- One key makes one invocation, whatever number of callers race.
-- KEYS[1]  stoker:invocations                    stream  unfinished invocations
-- KEYS[2]  stoker:invocation:<id>                hash    the invocation
-- KEYS[3]  stoker:idempotency:<function>:<key>   string  id (only with an Idempotency-Key)
-- ARGV[1]  id
-- ARGV[2]  function
-- ARGV[3]  request, JSON
-- ARGV[4]  body
-- ARGV[5]  now, epoch seconds
-- ARGV[6]  time to live of the idempotency key, seconds
-- ARGV[7]  most unfinished invocations
-- returns  the id that counts; "" when there are too many already
if KEYS[3] then
  local earlier = redis.call('GET', KEYS[3])
  if earlier then
    return earlier
  end
end
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[7]) then
  return ''
end
local entry = redis.call('XADD', KEYS[1], '*', 'id', ARGV[1])
redis.call('HSET', KEYS[2], 'id', ARGV[1], 'function', ARGV[2], 'request', ARGV[3],
  'body', ARGV[4], 'created_at', ARGV[5], 'attempts', 0, 'state', 'queued', 'entry', entry)
if KEYS[3] then
  redis.call('SET', KEYS[3], ARGV[1], 'EX', ARGV[6])
end
return ARGV[1]
