-- One entry that its consumer left alone for too long, now this consumer's.
-- KEYS[1]  stoker:invocations  stream  unfinished invocations
-- ARGV[1]  consumer group
-- ARGV[2]  consumer that takes over
-- ARGV[3]  idle for at least, milliseconds
-- returns  {entry, {field, value, ...}}; empty when there is none
local reply = redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], '0-0', 'COUNT', 1)
local entry = reply[2][1]
if entry and entry[2] then
  return entry
end
return {}
