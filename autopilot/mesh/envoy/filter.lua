-- The one constant filter: the base wins unless an overlay proves alive.
-- A Lua error, missing metadata or a removed filter all mean "base". It never changes during an operation,
-- so no listener is ever drained; deadlines arrive with the routes.
local HEADER = "x-autopilot-overlay"

function envoy_on_request(handle)
  local headers = handle:headers()
  if headers:get(HEADER) ~= nil then -- a client cannot choose an overlay
    headers:remove(HEADER)
    handle:clearRouteCache()
  end
  local deadlines = handle:metadata():get("deadlines")
  if deadlines == nil then return end
  local now = tonumber(handle:timestamp()) -- a string of milliseconds
  local alive = 0
  for _, deadline in ipairs(deadlines) do
    if now < tonumber(deadline) then alive = alive + 1 end
  end
  if alive > 0 then
    headers:add(HEADER, tostring(alive))
    handle:clearRouteCache()
  end
end
