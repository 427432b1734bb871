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
  local said = handle:metadata()
  local deadline, key = said:get("deadline"), said:get("overlay")
  if deadline == nil or key == nil then return end
  if tonumber(handle:timestamp()) < tonumber(deadline) then -- strings of milliseconds
    headers:add(HEADER, key)
    handle:clearRouteCache()
  end
end
