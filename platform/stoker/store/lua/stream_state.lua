-- How one shard stands.
-- KEYS[1]  stoker:stream:<name>:<shard>        stream
-- KEYS[2]  stoker:stream-shard:<name>:<shard>  hash    last, bytes
-- returns  {last, bytes, records, first, {{name, pending, last delivered}, ...}}
local counted = redis.call('HMGET', KEYS[2], 'last', 'bytes')
local groups, first = {}, 0
if redis.call('EXISTS', KEYS[1]) == 1 then
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local group = {}
    for index = 1, #flat, 2 do
      group[flat[index]] = flat[index + 1]
    end
    groups[#groups + 1] = {group['name'], group['pending'],
      tonumber(string.match(group['last-delivered-id'], '^%d+'))}
  end
  local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  first = oldest and tonumber(string.match(oldest[1], '^%d+')) or 0
end
return {tonumber(counted[1] or 0), tonumber(counted[2] or 0), redis.call('XLEN', KEYS[1]), first,
  groups}
