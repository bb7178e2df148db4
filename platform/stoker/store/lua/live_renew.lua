-- KEYS[*]  records with a time to live; those that are gone stay gone
-- ARGV[1]  time to live, seconds
-- returns  the positions, from 1, of those that are gone
local gone = {}
for position, key in ipairs(KEYS) do
  if redis.call('EXPIRE', key, ARGV[1]) == 0 then
    gone[#gone + 1] = position
  end
end
return gone
