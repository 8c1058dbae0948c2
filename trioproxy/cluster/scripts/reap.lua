#!lua
-- A generation whose lease has run out is lost: a higher fence holds, and its log ends.
local payload = ARGV[7]
local no = refusal(false, 'running', 'closing', 'lost')
if no then return no end
local state, fence, until_, last = unpack(redis.call('HMGET', meta, 'state', 'fence', 'lease', 'last'))
if state == 'lost' then return {'lost'} end
if tonumber(until_) > now() then return {'held'} end
fence = string.format('%.0f', fence + 1)
append(fence, string.format('%.0f', last + 1), 'o', payload)
redis.call('HSET', meta, 'state', 'lost', 'fence', fence)
redis.call('DEL', interest)
free_request()
keep(retention, meta, log, alias())
return {'lost'}
