-- Tells the other brokers of this one. Returns what each broker has told lately: its number, and the time and its words.
-- KEYS: the session, the brokers. ARGV: session, broker, its words, how long brokers are known in microseconds and in ms.

local session, brokers = KEYS[1], KEYS[2]
if redis.call('HGET', session, 's') ~= ARGV[1] then
    return redis.error_reply('FENCED the session is not the newest of its broker')
end
local now = time()
redis.call('HSET', brokers, ARGV[2], text(now) .. ' ' .. ARGV[3])
redis.call('PEXPIRE', brokers, ARGV[5])
local told, lately = redis.call('HGETALL', brokers), {}
for i = 1, #told, 2 do
    local at = tonumber(string.match(told[i + 1], '^%d+'))
    -- A replica that takes over may have a clock that is behind.
    if not at or math.abs(now - at) > tonumber(ARGV[4]) then
        redis.call('HDEL', brokers, told[i])
    else
        lately[#lately + 1], lately[#lately + 2] = told[i], told[i + 1]
    end
end
return lately
