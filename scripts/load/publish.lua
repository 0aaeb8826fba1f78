-- Publishes events with wrk as fast as the broker responds, to each topic in turn.
-- Environment: ESKER_TOPIC (comma-separated), ESKER_BYTES of data, ESKER_PUBLISHER_TOKEN.

local folder = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
local common = dofile(folder .. "common.lua")
local requests, turn = {}, 0

function init()
    common.authorize()
    local body = "data: " .. ("x"):rep(common.number("ESKER_BYTES", 100))
    for topic in common.setting("ESKER_TOPIC", "loadtest"):gmatch("[^,%s]+") do
        requests[#requests + 1] = wrk.format("POST", common.prefix() .. "/publish/" .. topic, nil, body)
    end
end

function request()
    turn = turn % #requests + 1
    return requests[turn]
end
