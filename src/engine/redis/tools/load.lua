-- Stores records with their ids, while no broker uses the log, and says so in the log. Without records, it only tells whether
-- it would. Returns the time and the newest record.
-- KEYS: the log, meta, the records, their index, the newest of each name, the brokers. ARGV: token, how long brokers are known
-- in microseconds, the format that allows records, the longest lead of an id, the most bytes of records, those that these take
-- if their names are new, what a known name saves; then id, name and data of records.

local log, meta, records, index, newest, brokers = unpack(KEYS)
local FIRST = 8
local now = time()

local told, living = redis.call('HGETALL', brokers), 0
for i = 1, #told, 2 do
    local at = tonumber(string.match(told[i + 1], '^%d+'))
    if at and math.abs(now - at) <= tonumber(ARGV[2]) then
        living = living + 1
    end
end
if living > 0 then
    return redis.error_reply('INUSE ' .. text(living))
end
local known = redis.call('HMGET', meta, 'last', 'entry', 'layout', 'rbytes', 'format')
local last, entry = tonumber(known[1]), known[2] or '0'
if redis.call('XLEN', log) == 0 or not last then
    return redis.error_reply('NOLOG the log does not exist')
end
local format, taken = format_of(known[3], known[5]), tonumber(known[4]) or 0
if format < tonumber(ARGV[3]) then
    return redis.error_reply('OLDFORMAT ' .. text(format))
end
if taken + tonumber(ARGV[6]) > tonumber(ARGV[5]) then
    return redis.error_reply('RECORDSFULL ' .. text(taken) .. ' ' .. ARGV[5])
end
if #redis.call('XRANGE', log, '(' .. entry .. '-0', '+', 'COUNT', 1) > 0 then
    return redis.error_reply('NOTLAST the log has entries after the newest one')
end
local stored = redis.call('XREVRANGE', records, '+', '-', 'COUNT', 1)[1]
local indexed = tonumber(redis.call('ZRANGE', newest, 0, 0, 'REV', 'WITHSCORES')[2]) or 0
local before = math.max(stored and id_of(stored) or 0, indexed)
redis.call('ZRANGE', index, 0, 0)
if #ARGV < FIRST then
    return {text(now), text(before)}
end
local first, through = tonumber(ARGV[FIRST]), tonumber(ARGV[#ARGV - 2])
if first <= before or through > now + tonumber(ARGV[4]) then
    return redis.error_reply('BADIDS ' .. ARGV[FIRST] .. ' to ' .. ARGV[#ARGV - 2] .. ' after ' .. text(before))
end

-- Everything that can fail was tried. After the first command that writes, none is refused for lack of memory.
taken = taken + tonumber(ARGV[6])
for i = FIRST, #ARGV, 3 do
    local id, name = ARGV[i], ARGV[i + 1]
    redis.call('XADD', records, id .. '-0', 'e', name, 'd', ARGV[i + 2])
    redis.call('ZADD', index, 0, version_of(name, id))
    if redis.call('ZADD', newest, id, name) == 0 then
        taken = taken - #name - tonumber(ARGV[7])
    end
end
-- Brokers give larger ids than that of this entry.
local said = text(math.max(now, last + 1, through + 1))
redis.call('XADD', log, said .. '-0', 'p', entry, 'c', 'loaded', 'w', ARGV[1])
redis.call('HSET', meta, 'last', said, 'entry', said, 'rbytes', text(taken))
return {text(now), ARGV[#ARGV - 2]}
