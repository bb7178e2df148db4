-- KEYS[1], KEYS[2]  see announce.lua
-- KEYS[3]           stoker:replicas      set     ids
-- KEYS[4]           stoker:replica:<id>  string  ReplicaRecord
-- ARGV[1]           id
-- ARGV[2]           ReplicaRecord, JSON
-- ARGV[3]           time to live, seconds
redis.call('SADD', KEYS[3], ARGV[1])
redis.call('SET', KEYS[4], ARGV[2], 'EX', ARGV[3])
announce('replica', ARGV[1])
return 1
