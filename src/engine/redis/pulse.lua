-- Renews a session. Returns the time, the newest id, the era and the bytes of records.
-- KEYS: meta, the session. ARGV: session, its time to live in ms.

local meta, session = KEYS[1], KEYS[2]
if redis.call('HGET', session, 's') ~= ARGV[1] then
    return redis.error_reply('FENCED the session is not the newest of its broker')
end
redis.call('PEXPIRE', session, ARGV[2])
local known = redis.call('HMGET', meta, 'last', 'era', 'rbytes')
return {text(time()), known[1] or '0', known[2] or '0', known[3] or '0'}
