-- Shared by the wrk scripts: reads the settings from the environment, counts responses by status in each thread, and reports
-- responses other than 200 at the end, with exit code 1. Independent of routes.

local common = {}
local threads = {}

-- Responses by status, in each thread. It is a global because wrk can copy only globals out of a thread.
counts = {}

function common.setting(name, default)
    local value = os.getenv(name)
    if value == nil or value == "" then return default end
    return value
end

function common.number(name, default)
    local value = tonumber(common.setting(name, default))
    if value == nil or value < 1 then error(name .. " must be a number of at least 1") end
    return value
end

-- The path of the broker's root, which behind a proxy is not always "/".
function common.prefix()
    return (wrk.path:gsub("/+$", ""))
end

function common.authorize()
    local token = common.setting("ESKER_PUBLISHER_TOKEN")
    if token then wrk.headers["Authorization"] = "Bearer " .. token end
end

function setup(thread)
    threads[#threads + 1] = thread
end

function response(status)
    local key = tostring(status)
    counts[key] = (counts[key] or 0) + 1
end

-- Responses of all threads by status.
local function total()
    local sum = {}
    for _, thread in ipairs(threads) do
        for status, count in pairs(thread:get("counts")) do sum[status] = (sum[status] or 0) + count end
    end
    return sum
end

local function sorted(sum)
    local statuses = {}
    for status in pairs(sum) do statuses[#statuses + 1] = status end
    table.sort(statuses)
    return statuses
end

function done(summary)
    local sum, failed = total(), 0
    for _, status in ipairs(sorted(sum)) do
        print(("%12d responses %s"):format(sum[status], status))
        if status ~= "200" then failed = failed + sum[status] end
    end
    for _, kind in ipairs({ "connect", "read", "write", "timeout" }) do
        local count = summary.errors[kind]
        if count > 0 then print(("%12d errors: %s"):format(count, kind)) end
        failed = failed + count
    end
    if failed == 0 and sum["200"] then
        print("every response was 200")
    else
        print("FAILED: " .. failed .. " failed responses and errors, " .. (sum["200"] or 0) .. " responses 200")
        os.exit(1)
    end
end

return common
