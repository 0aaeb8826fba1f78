-- Returns whether the log has the entry with an id (1 or 0), and of the entries after it: id, id of the entry before (empty if it
-- has none), number of ids.
-- KEYS: the log. ARGV: the id, the most entries.

local log, id = KEYS[1], ARGV[1] .. '-0'
local answer = {text(#redis.call('XRANGE', log, id, id))}
for _, entry in ipairs(redis.call('XRANGE', log, '(' .. id, '+', 'COUNT', ARGV[2])) do
    local count = field(entry, 'n') or field(entry, 'r') or (field(entry, 'c') and '1') or '0'
    local last = #answer
    answer[last + 1], answer[last + 2], answer[last + 3] = text(id_of(entry)), field(entry, 'p') or '', count
end
return answer
