-- Makes a stream, once.
-- KEYS[1]  stoker:streams  hash  name -> JSON
-- ARGV[1]  name
-- ARGV[2]  JSON: shards, retention_hours, created_at
-- returns  1, or 0 when it is there
return redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
