-- Returns the id up to which it has looked (empty if nothing is left), then id, name and data of versions of a name.
-- KEYS: the records, their index. ARGV: the name, an id, after which they begin, the most of them, and their most bytes.

local records, index = KEYS[1], KEYS[2]
-- No name contains control characters, so that what begins with a name and '\0' is all of its versions, and only those.
local from, to = '(' .. version_of(ARGV[1], ARGV[2]), '(' .. ARGV[1] .. '\1'
local versions = redis.call('ZRANGE', index, from, to, 'BYLEX', 'LIMIT', 0, ARGV[3])
local found, bytes, seen = {''}, 0, ''
for _, version in ipairs(versions) do
    seen = text(tonumber(string.sub(version, -20)))
    bytes = bytes + take(records, seen, found)
    if bytes >= tonumber(ARGV[4]) then
        break
    end
end
found[1] = seen
return found
