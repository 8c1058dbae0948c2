#!lua flags=allow-oom
-- It has ended, and nobody has asked for its log: the owner keeps it, for who comes to ask.
local fence = ARGV[7]
local no = refusal(fence, 'running', 'closing', 'retired')
if no then return no end
if interested(now()) > 0 then return {'kept'} end
redis.call('HSET', meta, 'state', 'retired', 'has_ended', 1, 'last', 0)
redis.call('HDEL', meta, 'head')
redis.call('DEL', log, interest)
free_request()
keep(retention, meta, alias())
return {'retired'}
