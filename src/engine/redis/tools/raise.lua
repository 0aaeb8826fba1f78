-- Raises the format of the log, if all brokers can read the new one. Returns the format before, and the brokers that can't: the
-- number and the words of each, which are empty if it has told none.
-- KEYS: meta, the brokers, sessions. ARGV: the new format, whether to raise it nevertheless (1 or 0), how long brokers are known
-- in microseconds, the time to live in ms of a session whose broker lives; then the brokers of the sessions.

local meta, brokers = KEYS[1], KEYS[2]
local BEFORE_SESSIONS = 2
local BEFORE_NUMBERS = 4
local now = time()
local known = redis.call('HMGET', meta, 'last', 'layout', 'format')
if not known[1] then
    return redis.error_reply('NOLOG the log does not exist')
end
local format = format_of(known[2], known[3])
if format >= tonumber(ARGV[1]) then
    return {text(format)}
end

local told, registered, answer = redis.call('HGETALL', brokers), {}, {text(format)}
for i = 1, #told, 2 do
    local at, reads = string.match(told[i + 1], '^(%d+) (%d+)')
    if at and math.abs(now - tonumber(at)) <= tonumber(ARGV[3]) then
        registered[told[i]] = true
        if tonumber(reads) < tonumber(ARGV[1]) then
            answer[#answer + 1], answer[#answer + 2] = told[i], told[i + 1]
        end
    end
end
for i = 1, #KEYS - BEFORE_SESSIONS do
    local broker = ARGV[BEFORE_NUMBERS + i]
    local is_alive = redis.call('PTTL', KEYS[BEFORE_SESSIONS + i]) > tonumber(ARGV[4])
    if is_alive and not registered[broker] then
        answer[#answer + 1], answer[#answer + 2] = broker, ''
    end
end
if #answer == 1 or ARGV[2] == '1' then
    redis.call('HSET', meta, 'layout', ARGV[1], 'format', ARGV[1])
end
return answer
