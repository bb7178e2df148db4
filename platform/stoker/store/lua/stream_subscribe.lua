-- Makes a consumer group in those shards that lack it.
-- KEYS[..]  stoker:stream:<name>:<shard>  stream, shard 0 first
-- ARGV[1]  group
-- ARGV[2]  where to begin in a shard: 0 (the first record) or $ (after the last)
-- returns  shards in which it was made
local missing, known = {}, false
for _, key in ipairs(KEYS) do
  local has = false
  if redis.call('EXISTS', key) == 1 then
    for _, flat in ipairs(redis.call('XINFO', 'GROUPS', key)) do
      has = has or flat[2] == ARGV[1]
    end
  end
  known = known or has
  if not has then
    missing[#missing + 1] = key
  end
end
for _, key in ipairs(missing) do
  -- A shard that was added later than the group holds nothing that the group may pass over.
  redis.call('XGROUP', 'CREATE', key, ARGV[1], known and '0' or ARGV[2], 'MKSTREAM')
end
return #missing
