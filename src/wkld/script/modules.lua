-- The parts of Penlight and LTN12 that workload scripts use, under their own names.
local function preload(name, make)
  package.preload[name] = function() return make() end
end

local function plain_find(text, part, from)
  return text:find(part, from, true)
end

preload("pl.stringx", function()
  local M = {}
  local function class(chars)
    return chars and "[" .. chars:gsub("%W", "%%%0") .. "]" or "%s"
  end
  function M.lstrip(s, chars) return (s:gsub("^" .. class(chars) .. "+", "")) end
  function M.rstrip(s, chars)
    local pattern, last = "^" .. class(chars) .. "$", #s
    while last > 0 and s:sub(last, last):find(pattern) do last = last - 1 end
    return s:sub(1, last)
  end
  function M.strip(s, chars) return M.rstrip(M.lstrip(s, chars), chars) end
  function M.split(s, separator, limit)
    local parts, from = {}, 1
    if not separator then
      s = M.lstrip(s)
      for word in s:gmatch("%S+") do parts[#parts + 1] = word end
      return parts
    end
    while true do
      local first, last = plain_find(s, separator, from)
      if not first or (limit and #parts >= limit - 1) then break end
      parts[#parts + 1] = s:sub(from, first - 1)
      from = last + 1
    end
    parts[#parts + 1] = s:sub(from)
    return parts
  end
  function M.startswith(s, prefix) return s:sub(1, #prefix) == prefix end
  function M.endswith(s, suffix) return suffix == "" or s:sub(-#suffix) == suffix end
  function M.join(separator, parts) return table.concat(parts, separator) end
  function M.replace(s, old, new, limit)
    local out, from, done = {}, 1, 0
    while old ~= "" and (not limit or done < limit) do
      local first, last = plain_find(s, old, from)
      if not first then break end
      out[#out + 1], out[#out + 2] = s:sub(from, first - 1), new
      from, done = last + 1, done + 1
    end
    out[#out + 1] = s:sub(from)
    return table.concat(out)
  end
  function M.count(s, part)
    local n, from = 0, 1
    while part ~= "" do
      local first, last = plain_find(s, part, from)
      if not first then break end
      n, from = n + 1, last + 1
    end
    return n
  end
  function M.lfind(s, part, from) return (plain_find(s, part, from or 1)) end
  function M.ljust(s, width, fill) return s .. (fill or " "):rep(width - #s) end
  function M.rjust(s, width, fill) return (fill or " "):rep(width - #s) .. s end
  function M.lines(s) return (s:gsub("\n$", "") .. "\n"):gmatch("(.-)\n") end
  function M.splitlines(s)
    local all = {}
    for line in M.lines(s) do all[#all + 1] = line end
    return all
  end
  for name, set in pairs({ isalpha = "%a", isdigit = "%d", isalnum = "%w", isspace = "%s", islower = "%l", isupper = "%u" }) do
    M[name] = function(s) return s:find("^" .. set .. "+$") ~= nil end
  end
  function M.import(target)
    target = target or string
    for name, value in pairs(M) do target[name] = value end
  end
  return M
end)

preload("pl.tablex", function()
  local M = {}
  function M.size(t)
    local n = 0
    for _ in pairs(t) do n = n + 1 end
    return n
  end
  function M.keys(t)
    local all = {}
    for key in pairs(t) do all[#all + 1] = key end
    return all
  end
  function M.values(t)
    local all = {}
    for _, value in pairs(t) do all[#all + 1] = value end
    return all
  end
  function M.update(t, more)
    for key, value in pairs(more) do t[key] = value end
    return t
  end
  function M.copy(t) return M.update({}, t) end
  function M.deepcopy(t)
    if type(t) ~= "table" then return t end
    local copy = {}
    for key, value in pairs(t) do copy[M.deepcopy(key)] = M.deepcopy(value) end
    return setmetatable(copy, getmetatable(t))
  end
  function M.deepcompare(a, b)
    if type(a) ~= "table" or type(b) ~= "table" then return a == b end
    for key, value in pairs(a) do
      if not M.deepcompare(value, b[key]) then return false end
    end
    for key in pairs(b) do
      if a[key] == nil then return false end
    end
    return true
  end
  function M.find(t, value, from)
    for i = from or 1, #t do
      if t[i] == value then return i end
    end
  end
  function M.map(f, t, ...)
    local out = {}
    for key, value in pairs(t) do out[key] = f(value, ...) end
    return out
  end
  M.imap = M.map
  function M.filter(t, keep, ...)
    local out = {}
    for _, value in ipairs(t) do
      if keep(value, ...) then out[#out + 1] = value end
    end
    return out
  end
  function M.reduce(f, t, start)
    local from = 1
    if start == nil then start, from = t[1], 2 end
    for i = from, #t do start = f(start, t[i]) end
    return start
  end
  function M.foreach(t, f, ...)
    for key, value in pairs(t) do f(value, key, ...) end
  end
  function M.insertvalues(t, more)
    for _, value in ipairs(more) do t[#t + 1] = value end
    return t
  end
  function M.merge(a, b, both)
    local out = {}
    for key, value in pairs(a) do
      if both or b[key] ~= nil then out[key] = value end
    end
    for key, value in pairs(b) do
      if both or a[key] ~= nil then out[key] = value end
    end
    return out
  end
  function M.range(first, last, step)
    local all = {}
    for i = first, last, step or 1 do all[#all + 1] = i end
    return all
  end
  function M.sub(t, first, last)
    return { unpack(t, first, last or #t) }
  end
  function M.sort(t, less)
    local keys, i = M.keys(t), 0
    table.sort(keys, less)
    return function()
      i = i + 1
      return keys[i], t[keys[i]]
    end
  end
  return M
end)

preload("pl.pretty", function()
  local M = {}
  local function write(value, indent, seen)
    if type(value) == "string" then return ("%q"):format(value) end
    if type(value) ~= "table" then return tostring(value) end
    if seen[value] then return "<cycle>" end
    seen[value] = true
    local inner, out, n = indent .. "  ", {}, #value
    for i = 1, n do out[#out + 1] = inner .. write(value[i], inner, seen) end
    for key, item in pairs(value) do
      if not (type(key) == "number" and key >= 1 and key <= n and key % 1 == 0) then
        local name = type(key) == "string" and key:match("^[%a_][%w_]*$") or "[" .. write(key, inner, seen) .. "]"
        out[#out + 1] = inner .. name .. " = " .. write(item, inner, seen)
      end
    end
    seen[value] = nil
    if #out == 0 then return "{}" end
    return "{\n" .. table.concat(out, ",\n") .. "\n" .. indent .. "}"
  end
  function M.write(value) return write(value, "", {}) end
  function M.dump(value) print(M.write(value)) end
  return setmetatable(M, { __call = function(_, value) M.dump(value) end })
end)

preload("ltn12", function()
  local M = { source = {}, sink = {} }
  function M.source.string(text)
    local given = false
    return function()
      if given then return nil end
      given = true
      return text
    end
  end
  function M.sink.table(t)
    t = t or {}
    return function(chunk)
      if chunk then t[#t + 1] = chunk end
      return 1
    end, t
  end
  return M
end)

-- luasocket's module functions also left a global behind, and scripts rely on it.
preload("socket", function()
  socket = socket_native
  socket.http = require("socket.http")
  return socket
end)

preload("socket.http", function()
  local M = { TIMEOUT = 60 }
  function M.request(what, body)
    if type(what) == "string" then
      local code, headers, text, status = http_native(body and "POST" or "GET", what, {
        ["content-type"] = body and "application/x-www-form-urlencoded" or nil,
      }, body)
      if not code then return nil, headers end
      return text, code, headers, status
    end
    local sent = what.body
    if what.source then
      local parts = {}
      for chunk in what.source do parts[#parts + 1] = chunk end
      sent = table.concat(parts)
    end
    local code, headers, text, status = http_native(what.method or (sent and "POST" or "GET"), what.url, what.headers or {}, sent)
    if not code then return nil, headers end
    if what.sink then
      what.sink(text)
      what.sink(nil)
    end
    return 1, code, headers, status
  end
  return M
end)

preload("JSON", function()
  local M = {}
  function M.decode(_, text) return json_decode(text) end
  function M.encode(_, value) return json_encode(value, false) end
  function M.encode_pretty(_, value) return json_encode(value, true) end
  return M
end)

for _, name in ipairs({ "json", "cjson", "dkjson" }) do
  preload(name, function()
    return {
      decode = json_decode,
      encode = function(value) return json_encode(value, false) end,
    }
  end)
end
