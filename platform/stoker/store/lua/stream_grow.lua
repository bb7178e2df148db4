-- Gives a stream more shards.
-- KEYS[1]  stoker:streams  hash  name -> JSON
-- ARGV[1]  name
-- ARGV[2]  shards, never fewer than now
-- returns  the shards that it has now; 0 when there is no such stream
local text = redis.call('HGET', KEYS[1], ARGV[1])
if not text then
  return 0
end
local spec = cjson.decode(text)
if tonumber(ARGV[2]) > spec.shards then
  spec.shards = tonumber(ARGV[2])
  redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(spec))
end
return spec.shards
