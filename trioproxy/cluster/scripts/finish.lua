#!lua
-- The log ends, and is retained.
local fence, last, payload = ARGV[7], tonumber(ARGV[8]), ARGV[9]
local no, published = refusal(fence, 'running', 'closing', 'ended')
if no then return no end
if redis.call('HGET', meta, 'state') == 'ended' then return {'finished'} end
last = math.max(last, published)
append(fence, string.format('%.0f', last + 1), 'o', payload)
redis.call('HSET', meta, 'state', 'ended', 'last', last)
redis.call('DEL', interest)
free_request()
keep(retention, meta, log, alias())
return {'finished'}
