-- compose-post as a wrk script: a form body with 256 random characters, by string.sub and table.concat as such scripts
-- usually do it. The native endpoint `compose-post` sends bodies of the same form and length.
local characters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
local headers = { ["Content-Type"] = "application/x-www-form-urlencoded" }

local function text(length)
   local parts = {}
   for i = 1, length do
      local at = math.random(#characters)
      parts[i] = characters:sub(at, at)
   end
   return table.concat(parts)
end

function request()
   local user = math.random(1000000000)
   local body = "user_id=" .. user .. "&username=username_" .. user
      .. "&post_type=0&media_ids=%5B%5D&media_types=%5B%5D&text=" .. text(256)
   return wrk.format("POST", "/wrk2-api/post/compose", headers, body)
end
