-- Writes only over what the writer had read; 0 means: read again and try again.
-- KEYS[1], KEYS[2]  see announce.lua
-- KEYS[3]           stoker:functions  hash  name -> FunctionRecord
-- ARGV[1]           name
-- ARGV[2]           FunctionRecord as it was read, byte for byte
-- ARGV[3]           FunctionRecord to write
if redis.call('HGET', KEYS[3], ARGV[1]) ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[3], ARGV[1], ARGV[3])
announce('function', ARGV[1])
return 1
