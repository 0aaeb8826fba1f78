-- Returns id, name and data of the records with ids in a range.
-- KEYS: the records. ARGV: the first id, the last one, the most of them, and their most bytes.

local records, most, max_bytes = KEYS[1], tonumber(ARGV[3]), tonumber(ARGV[4])
-- How many are read at once. At first, because nobody knows how large they are, only one.
local step, MAX_STEP = 1, 16
local found, bytes, from = {}, 0, ARGV[1] .. '-0'

while #found < most * 3 and bytes < max_bytes do
    local read = redis.call('XRANGE', records, from, ARGV[2] .. '-0', 'COUNT', math.min(step, most - #found / 3))
    if #read == 0 then
        break
    end
    for _, record in ipairs(read) do
        bytes = bytes + add(record, found)
        from = '(' .. record[1]
        if bytes >= max_bytes then
            break
        end
    end
    -- As many as would have a fraction of the bytes, if they are as large as those before: the next ones may be larger.
    local average = bytes / (#found / 3)
    step = math.max(1, math.min(step * 2, MAX_STEP, math.floor(max_bytes / 16 / average)))
end
return found
