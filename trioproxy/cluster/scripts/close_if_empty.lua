#!lua flags=allow-oom
-- Nobody can join any more, if nobody is interested. The request stays held until the end is told.
local fence = ARGV[7]
local no = refusal(fence, 'running', 'closing')
if no then return no end
if interested(now()) > 0 then return {'kept'} end
redis.call('HSET', meta, 'state', 'closing')
return {'closed'}
