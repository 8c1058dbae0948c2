#!lua flags=allow-oom
-- The node stays interested; who had ceased to be has to join. What is left of the owner's lease.
local no = refusal(false, 'running')
if no then return no end
local at = now()
interested(at)
if not redis.call('ZSCORE', interest, node) then return {'lost'} end
redis.call('ZADD', interest, at + lease, node)
keep(ttl, interest)
return {'kept', redis.call('HGET', meta, 'lease') - at}
