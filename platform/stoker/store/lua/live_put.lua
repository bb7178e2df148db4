-- KEYS[1]  the index, set of names
-- KEYS[2]  the record, string
-- ARGV[1]  name
-- ARGV[2]  record, JSON
-- ARGV[3]  time to live, seconds
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3])
return 1
