-- Makes the consumer group once; after an empty restart of Redis it has to be made again.
-- KEYS[1]  stoker:invocations  stream  unfinished invocations
-- ARGV[1]  consumer group
if redis.call('EXISTS', KEYS[1]) == 1 then
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    if group[2] == ARGV[1] then
      return 0
    end
  end
end
redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
return 1
