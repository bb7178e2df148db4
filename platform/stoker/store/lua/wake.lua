-- KEYS[1], KEYS[2]  see announce.lua
-- ARGV[1]           name of the function that is wanted
announce('wake', ARGV[1])
return 1
