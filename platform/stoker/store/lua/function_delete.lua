-- KEYS[1], KEYS[2]  see announce.lua
-- KEYS[3]           stoker:functions  hash  name -> FunctionRecord
-- ARGV[1]           name
if redis.call('HDEL', KEYS[3], ARGV[1]) == 0 then
  return 0
end
announce('function', ARGV[1])
return 1
