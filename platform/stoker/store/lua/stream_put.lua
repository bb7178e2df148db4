-- Puts records into one shard.
-- ARGV[6..]  data, key, info, group of each record
-- returns  see add
local records = {}
for index = 6, #ARGV, 4 do
  records[#records + 1] = {ARGV[index], ARGV[index + 1], ARGV[index + 2], ARGV[index + 3]}
end
return add(records)
