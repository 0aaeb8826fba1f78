-- Begins a session. Returns the time, the newest id, the era, the bytes of records, and of the last batch its number, first id,
-- repetitions or outcomes, and number of records.
-- KEYS: meta, the session. ARGV: session, its time to live in ms.

local meta, session = KEYS[1], KEYS[2]
local known = redis.call('HMGET', meta, 'last', 'era', 'rbytes')
local batch = redis.call('HMGET', session, 'b', 'f', 'x', 'r')
redis.call('HSET', session, 's', ARGV[1])
redis.call('PEXPIRE', session, ARGV[2])
return {
    text(time()), known[1] or '0', known[2] or '0', known[3] or '0',
    batch[1] or '', batch[2] or '', batch[3] or '', batch[4] or '0',
}
