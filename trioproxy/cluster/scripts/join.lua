#!lua
-- The node is interested, if the generation runs, or is to be read again; the first one wakes the
-- owner, which has a lease's time to answer for what it had put by.
local revive = ARGV[7] == '1'
local no = refusal(false, 'running', revive and 'retired')
if no then return no end
local at = now()
if redis.call('HGET', meta, 'state') == 'retired' then
  redis.call('HSET', meta, 'state', 'running', 'lease', at + lease)
  keep(ttl, meta)
end
local before = interested(at)
redis.call('ZADD', interest, at + lease, node)
keep(ttl, interest)
if before == 0 then tell_owner('wake') end
local owner, fence, until_, last, head, about = unpack(redis.call('HMGET', meta, 'node', 'fence', 'lease', 'last', 'head', 'about'))
return {'joined', owner, fence, until_ - at, last, head, about}
