-- The `wrk` table that scripts are written against. `wrk.scheme`, `.host`, `.port` and `.path` are set before this runs.
local concat, pairs, tostring = table.concat, pairs, tostring

wrk.method = wrk.method or "GET"
wrk.headers = wrk.headers or {}

-- A request as text: what is not given comes from the `wrk` table.
function wrk.format(method, path, headers, body)
  headers = headers or wrk.headers
  body = body or wrk.body
  if not headers["Host"] then
    headers["Host"] = wrk.headers["Host"]
  end
  headers["Content-Length"] = body and #body
  local lines, n = { (method or wrk.method) .. " " .. (path or wrk.path) .. " HTTP/1.1" }, 1
  for name, value in pairs(headers) do
    n = n + 1
    lines[n] = name .. ": " .. tostring(value)
  end
  lines[n + 1] = ""
  lines[n + 2] = body or ""
  return concat(lines, "\r\n")
end

-- Called once when the thread starts: fixes the Host field, runs the script's own init, and builds the request that is
-- sent when the script has no `request`.
function wrk.init(args)
  if not wrk.headers["Host"] then
    local host = wrk.host
    if host:find(":", 1, true) then host = "[" .. host .. "]" end
    if wrk.port then host = host .. ":" .. wrk.port end
    wrk.headers["Host"] = host
  end
  if type(init) == "function" then init(args) end
  local built = wrk.format()
  wrk.request = function() return built end
end
