-- Returns numbers: the time, the format, the era, the number of entries, the oldest one, the newest id, the bytes of events, and
-- the number of records, their names and bytes; then what each broker has told: its number, and the time and its words.
-- KEYS: the log, meta, the records, the newest of each name, the brokers.

local log, meta, records, newest, brokers = unpack(KEYS)
local known = redis.call('HMGET', meta, 'layout', 'era', 'last', 'bytes', 'rbytes', 'format')
local oldest = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
local answer = {
    text(time()), text(format_of(known[1], known[6])), known[2] or '0', text(redis.call('XLEN', log)), oldest and text(id_of(oldest)) or '0',
    known[3] or '0', known[4] or '0', text(redis.call('XLEN', records)), text(redis.call('ZCARD', newest)), known[5] or '0',
}
for _, word in ipairs(redis.call('HGETALL', brokers)) do
    answer[#answer + 1] = word
end
return answer
