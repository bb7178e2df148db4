-- The records of an index that have not expired; expired names leave the index in the same step,
-- because a name removed after a renewed write would hide a live record.
-- KEYS[1]  the index, set of names
-- ARGV[1]  prefix of the records' keys
-- returns  name, record, name, record, ...
local found = {}
for _, name in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local record = redis.call('GET', ARGV[1] .. name)
  if record then
    found[#found + 1] = name
    found[#found + 1] = record
  else
    redis.call('SREM', KEYS[1], name)
  end
end
return found
