-- Appends an entry, all of it or nothing.
-- KEYS: the log, meta, the session. ARGV: session, batch, floor, number of events, blob, token, the longest age in
-- microseconds, the most bytes, prefix of own ids, their time to live in ms, the session's; then index and own id of events.

local log, meta, session = KEYS[1], KEYS[2], KEYS[3]
local batch, floor, events, blob, token = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
local own, own_ttl, session_ttl = ARGV[9], ARGV[10], ARGV[11]
local TRIMMED_BY_AN_APPEND = 4

if redis.call('HGET', session, 's') ~= ARGV[1] then
    return redis.error_reply('FENCED the session is not the newest of its broker')
end
local length = redis.call('XLEN', log)
local known = redis.call('HMGET', meta, 'last', 'bytes', 'entry')
local last, bytes = tonumber(known[1]), tonumber(known[2]) or 0
if length == 0 or not last then
    return redis.error_reply('NOLOG the log does not exist')
end

local now = time()
local first = math.max(now, last + 1, tonumber(floor) + 1)
local new, repeated, originals = {}, {}, {}

-- A script that fails is not undone by the engine.
local function undo(reply)
    for _, key in ipairs(new) do
        redis.call('PEXPIRE', key, 0)
    end
    return reply
end

for i = 12, #ARGV, 2 do
    local key = own .. ARGV[i + 1]
    local original = redis.pcall('SET', key, text(first + tonumber(ARGV[i])), 'NX', 'GET', 'PX', own_ttl)
    if type(original) == 'table' then
        return undo(original)
    elseif original then
        repeated[#repeated + 1] = ARGV[i]
        originals[#originals + 1] = ARGV[i] .. ':' .. original
    else
        new[#new + 1] = key
    end
end
local repetitions = table.concat(originals, ',')

-- Renewed before anything else, so that the client's last write is this one or later, which is what WAIT and WAITAOF wait for.
redis.call('PEXPIRE', session, session_ttl)
if #repeated == events then
    return {text(first), repetitions}
end

local entry = {'p', known[3] or '0', 'b', blob, 'n', text(events), 'w', token}
if #repeated > 0 then
    entry[9], entry[10] = 'x', table.concat(repeated, ',')
end
local added = redis.pcall('XADD', log, text(first) .. '-0', unpack(entry))
if type(added) == 'table' then
    return undo(added)
end
redis.call('HSET', session, 'b', batch, 'f', text(first), 'x', repetitions, 'r', '0')
local before, max_bytes = now - tonumber(ARGV[7]), tonumber(ARGV[8])
bytes = trim(log, length + 1, bytes + #blob, before, max_bytes, TRIMMED_BY_AN_APPEND)
redis.call('HSET', meta, 'last', text(first + events - 1), 'bytes', text(bytes), 'entry', text(first))
return {text(first), repetitions}
