-- What a group was given and has not acknowledged, with the number of the try.
-- KEYS[1]  stoker:stream:<name>:<shard>  stream
-- ARGV[1]  group
-- ARGV[2]  from which id
-- ARGV[3]  most records
-- returns  {{id, try, {field, value, ...}}, ...}; a record that retention has taken has no fields,
--          and is pending no more; {-1} when there is no such group
local held = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[2], '+', ARGV[3])
if held.err then
  return {-1}
end
local found = {}
for _, pending in ipairs(held) do
  local entry = redis.call('XRANGE', KEYS[1], pending[1], pending[1])[1]
  if entry then
    found[#found + 1] = {pending[1], pending[4], entry[2]}
  else
    redis.call('XACK', KEYS[1], ARGV[1], pending[1])
    found[#found + 1] = {pending[1], pending[4], {}}
  end
end
return found
