#!lua
-- One more is counted in a window, if there is room (1); the one of that time is not counted any
-- more (-1); or all are only looked at (0). How many there are, for how long the last one of them
-- still is, and how long it takes until there is room for one more.
local cost, most, width, mark = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10]
local window, at = KEYS[1], now()
local function left(index)
  local counted = redis.call('LINDEX', window, index)
  return counted and counted + width - at or 0
end

while redis.call('EXISTS', window) == 1 and left(0) <= 0 do redis.call('LPOP', window) end
if cost < 0 then redis.call('LREM', window, -1, mark) end
local number = redis.call('LLEN', window)
local has_room = cost <= 0 or number < most
if cost > 0 and has_room then
  number = redis.call('RPUSH', window, string.format('%.0f', at))
  redis.call('PEXPIRE', window, width)
end
local wait = number < most and 0 or left(number - most)
return {has_room and 1 or 0, number, left(-1), wait, string.format('%.0f', at)}
