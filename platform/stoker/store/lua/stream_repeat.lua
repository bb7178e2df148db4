-- Puts one record once more at the end of its shard, for one group alone.
-- ARGV[6]  group
-- ARGV[7]  sequence number of the record
-- returns  see add; {0} when there is no such record
local id = id_of(tonumber(ARGV[7]))
local entry = redis.call('XRANGE', KEYS[2], id, id)[1]
if not entry then
  return {0}
end
local fields = fields_of(entry)
local original = fields.o ~= '0' and fields.o or string.format('%.0f', tonumber(ARGV[7]))
return add({{fields.d, fields.k, fields.i, ARGV[6], '1', original}})
