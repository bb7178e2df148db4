-- Of two creators of one name exactly one gets 1, the other 0.
-- KEYS[1], KEYS[2]  see announce.lua
-- KEYS[3]           stoker:functions  hash  name -> FunctionRecord
-- ARGV[1]           name
-- ARGV[2]           FunctionRecord, JSON
if redis.call('HSETNX', KEYS[3], ARGV[1], ARGV[2]) == 0 then
  return 0
end
announce('function', ARGV[1])
return 1
