-- Returns the newest id, the id of the newest entry as meta knows it and as the log has it, the newest record, the bytes of records,
-- and how many were ever removed.
-- KEYS: the log, meta, the records.

local log, meta, records = KEYS[1], KEYS[2], KEYS[3]
local known = redis.call('HMGET', meta, 'last', 'entry', 'rbytes', 'removed')
local entry = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
local record = redis.call('XREVRANGE', records, '+', '-', 'COUNT', 1)[1]
return {
    known[1] or '0', known[2] or '0', entry and text(id_of(entry)) or '0', record and text(id_of(record)) or '0',
    known[3] or '0', known[4] or '0',
}
