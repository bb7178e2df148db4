-- Marks a claimed invocation as running and reads it.
-- KEYS[1]  stoker:invocation:<id>  hash  the invocation
-- returns  field, value, ...; empty when it is gone or finished (the claimer then drops the entry)
local state = redis.call('HGET', KEYS[1], 'state')
if not state or state == 'finished' then
  return {}
end
redis.call('HINCRBY', KEYS[1], 'attempts', 1)
redis.call('HSET', KEYS[1], 'state', 'running')
return redis.call('HGETALL', KEYS[1])
