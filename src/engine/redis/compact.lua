-- Copies some records to a new stream, which replaces the old one when all are copied. The server keeps the text of records that were
-- removed from a stream until all of those are removed that it keeps together with them; it is in its files as well. Begins when
-- more were removed since the last time than are left, or when some were erased. Returns what is left to do: nothing, more, or
-- memory if there is too little of it.
-- KEYS: meta, the session, the records, the copy. ARGV: session, the most records, their most bytes, how many removed records are
-- worth it at least.

local meta, session, records, copy = unpack(KEYS)
local most, max_bytes = tonumber(ARGV[2]), tonumber(ARGV[3])

if redis.call('HGET', session, 's') ~= ARGV[1] then
    return redis.error_reply('FENCED the session is not the newest of its broker')
end
local known = redis.call('HMGET', meta, 'copied', 'removed', 'compacted', 'erasures', 'rbytes')
local copied, removed, compacted = known[1], tonumber(known[2]) or 0, tonumber(known[3]) or 0

-- Returns whether the memory suffices for a copy of all records.
local function has_room()
    local info = redis.call('INFO', 'memory')
    local used = tonumber(string.match(info, 'used_memory:(%d+)')) or 0
    local limit = tonumber(string.match(info, 'maxmemory:(%d+)')) or 0
    return limit == 0 or used + (tonumber(known[5]) or 0) < limit
end

if not copied then
    local is_erased = (tonumber(known[4]) or 0) > compacted
    local is_worth_it = removed - compacted > math.max(tonumber(ARGV[4]), redis.call('XLEN', records))
    if not (is_erased or is_worth_it) then
        return 'nothing'
    elseif not has_room() then
        return 'memory'
    end
    copied = '0'
    redis.call('UNLINK', copy)
    -- What is removed from now on may be in the copy.
    redis.call('HSET', meta, 'copied', copied, 'compacted', text(removed))
end

local count, bytes, is_done = 0, 0, false
while count < most and bytes < max_bytes and not is_done do
    local record = redis.call('XRANGE', records, '(' .. copied .. '-0', '+', 'COUNT', 1)[1]
    is_done = not record
    if record then
        redis.call('XADD', copy, record[1], unpack(record[2]))
        copied, count = string.match(record[1], '^%d+'), count + 1
        bytes = bytes + #(field(record, 'd') or '')
    end
end
if not is_done then
    redis.call('HSET', meta, 'copied', copied)
    return 'more'
end
redis.call('UNLINK', records)
if redis.call('XLEN', copy) > 0 then
    redis.call('RENAME', copy, records)
else
    redis.call('UNLINK', copy)
end
redis.call('HDEL', meta, 'copied')
return 'more'
