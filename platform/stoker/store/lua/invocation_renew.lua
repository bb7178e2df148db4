-- Resets the idle time of an entry, if it is still this consumer's.
-- KEYS[1]  stoker:invocations      stream  unfinished invocations
-- KEYS[2]  stoker:invocation:<id>  hash    the invocation
-- ARGV[1]  consumer group
-- ARGV[2]  consumer
local entry = redis.call('HGET', KEYS[2], 'entry')
if not entry or redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], entry, entry, 1)
if not pending[1] or pending[1][2] ~= ARGV[2] then
  return 0
end
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, entry, 'JUSTID')
return 1
