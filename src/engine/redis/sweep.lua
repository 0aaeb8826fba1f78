-- Removes versions that are not retained, of the names that follow those of the last sweep: names are in the order of their newest
-- versions. Returns how many were removed, and whether that is as much as it may (1 or 0).
-- KEYS: meta, the session, the records, their index, the newest of each name, the records' copy. ARGV: session, the most versions of a name (0 for
-- all), their longest age in microseconds (empty for any), the format that allows it, the most names, the most versions to remove.

local meta, session, records, index, newest, copy = unpack(KEYS)
local most, age, names, limit = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[5]), tonumber(ARGV[6])

if redis.call('HGET', session, 's') ~= ARGV[1] then
    return redis.error_reply('FENCED the session is not the newest of its broker')
end
local known = redis.call('HMGET', meta, 'layout', 'format', 'rbytes', 'removed', 'swept', 'sweepend')
local format = format_of(known[1], known[2])
if format < tonumber(ARGV[4]) then
    return redis.error_reply('OLDREMOVAL ' .. text(format))
end
redis.call('XLEN', records)
local before, swept, last = age and time() - age or 0, known[5] or '0', known[6] or '0'
if swept == '0' then
    -- Names that get newer versions meanwhile come in the next round. Otherwise, under load, a round would never end.
    last = text(tonumber(redis.call('ZRANGE', newest, 0, 0, 'REV', 'WITHSCORES')[2] or 0))
end
local found = redis.call('ZRANGE', newest, '(' .. swept, last, 'BYSCORE', 'LIMIT', 0, names, 'WITHSCORES')
local removed, bytes, is_full = 0, 0, false
for i = 1, #found, 2 do
    local count, freed = prune(records, copy, index, found[i], most, before, limit - removed)
    removed, bytes = removed + count, bytes + freed
    is_full = removed >= limit or bytes >= REMOVED_BYTES
    if is_full then
        -- The name may have more of them.
        break
    end
    swept = text(tonumber(found[i + 1]))
end
if not is_full and #found < 2 * names then
    swept = '0'
end
if swept ~= (known[5] or '0') then
    redis.call('HSET', meta, 'swept', swept, 'sweepend', last)
end
if removed > 0 then
    local left = math.max(0, (tonumber(known[3]) or 0) - bytes)
    redis.call('HSET', meta, 'rbytes', text(left), 'removed', text((tonumber(known[4]) or 0) + removed))
end
return {text(removed), is_full and '1' or '0'}
