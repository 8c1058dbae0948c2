#!lua flags=no-writes
-- What is known of a generation.
local no = refusal(false, 'running', 'closing', 'retired', 'ended', 'lost')
if no then return no end
return {'known', unpack(redis.call('HMGET', meta, 'node', 'state', 'about', 'last'))}
