-- Returns the member of the index up to which it has looked (empty if none is left), and those members before it that stand for
-- no record with their name.
-- KEYS: the records, their index. ARGV: where to begin, as ZRANGE BYLEX takes it, the most members, and the last id to look at.

local records, index = KEYS[1], KEYS[2]
local members = redis.call('ZRANGE', index, ARGV[1], '+', 'BYLEX', 'LIMIT', 0, ARGV[2])
local wrong = {members[#members] or ''}
for _, member in ipairs(members) do
    local name, id = string.match(member, '^(.*)%z(%d+)$')
    local number = id and #id == 20 and text(tonumber(id))
    local found = {}
    local is_later = number and tonumber(id) > tonumber(ARGV[3])
    if not is_later and not (number and take(records, number, found) > 0 and found[2] == name) then
        wrong[#wrong + 1] = member
    end
end
return wrong
