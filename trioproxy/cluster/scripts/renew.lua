#!lua flags=allow-oom
-- The owner holds it for a lease more; the number of nodes that are interested.
local fence = ARGV[7]
local no = refusal(fence, 'running', 'closing')
if no then return no end
local at = now()
redis.call('HSET', meta, 'lease', at + lease, 'state', 'running')
hold_request()
keep(ttl, meta, interest, log)
return {'renewed', interested(at)}
