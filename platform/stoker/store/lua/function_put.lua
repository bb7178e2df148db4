-- KEYS[1], KEYS[2]  see announce.lua
-- KEYS[3]           stoker:functions  hash  name -> FunctionRecord
-- ARGV[1]           name
-- ARGV[2]           FunctionRecord, JSON
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
announce('function', ARGV[1])
return 1
