-- Judges requests to insert records, in order, and appends the records of those that are granted as one entry, all of them or none.
-- Returns the first one's id, what became of each request (empty if all records were stored), and the number of idempotency keys
-- that were forgotten early. An outcome is `s` for stored, `r` and the id of the record of an earlier request with the same key,
-- `k` if that record has another name, or `c` and the newest id, if there is one, if the condition does not hold.
-- KEYS: the log, meta, the session, the records, their index, the newest of each name, the idempotency keys, their order, the
-- records' copy. ARGV: session, batch, floor, token, the longest age in microseconds, the most bytes of the log, the session's time to live in ms, the
-- format that allows records, the most bytes of records, what a known name saves, the most idempotency keys, their longest age in
-- microseconds, the most versions of a name (0 for all), their longest age in microseconds (empty for any), the format that allows
-- removals, how many versions of a name to remove at most, and of all beyond the number of records; then of each request the name,
-- the data, the bytes that the record takes if its name is new, the condition (empty: none; `*`: there is a version; `-`: there is
-- none; ids: it is one of these), and the idempotency key (empty: none).

local log, meta, session, records, index, newest, keys, order, copy = unpack(KEYS)
local most_keys, key_age = tonumber(ARGV[11]), tonumber(ARGV[12])
local most_versions, longest_age = tonumber(ARGV[13]), tonumber(ARGV[14])
local FIRST, FIELDS, TRIMMED_BY_AN_INSERT, FORGOTTEN_BY_AN_INSERT = 18, 5, 4, 4

if redis.call('HGET', session, 's') ~= ARGV[1] then
    return redis.error_reply('FENCED the session is not the newest of its broker')
end
local length = redis.call('XLEN', log)
local known = redis.call('HMGET', meta, 'last', 'bytes', 'entry', 'layout', 'rbytes', 'format', 'removed')
local last, bytes, entry = tonumber(known[1]), tonumber(known[2]) or 0, known[3] or '0'
if length == 0 or not last then
    return redis.error_reply('NOLOG the log does not exist')
end
local format, taken = format_of(known[4], known[6]), tonumber(known[5]) or 0
if format < tonumber(ARGV[8]) then
    return redis.error_reply('OLDFORMAT ' .. text(format))
end

-- A script that fails is not undone by the engine, so whatever can fail is tried before anything is written.
if #redis.call('XRANGE', log, '(' .. entry .. '-0', '+', 'COUNT', 1) > 0 then
    return redis.error_reply('NOTLAST the log has entries after the newest one')
end
redis.call('ZRANGE', index, 0, 0)
redis.call('HGET', keys, '')
local newest_id = tonumber(redis.call('ZRANGE', newest, 0, 0, 'REV', 'WITHSCORES')[2]) or 0
local newest_key = redis.call('XREVRANGE', order, '+', '-', 'COUNT', 1)[1]
newest_id = math.max(newest_id, newest_key and id_of(newest_key) or 0)
local now = time()
local first = math.max(now, last + 1, tonumber(ARGV[3]) + 1, newest_id + 1)

-- What the granted requests add: ids by name, and what is remembered by idempotency key.
local added, remembered = {}, {}

-- Returns the id of the newest version of a name, if there is one.
local function newest_of(name)
    if added[name] then
        return added[name]
    end
    local from, to = '(' .. name .. '\1', '(' .. name .. '\0'
    local version = redis.call('ZRANGE', index, from, to, 'BYLEX', 'REV', 'LIMIT', 0, 1)[1]
    return version and text(tonumber(string.sub(version, -20)))
end

-- Names are compared by their digests, so that the keys keep no name that is erased.
local function digest_of(name)
    return string.sub(redis.sha1hex(name), 1, 16)
end

-- Returns the outcome if there was a request with this key.
local function judge_key(key, name)
    local id, digest = string.match(remembered[key] or redis.call('HGET', keys, key) or '', '^(%d+) (%x+)$')
    if not id or tonumber(id) + key_age <= now then
        return nil
    end
    return digest == digest_of(name) and 'r' .. id or 'k'
end

-- Returns the outcome if a condition does not hold.
local function judge(condition, name)
    local id = newest_of(name)
    local holds
    if condition == '*' or condition == '-' then
        holds = (condition == '*') == (id ~= nil)
    else
        holds = id and string.find(',' .. condition .. ',', ',' .. id .. ',', 1, true)
    end
    return not holds and 'c' .. (id or '') or nil
end

local granted, outcomes, cost = {}, {}, 0
for i = FIRST, #ARGV, FIELDS do
    local name, condition, key = ARGV[i], ARGV[i + 3], ARGV[i + 4]
    local outcome = key ~= '' and judge_key(key, name) or condition ~= '' and judge(condition, name)
    if not outcome then
        local id = text(first + #granted)
        added[name], granted[#granted + 1], cost = id, i, cost + tonumber(ARGV[i + 2])
        if key ~= '' then
            remembered[key] = id .. ' ' .. digest_of(name)
        end
    end
    outcomes[#outcomes + 1] = outcome or 's'
end
local told = #granted < #outcomes and table.concat(outcomes, ',') or ''
if #granted > 0 and taken + cost > tonumber(ARGV[9]) then
    return redis.error_reply('RECORDSFULL ' .. text(taken) .. ' ' .. ARGV[9])
end

-- The first command that writes, after which none is refused for lack of memory. It can't fail. It is the client's last write if
-- there is no other, which is what WAIT and WAITAOF wait for.
redis.call('PEXPIRE', session, ARGV[7])
if #granted == 0 then
    return {text(first), told, '0'}
end
taken = taken + cost
local new_keys = 0
for number, i in ipairs(granted) do
    local id, name, key = text(first + number - 1), ARGV[i], ARGV[i + 4]
    local stored = redis.pcall('XADD', records, id .. '-0', 'e', name, 'd', ARGV[i + 1])
    -- Only the first can fail: if the key holds something else, or newer records that the other keys don't know.
    if type(stored) == 'table' then
        return stored
    end
    redis.call('ZADD', index, 0, version_of(name, id))
    if redis.call('ZADD', newest, id, name) == 0 then
        taken = taken - #name - tonumber(ARGV[10])
    end
    if key ~= '' then
        redis.call('HSET', keys, key, remembered[key])
        redis.call('XADD', order, id .. '-0', 'k', key)
        new_keys = new_keys + 1
    end
end
redis.call('XADD', log, text(first) .. '-0', 'p', entry, 'r', text(#granted), 'w', ARGV[4])
redis.call('HSET', session, 'b', ARGV[2], 'f', text(first), 'x', told, 'r', text(#granted))
if (most_versions > 0 or longest_age) and format >= tonumber(ARGV[15]) then
    local before, removed = longest_age and now - longest_age or 0, 0
    local left, freed = #granted + tonumber(ARGV[17]), 0
    for _, i in ipairs(granted) do
        local limit = math.min(left - removed, tonumber(ARGV[16]))
        local of_name, its_bytes = prune(records, copy, index, ARGV[i], most_versions, before, limit)
        removed, freed = removed + of_name, freed + its_bytes
        if freed >= REMOVED_BYTES then
            break
        end
    end
    taken = math.max(0, taken - freed)
    if removed > 0 then
        redis.call('HSET', meta, 'removed', text((tonumber(known[7]) or 0) + removed))
    end
end
bytes = trim(log, length + 1, bytes + RECORDS_COST, now - tonumber(ARGV[5]), tonumber(ARGV[6]), TRIMMED_BY_AN_INSERT)
local newest_now = text(first + #granted - 1)
redis.call('HSET', meta, 'last', newest_now, 'bytes', text(bytes), 'entry', text(first), 'rbytes', text(taken))

-- Forgets the oldest keys: those that are too old, and those that are too many. Returns the number of the latter.
local function forget(limit)
    local count, gone, early, from = redis.call('XLEN', order), 0, 0, '-'
    while gone < limit do
        local oldest = redis.call('XRANGE', order, from, '+', 'COUNT', 1)[1]
        local is_old = oldest and id_of(oldest) + key_age <= now
        if not oldest or not is_old and count - gone <= most_keys then
            break
        end
        local key = field(oldest, 'k') or ''
        -- A key that was too old and was used again has another entry.
        if string.match(redis.call('HGET', keys, key) or '', '^%d+') == text(id_of(oldest)) then
            redis.call('HDEL', keys, key)
        end
        gone, early, from = gone + 1, early + (is_old and 0 or 1), '(' .. oldest[1]
    end
    if gone > 0 then
        redis.call('XTRIM', order, 'MAXLEN', '=', text(count - gone))
    end
    return early
end

if new_keys == 0 then
    return {text(first), told, '0'}
end
-- If no other comes, all of them are too old then.
redis.call('PEXPIRE', keys, text(key_age / 1000))
redis.call('PEXPIRE', order, text(key_age / 1000))
return {text(first), told, text(forget(2 * new_keys + FORGOTTEN_BY_AN_INSERT))}
