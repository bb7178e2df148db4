-- Moves a record that a group holds to the end of its shard, for that group alone.
-- ARGV[6]  group
-- ARGV[7]  id
-- ARGV[8]  number of its next try
-- ARGV[9]  the sequence number that it had at first
-- returns  see add; {0} when the group does not hold it any more
local held = redis.call('XPENDING', KEYS[2], ARGV[6], ARGV[7], ARGV[7], 1)
local entry = redis.call('XRANGE', KEYS[2], ARGV[7], ARGV[7])[1]
if #held == 0 then
  return {0}
end
if not entry then
  redis.call('XACK', KEYS[2], ARGV[6], ARGV[7])  -- it grew too old: nobody can have it any more
  return {0}
end
local fields = fields_of(entry)
local added = add({{fields.d, fields.k, fields.i, ARGV[6], ARGV[8], ARGV[9]}}, true)
if added[1] > 0 then
  redis.call('XACK', KEYS[2], ARGV[6], ARGV[7])
end
return added
