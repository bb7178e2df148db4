-- Takes free leases, or renews one's own.
-- KEYS[..]  stoker:lease:<name>  string  the owner
-- ARGV[1]  time to live, milliseconds
-- ARGV[2..]  owner of each
-- returns  1 or 0 for each
local held = {}
for index, key in ipairs(KEYS) do
  local owner = ARGV[index + 1]
  local holder = redis.call('GET', key)
  if holder and holder ~= owner then
    held[index] = 0
  else
    redis.call('SET', key, owner, 'PX', ARGV[1])
    held[index] = 1
  end
end
return held
