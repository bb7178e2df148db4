-- Announces also what was gone already: a record that expired was never announced as gone.
-- KEYS[1], KEYS[2]  see announce.lua
-- KEYS[3]           stoker:replicas      set     ids
-- KEYS[4]           stoker:replica:<id>  string  ReplicaRecord
-- ARGV[1]           id
redis.call('SREM', KEYS[3], ARGV[1])
redis.call('DEL', KEYS[4])
announce('replica', ARGV[1])
return 1
