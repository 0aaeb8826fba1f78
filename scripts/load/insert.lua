-- Inserts records with wrk as fast as the broker responds, with ESKER_NAMES names in turn. The records stay stored.
-- Environment: ESKER_NAME (prefix of the names), ESKER_NAMES, ESKER_BYTES of data, ESKER_PUBLISHER_TOKEN.

local folder = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
local common = dofile(folder .. "common.lua")
local path, name, names, data
local turn = 0

function init()
    common.authorize()
    wrk.headers["Content-Type"] = "application/json"
    path = common.prefix() .. "/insert"
    name = common.setting("ESKER_NAME", "loadtest")
    names = common.number("ESKER_NAMES", 1000)
    data = ("x"):rep(common.number("ESKER_BYTES", 100))
end

function request()
    turn = turn % names + 1
    return wrk.format("POST", path, nil, ('{"event":"%s-%d","data":"%s"}'):format(name, turn, data))
end
