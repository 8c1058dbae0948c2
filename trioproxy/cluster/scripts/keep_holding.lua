#!lua flags=allow-oom
-- The node has so many for a lease more, however many there are; with 0 of them nothing.
local number = tonumber(ARGV[7])
local at = now()
local others = held(KEYS[1], at)
have(KEYS[1], at, number)
return {'kept', others}
