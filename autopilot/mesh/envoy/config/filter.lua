-- The one constant filter: the base wins unless an overlay proves alive.
-- A Lua error, missing metadata or a removed filter all mean "base". It never changes during an operation,
-- so no listener is ever drained; deadlines arrive with the routes.
local HEADER = "x-autopilot-overlay"
local USER = "x-autopilot-user-"

local function times(a, b) -- modulo 2^32; a product of two such numbers is more than a double holds
  return ((a % 65536) * b + ((math.floor(a / 65536) * b) % 65536) * 65536) % 4294967296
end

local function xor(a, b)
  return bit.bxor(a, b) % 4294967296
end

local function bucket(text) -- FNV-1a, then the last mixing of MurmurHash3, so that like names lie far apart
  local hash = 2166136261
  for index = 1, #text do
    hash = times(xor(hash, text:byte(index)), 16777619)
  end
  hash = times(xor(hash, math.floor(hash / 65536)), 2246822507)
  hash = times(xor(hash, math.floor(hash / 8192)), 3266489909)
  hash = xor(hash, math.floor(hash / 65536))
  return math.floor(hash / 4294967296 * 10000)
end

local function cookie(headers, name)
  for key, value in string.gmatch(headers:get("cookie") or "", "([^=;%s]+)=([^;%s]*)") do
    if key == name then return value end
  end
end

local function tell_users(headers, users)
  for index, one in ipairs(users) do
    local kind, name, salt = string.match(one, "^(%S+) (%S+) (%S*)$")
    headers:remove(USER .. index) -- a client cannot choose a bucket either
    local user
    if kind == "header" then user = headers:get(name) else user = cookie(headers, name) end
    if user ~= nil and user ~= "" then
      headers:add(USER .. index, tostring(bucket(salt .. ":" .. user)))
    end
  end
end

function envoy_on_request(handle)
  local headers = handle:headers()
  if headers:get(HEADER) ~= nil then -- a client cannot choose an overlay
    headers:remove(HEADER)
    handle:clearRouteCache()
  end
  local metadata = handle:metadata()
  local deadlines = metadata:get("deadlines")
  if deadlines == nil then return end
  local now = tonumber(handle:timestamp()) -- a string of milliseconds
  local alive = 0
  for _, deadline in ipairs(deadlines) do
    if now < tonumber(deadline) then alive = alive + 1 end
  end
  if alive > 0 then
    local users = metadata:get("users")
    if users ~= nil then tell_users(headers, users) end
    headers:add(HEADER, tostring(alive))
    handle:clearRouteCache()
  end
end
