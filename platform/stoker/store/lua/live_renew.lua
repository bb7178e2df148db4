-- KEYS[*]  records with a time to live; those that are gone stay gone
-- ARGV[1]  time to live, seconds
for _, key in ipairs(KEYS) do
  redis.call('EXPIRE', key, ARGV[1])
end
return #KEYS
