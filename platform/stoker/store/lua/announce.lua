-- Put in front of every script that announces.
-- KEYS[1]  stoker:sequence   string   counted up by one for each announcement
-- KEYS[2]  stoker:events     channel  "<sequence> <topic> <name>"
-- Write, count and publish happen in one step: a watcher that saw n and then n+2 knows it missed one.
local function announce(topic, name)
  local sequence = redis.call('INCR', KEYS[1])
  redis.call('PUBLISH', KEYS[2], sequence .. ' ' .. topic .. ' ' .. name)
end
