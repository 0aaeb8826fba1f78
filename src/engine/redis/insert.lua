-- Appends records as one entry, all of them or none. Returns the first one's id.
-- KEYS: the log, meta, the session, the records, their index, the newest of each name. ARGV: session, batch, floor, token, the
-- longest age in microseconds, the most bytes of the log, the session's time to live in ms, the format that allows records, the
-- most bytes of records, those that these take if their names are new, what a known name saves; then name and data of records.

local log, meta, session, records, index, newest = unpack(KEYS)
local FIRST, TRIMMED_BY_AN_INSERT = 12, 4
local count = (#ARGV - FIRST + 1) / 2

if redis.call('HGET', session, 's') ~= ARGV[1] then
    return redis.error_reply('FENCED the session is not the newest of its broker')
end
local length = redis.call('XLEN', log)
local known = redis.call('HMGET', meta, 'last', 'bytes', 'entry', 'layout', 'rbytes', 'format')
local last, bytes, entry = tonumber(known[1]), tonumber(known[2]) or 0, known[3] or '0'
if length == 0 or not last then
    return redis.error_reply('NOLOG the log does not exist')
end
local format, taken = format_of(known[4], known[6]), tonumber(known[5]) or 0
if format < tonumber(ARGV[8]) then
    return redis.error_reply('OLDFORMAT ' .. text(format))
end
if taken + tonumber(ARGV[10]) > tonumber(ARGV[9]) then
    return redis.error_reply('RECORDSFULL ' .. text(taken) .. ' ' .. ARGV[9])
end

-- A script that fails is not undone by the engine, so whatever can fail is tried before anything is written.
if #redis.call('XRANGE', log, '(' .. entry .. '-0', '+', 'COUNT', 1) > 0 then
    return redis.error_reply('NOTLAST the log has entries after the newest one')
end
redis.call('ZRANGE', index, 0, 0)
local newest_id = tonumber(redis.call('ZRANGE', newest, 0, 0, 'REV', 'WITHSCORES')[2]) or 0
local now = time()
local first = math.max(now, last + 1, tonumber(ARGV[3]) + 1, newest_id + 1)

-- The first command that writes, after which none is refused for lack of memory. It can't fail.
redis.call('PEXPIRE', session, ARGV[7])
taken = taken + tonumber(ARGV[10])
for i = 0, count - 1 do
    local id, name, data = text(first + i), ARGV[FIRST + 2 * i], ARGV[FIRST + 2 * i + 1]
    local added = redis.pcall('XADD', records, id .. '-0', 'e', name, 'd', data)
    -- Only the first can fail: if the key holds something else, or newer records that the other keys don't know.
    if type(added) == 'table' then
        return added
    end
    redis.call('ZADD', index, 0, version_of(name, id))
    if redis.call('ZADD', newest, id, name) == 0 then
        taken = taken - #name - tonumber(ARGV[11])
    end
end
redis.call('XADD', log, text(first) .. '-0', 'p', entry, 'r', text(count), 'w', ARGV[4])
redis.call('HSET', session, 'b', ARGV[2], 'f', text(first), 'x', '', 'r', text(count))
bytes = trim(log, length + 1, bytes + RECORDS_COST, now - tonumber(ARGV[5]), tonumber(ARGV[6]), TRIMMED_BY_AN_INSERT)
redis.call('HSET', meta, 'last', text(first + count - 1), 'bytes', text(bytes), 'entry', text(first), 'rbytes', text(taken))
return text(first)
