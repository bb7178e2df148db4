-- What a group was given and has not acknowledged, with the number of the try.
-- KEYS[1]  stoker:stream:<name>:<shard>  stream
-- ARGV[1]  group
-- ARGV[2]  from which id
-- ARGV[3]  most records
-- ARGV[4]  most bytes of their data, about: the record that exceeds them is the last
-- returns  {1 if there may be more behind them, else 0, {{id, try, {field, value, ...}}, ...}};
--          a record that retention has taken has no fields, and is pending no more;
--          {-1} when there is no such group
local held = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[2], '+', ARGV[3])
if held.err then
  return {-1}
end
local found, size = {}, 0
for _, pending in ipairs(held) do
  local entry = redis.call('XRANGE', KEYS[1], pending[1], pending[1])[1]
  if entry then
    found[#found + 1] = {pending[1], pending[4], entry[2]}
    for index = 1, #entry[2], 2 do
      if entry[2][index] == 'd' then
        size = size + #entry[2][index + 1]
      end
    end
  else
    redis.call('XACK', KEYS[1], ARGV[1], pending[1])
    found[#found + 1] = {pending[1], pending[4], {}}
  end
  if size >= tonumber(ARGV[4]) then
    break
  end
end
return {(#found < #held or #held == tonumber(ARGV[3])) and 1 or 0, found}
