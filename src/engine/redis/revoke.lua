-- Stores revocations of tokens, each with a time that is larger than those before. Too many are removed, the oldest first; each
-- entry says the time of the newest that was. Returns the time of the first.
-- KEYS: the session, the revocations. ARGV: session, the most that are kept, the revocations.

local session, revocations, max = KEYS[1], KEYS[2], tonumber(ARGV[2])
if redis.call('HGET', session, 's') ~= ARGV[1] then
    return redis.error_reply('FENCED the session is not the newest of its broker')
end
local first, removed = time(), '0'
local newest = redis.call('XREVRANGE', revocations, '+', '-', 'COUNT', 1)[1]
if newest then
    first = math.max(first, id_of(newest) + 1)
    removed = field(newest, 'c') or '0'
end
local surplus = redis.call('XLEN', revocations) + #ARGV - 2 - max
if surplus > 0 then
    local oldest = redis.call('XRANGE', revocations, '-', '+', 'COUNT', surplus)
    removed = text(id_of(oldest[#oldest]))
end
for i = 3, #ARGV do
    redis.call('XADD', revocations, text(first + i - 3) .. '-0', 't', ARGV[i], 'c', removed)
end
redis.call('XTRIM', revocations, 'MAXLEN', '=', max)
return text(first)
