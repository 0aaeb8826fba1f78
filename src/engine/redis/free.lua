-- Removes old entries when the engine is out of memory. Returns how many are left.
-- KEYS: the log, meta. ARGV: the longest age in microseconds, the most bytes.

local log, meta = KEYS[1], KEYS[2]
local TRIMMED_AT_ONCE = 64

local length = redis.call('XLEN', log)
local bytes = tonumber(redis.call('HGET', meta, 'bytes')) or 0
local left = trim(log, length, bytes, time() - tonumber(ARGV[1]), tonumber(ARGV[2]), TRIMMED_AT_ONCE)
if left ~= bytes then
    redis.call('HSET', meta, 'bytes', text(left))
end
return redis.call('XLEN', log)
