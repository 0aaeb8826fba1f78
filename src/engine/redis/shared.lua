-- Functions that the scripts share. Numbers are exact up to 2^53, which ids reach in the year 2255.

-- The bytes that an entry of records counts when the log is trimmed by bytes.
local RECORDS_COST = 128
-- The bytes of memory that a name and a record take beyond their text.
local NAME_COST, RECORD_COST = 112, 170
-- The bytes of removed records after which no other is removed.
local REMOVED_BYTES = 1048576

local function text(number)
    return string.format('%.0f', number)
end

-- The time of the engine, in microseconds.
local function time()
    local now = redis.call('TIME')
    return tonumber(now[1]) * 1000000 + tonumber(now[2])
end

-- The format of the log. Brokers that know only the first one may set the layout back to it.
local function format_of(layout, format)
    return math.max(tonumber(layout) or 1, tonumber(format) or 1)
end

-- The id in an entry, as a number.
local function id_of(entry)
    return tonumber(string.match(entry[1], '^%d+'))
end

-- The value of a field of an entry.
local function field(entry, name)
    local fields = entry[2]
    for i = 1, #fields, 2 do
        if fields[i] == name then
            return fields[i + 1]
        end
    end
    return nil
end

-- The bytes that an entry counts when the log is trimmed by bytes.
local function cost(entry)
    return field(entry, 'r') and RECORDS_COST or #(field(entry, 'b') or '')
end

-- Removes the oldest entries that are from before an id, or that exceed the bytes, but at most `limit` of them and never the
-- last one. Returns the bytes that are left.
local function trim(log, length, bytes, before, max_bytes, limit)
    local removed, from = 0, '-'
    while removed < limit and length - removed > 1 do
        local entry = redis.call('XRANGE', log, from, '+', 'COUNT', 1)[1]
        if not entry or (id_of(entry) >= before and bytes <= max_bytes) then
            break
        end
        bytes = bytes - cost(entry)
        removed = removed + 1
        from = '(' .. entry[1]
    end
    if removed > 0 then
        redis.call('XTRIM', log, 'MAXLEN', '=', text(length - removed))
    end
    return bytes
end

-- The member of the index that stands for a version of a name. Ids of equal length are in order as text.
local function version_of(name, id)
    return name .. '\0' .. string.rep('0', 20 - #id) .. id
end

-- The id in a member of the index, as a number.
local function id_in(version)
    return tonumber(string.sub(version, -20))
end

-- What the members of the index are between that stand for versions of a name. No name contains control characters.
local function bounds(name)
    return '(' .. name .. '\0', '(' .. name .. '\1'
end

-- Removes a version of a name, which the index has, from the records and their copy (see compact.lua). Returns the bytes of memory that it took, if its name stays.
local function remove(records, copy, index, name, version)
    local id = text(id_in(version)) .. '-0'
    local record = redis.call('XRANGE', records, id, id)[1]
    redis.call('ZREM', index, version)
    if not record then
        return 0
    end
    redis.call('XDEL', records, id)
    redis.call('XDEL', copy, id)
    local data = #(field(record, 'd') or '')
    return 2 * #name + RECORD_COST + data + math.floor(data / 8)
end

-- Removes the oldest versions of a name: those beyond a number (0 if there is none) and those with ids before one, but at most
-- `limit` and never the newest. Returns how many, and their bytes.
local function prune(records, copy, index, name, most, before, limit)
    local from, to = bounds(name)
    local count, removed, bytes = redis.call('ZLEXCOUNT', index, from, to), 0, 0
    while removed < limit and bytes < REMOVED_BYTES and count - removed > 1 do
        local oldest = redis.call('ZRANGE', index, from, to, 'BYLEX', 'LIMIT', 0, 1)[1]
        local is_surplus = most > 0 and count - removed > most
        if not oldest or not (is_surplus or id_in(oldest) < before) then
            break
        end
        bytes = bytes + remove(records, copy, index, name, oldest)
        removed = removed + 1
    end
    return removed, bytes
end

-- Adds id, name and data of a record to a list. Returns its bytes.
local function add(record, list)
    local name, data = field(record, 'e') or '', field(record, 'd') or ''
    local count = #list
    list[count + 1], list[count + 2], list[count + 3] = string.match(record[1], '^%d+'), name, data
    return #name + #data
end

-- Adds the record with an id to a list, if there is one. Returns its bytes.
local function take(records, id, list)
    local record = redis.call('XRANGE', records, id .. '-0', id .. '-0')[1]
    return record and add(record, list) or 0
end
