#!lua
-- The node has so many of what all nodes may have so many of, for a lease; or as many as there is
-- room for, and what it had.
local number, most = tonumber(ARGV[7]), tonumber(ARGV[8])
local at = now()
local others, own = held(KEYS[1], at)
number = math.min(number, math.max(most - others, own))
have(KEYS[1], at, number)
return {'held', number}
