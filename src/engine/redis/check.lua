-- Returns the commands that this user may not use, the key that holds something else, and the layout of the log.
-- KEYS: the log, meta, a session. ARGV: a key of an own id.

local log, meta, session, own = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local needed = {
    {'TIME'}, {'XLEN', log}, {'XRANGE', log, '-', '+'}, {'XREVRANGE', log, '+', '-'}, {'XADD', log, '1-0', 'b', ''},
    {'XTRIM', log, 'MAXLEN', '1'}, {'XREAD', 'STREAMS', log, '0'}, {'HGET', meta, 'last'}, {'HMGET', meta, 'last'},
    {'HSET', meta, 'last', '1'}, {'HSET', session, 's', ''}, {'PEXPIRE', session, '1'}, {'SET', own, '1'},
    {'PEXPIRE', own, '1'},
}
local denied = {}
for _, command in ipairs(needed) do
    local name = string.lower(command[1])
    if not redis.acl_check_cmd(unpack(command)) and denied[#denied] ~= name then
        denied[#denied + 1] = name
    end
end
if #denied > 0 then
    return {table.concat(denied, ' '), '', ''}
end
if type(redis.pcall('XLEN', log)) == 'table' then
    return {'', log, ''}
end
local layout = redis.pcall('HGET', meta, 'layout')
if type(layout) == 'table' then
    return {'', meta, ''}
end
return {'', '', layout or ''}
