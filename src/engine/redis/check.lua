-- Returns the commands that this user may not use, the key that holds something else, and the format of the log.
-- KEYS: the log, meta, a session, the records, their index, the newest of each name, the brokers, the revocations, the
-- records' copy, the idempotency keys, their order. ARGV: a key of an own id.

local log, meta, session, records, index, newest, brokers, revocations, copy, keys, order = unpack(KEYS)
local own = ARGV[1]
local needed = {
    {'TIME'}, {'XLEN', log}, {'XRANGE', log, '-', '+'}, {'XREVRANGE', log, '+', '-'}, {'XADD', log, '1-0', 'b', ''},
    {'XTRIM', log, 'MAXLEN', '1'}, {'XREAD', 'STREAMS', log, '0'}, {'HGET', meta, 'last'}, {'HMGET', meta, 'last'},
    {'HSET', meta, 'last', '1'}, {'HSET', session, 's', ''}, {'PEXPIRE', session, '1'}, {'SET', own, '1'},
    {'PEXPIRE', own, '1'}, {'XADD', records, '1-0', 'e', '', 'd', ''}, {'XRANGE', records, '1-0', '1-0'},
    {'ZADD', index, '0', ''}, {'ZADD', newest, '1', ''}, {'ZRANGE', index, '0', '0'}, {'ZRANGE', newest, '0', '0'},
    {'HSET', brokers, '0', ''}, {'HGETALL', brokers}, {'HDEL', brokers, '0'}, {'PEXPIRE', brokers, '1'},
    {'XADD', revocations, '1-0', 't', ''}, {'XRANGE', revocations, '-', '+'}, {'XTRIM', revocations, 'MAXLEN', '1'},
    {'UNLINK', copy}, {'RENAME', copy, records}, {'INFO'}, {'HDEL', meta, ''}, {'XDEL', records, '1-0'}, {'ZREM', index, ''},
    {'ZREM', newest, ''}, {'ZLEXCOUNT', index, '-', '+'},
    {'HGET', keys, ''}, {'HSET', keys, '', ''}, {'HDEL', keys, ''}, {'PEXPIRE', keys, '1'}, {'XLEN', order},
    {'XADD', order, '1-0', 'k', ''}, {'XRANGE', order, '-', '+'}, {'XREVRANGE', order, '+', '-'},
    {'XTRIM', order, 'MAXLEN', '1'}, {'PEXPIRE', order, '1'},
}
local denied, is_denied = {}, {}
for _, command in ipairs(needed) do
    local name = string.lower(command[1])
    if not redis.acl_check_cmd(unpack(command)) and not is_denied[name] then
        denied[#denied + 1], is_denied[name] = name, true
    end
end
if #denied > 0 then
    return {table.concat(denied, ' '), '', ''}
end
local reads = {
    {log, 'XLEN', log}, {meta, 'HGET', meta, 'last'}, {records, 'XLEN', records}, {index, 'ZRANGE', index, 0, 0},
    {newest, 'ZRANGE', newest, 0, 0}, {brokers, 'HGET', brokers, ''},
    {revocations, 'XLEN', revocations}, {copy, 'XLEN', copy}, {keys, 'HGET', keys, ''}, {order, 'XLEN', order},
}
for _, read in ipairs(reads) do
    local answer = redis.pcall(unpack(read, 2))
    if type(answer) == 'table' and answer.err then
        return {'', read[1], ''}
    end
end
local known = redis.call('HMGET', meta, 'layout', 'format')
return {'', '', known[1] and text(format_of(known[1], known[2])) or ''}
