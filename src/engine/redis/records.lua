-- Returns whether the log has an entry and the newest of all records is there (1 or 0), then id, name and data of the records with
-- ids in a range.
-- KEYS: the records, the log, the newest of each name. ARGV: the first id, the last one, the most of them, their most bytes, and id
-- and token of the entry (empty if there is none).

-- If the log has an entry, all that was appended before it was there, too. What is missing of that was removed. Somebody may have
-- deleted the records alone.
local function has_all(log, newest, id, token)
    local entry = id ~= '' and redis.call('XRANGE', log, id .. '-0', id .. '-0')[1]
    if not entry or field(entry, 'w') ~= token then
        return '0'
    end
    local last = redis.call('ZRANGE', newest, 0, 0, 'REV', 'WITHSCORES')[2]
    local record = last and text(tonumber(last)) .. '-0'
    return (not record or #redis.call('XRANGE', KEYS[1], record, record) > 0) and '1' or '0'
end

local records, most, max_bytes = KEYS[1], tonumber(ARGV[3]), tonumber(ARGV[4])
-- How many are read at once. At first, because nobody knows how large they are, only one.
local step, MAX_STEP = 1, 16
local found, bytes, from = {}, 0, ARGV[1] .. '-0'
local has_all_records = has_all(KEYS[2], KEYS[3], ARGV[5], ARGV[6])

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
table.insert(found, 1, has_all_records)
return found
