#!lua
-- The node has so many of what all nodes may have so many of, for a lease, unless that is too many.
local number, most = tonumber(ARGV[7]), tonumber(ARGV[8])
local at = now()
local others = held_by_others(KEYS[1], at)
if others + number > most then return {'full', others} end
have(KEYS[1], at, number)
return {'held', others}
