-- Finds out whether the log still has the entries that a broker knows, and says so in the log if it has not. Creates the log.
-- Returns the time, the newest id, the era, the bytes of records, where to go on: next, oldest or loss, and an id, the format, the
-- id of the newest erasure, and whether the log has the entry read last (1 or 0).
-- KEYS: the log, meta, the newest record of each name. ARGV: id and token of the entry read last, of the one appended last
-- (empty if there is none), the floor, a token for a new entry, the format of a log that has none, the newest id that the broker
-- has applied.

local log, meta, records = KEYS[1], KEYS[2], KEYS[3]
local known = redis.call('HMGET', meta, 'last', 'era', 'lost', 'layout', 'rbytes', 'format', 'erased')
local last, era, lost = tonumber(known[1]) or 0, tonumber(known[2]) or 0, tonumber(known[3]) or 0
local length = redis.call('XLEN', log)
local oldest_entry = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
local oldest = oldest_entry and id_of(oldest_entry)
local now = time()

-- Appends an entry that says that the log was created or has lost entries. Returns its id.
local function say(what)
    local newest_entry = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
    local newest = newest_entry and id_of(newest_entry) or 0
    local events = newest_entry and tonumber(field(newest_entry, 'n') or field(newest_entry, 'r')) or 1
    local record = tonumber(redis.call('ZRANGE', records, 0, 0, 'REV', 'WITHSCORES')[2]) or 0
    local id = math.max(now, last + 1, tonumber(ARGV[5]) + 1, newest + events, record + 1)
    redis.call('XADD', log, text(id) .. '-0', 'p', text(newest), 'c', what, 'w', ARGV[6])
    redis.call('HSET', meta, 'last', text(id), 'era', text(era), 'entry', text(id))
    if not known[1] then
        -- Nothing before the new entry is retained, and nobody knows how many bytes that is.
        redis.call('XTRIM', log, 'MAXLEN', '=', '1')
    end
    if not known[1] or length == 0 then
        redis.call('HSET', meta, 'bytes', '0')
    end
    last = id
    return id
end

-- Returns the id of a mark if the log should have its entry and has not.
local function missing(id, token)
    if id == '' or (oldest and tonumber(id) < oldest) then
        return nil
    end
    local entry = oldest and redis.call('XRANGE', log, id .. '-0', id .. '-0')[1]
    if entry and field(entry, 'w') == token then
        return nil
    end
    return tonumber(id)
end

local function from()
    if not oldest and ARGV[1] == '' and ARGV[3] == '' then
        say('created')
        return 'next', 0
    end
    local gone = math.max(missing(ARGV[1], ARGV[2]) or 0, missing(ARGV[3], ARGV[4]) or 0)
    if oldest and ARGV[1] ~= '' and tonumber(ARGV[1]) < oldest and tonumber(ARGV[8]) >= oldest then
        -- Of an entry with several ids, the log has another one among them.
        gone = math.max(gone, tonumber(ARGV[1]))
    end
    -- Without meta, nobody knows how far the log went.
    local untold = math.max(gone, tonumber(ARGV[8])) >= lost or not oldest
    if (gone > 0 and untold) or not known[1] then
        era = era + 1
        lost = say('lost')
        redis.call('HSET', meta, 'lost', text(lost))
    end
    if gone > 0 then
        return 'loss', lost
    elseif ARGV[1] ~= '' and tonumber(ARGV[1]) < oldest and field(oldest_entry, 'p') ~= ARGV[1] then
        return 'oldest', oldest
    end
    return 'next', 0
end

local how, id = from()
-- What is left of a log keeps its format: brokers that can't read a newer one may use it.
local format = known[4] and text(format_of(known[4], known[6])) or ARGV[7]
if known[4] ~= format or known[6] ~= format then
    redis.call('HSET', meta, 'layout', format, 'format', format)
end
local read = ARGV[1] ~= '' and redis.call('XRANGE', log, ARGV[1] .. '-0', ARGV[1] .. '-0')[1]
local has_read = read and field(read, 'w') == ARGV[2] and '1' or '0'
return {text(now), text(last), text(era), known[5] or '0', how, text(id), format, known[7] or '0', has_read}
