-- Returns whether there is a record with an id.
-- KEYS: the records. ARGV: the id.

local id = ARGV[1] .. '-0'
return #redis.call('XRANGE', KEYS[1], id, id)
