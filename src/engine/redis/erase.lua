-- Erases the oldest versions of a name. If its newest version is among them, that is the last to go, and an entry says so. Returns
-- how many were removed, before which id to go on (empty if nothing is left), the entry's id (empty if there is none), and the
-- newest id.
-- KEYS: the log, meta, the session, the records, their index, the newest of each name, the records' copy. ARGV: session, floor,
-- token, the session's time to live in ms, the format that allows it, the most versions, the name, the id before which they are erased (empty for all).

local log, meta, session, records, index, newest, copy = unpack(KEYS)
local token, most, name = ARGV[3], tonumber(ARGV[6]), ARGV[7]

if redis.call('HGET', session, 's') ~= ARGV[1] then
    return redis.error_reply('FENCED the session is not the newest of its broker')
end
local known = redis.call('HMGET', meta, 'last', 'entry', 'layout', 'format', 'rbytes', 'removed')
local last, entry = tonumber(known[1]), known[2] or '0'
if redis.call('XLEN', log) == 0 or not last then
    return redis.error_reply('NOLOG the log does not exist')
end
local format = format_of(known[3], known[4])
if format < tonumber(ARGV[5]) then
    return redis.error_reply('OLDREMOVAL ' .. text(format))
end
-- A script that fails is not undone by the engine, so whatever can fail is tried before anything is written.
if #redis.call('XRANGE', log, '(' .. entry .. '-0', '+', 'COUNT', 1) > 0 then
    return redis.error_reply('NOTLAST the log has entries after the newest one')
end
redis.call('XLEN', records)
local newest_record = tonumber(redis.call('ZRANGE', newest, 0, 0, 'REV', 'WITHSCORES')[2]) or 0
local from, to = bounds(name)
local newest_version = redis.call('ZRANGE', index, to, from, 'BYLEX', 'REV', 'LIMIT', 0, 1)[1]
local newest_id = newest_version and id_in(newest_version) or 0
local before = tonumber(ARGV[8]) or newest_id + 1

-- Renewed before anything else, so that the client's last write is this one or later, which is what WAIT and WAITAOF wait for.
redis.call('PEXPIRE', session, ARGV[4])
local removed, bytes, said = 0, 0, ''
for _, version in ipairs(redis.call('ZRANGE', index, from, to, 'BYLEX', 'LIMIT', 0, most)) do
    local id = id_in(version)
    if id >= before or bytes >= REMOVED_BYTES then
        break
    end
    bytes = bytes + remove(records, copy, index, name, version)
    removed = removed + 1
    if id == newest_id then
        last = math.max(time(), last + 1, tonumber(ARGV[2]) + 1, newest_record + 1)
        said = text(last)
        redis.call('ZREM', newest, name)
        redis.call('XADD', log, said .. '-0', 'p', entry, 'c', 'erased', 'i', text(id), 'w', token)
        redis.call('HSET', meta, 'last', said, 'entry', said, 'erased', said)
        bytes = bytes + #name + NAME_COST
    end
end
if removed > 0 then
    local left = math.max(0, (tonumber(known[5]) or 0) - bytes)
    local all = text((tonumber(known[6]) or 0) + removed)
    redis.call('HSET', meta, 'rbytes', text(left), 'removed', all, 'erasures', all)
end
local oldest = redis.call('ZRANGE', index, from, to, 'BYLEX', 'LIMIT', 0, 1)[1]
local rest = oldest and id_in(oldest) < before and (ARGV[8] ~= '' and ARGV[8] or text(before)) or ''
return {text(removed), rest, said, text(last)}
