-- Returns the id up to which it has looked (empty if nothing is left), then id, name and data of the newest records of names.
-- KEYS: the records, the newest of each name. ARGV: an id, after which they begin, the most of them, and their most bytes.

local records, newest = KEYS[1], KEYS[2]
local names = redis.call('ZRANGE', newest, '(' .. ARGV[1], '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[2], 'WITHSCORES')
local found, bytes, seen = {''}, 0, ''
for i = 1, #names, 2 do
    seen = text(tonumber(names[i + 1]))
    bytes = bytes + take(records, seen, found)
    if bytes >= tonumber(ARGV[3]) then
        break
    end
end
found[1] = seen
return found
