-- Returns id, name and data of the records with ids in a range, and whether the index has them: 1 or 0.
-- KEYS: the records, their index. ARGV: the first id, the last one, the most of them, and their most bytes.

local records, index = KEYS[1], KEYS[2]
local found, bytes, from = {}, 0, ARGV[1] .. '-0'
for _ = 1, tonumber(ARGV[3]) do
    local record = redis.call('XRANGE', records, from, ARGV[2] .. '-0', 'COUNT', 1)[1]
    if not record then
        break
    end
    bytes = bytes + add(record, found)
    local version = '[' .. version_of(found[#found - 1], found[#found - 2])
    found[#found + 1] = text(#redis.call('ZRANGE', index, version, version, 'BYLEX'))
    from = '(' .. record[1]
    if bytes >= tonumber(ARGV[4]) then
        break
    end
end
return found
