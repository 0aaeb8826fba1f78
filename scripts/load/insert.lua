-- wrk inserts records as fast as its connections are answered, in turn under each of ESKER_NAMES names. They stay stored.
-- Environment: ESKER_NAME (what the names begin with), ESKER_NAMES, ESKER_BYTES of data, ESKER_PUBLISHER_TOKEN.

local folder = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
local answers = dofile(folder .. "answers.lua")
local path, name, names, data
local turn = 0

function init()
    answers.authorize()
    wrk.headers["Content-Type"] = "application/json"
    path = answers.prefix() .. "/insert"
    name = answers.setting("ESKER_NAME", "loadtest")
    names = answers.number("ESKER_NAMES", 1000)
    data = ("x"):rep(answers.number("ESKER_BYTES", 100))
end

function request()
    turn = turn % names + 1
    return wrk.format("POST", path, nil, ('{"event":"%s-%d","data":"%s"}'):format(name, turn, data))
end
