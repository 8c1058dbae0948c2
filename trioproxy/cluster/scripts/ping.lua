#!lua flags=allow-oom
-- For how long the broker's memory has lived, by when the first asked.
local at = now()
redis.call('SET', KEYS[1], string.format('%.0f', at), 'NX', 'PX', ttl)
keep(ttl, KEYS[1])
return {'pong', at - redis.call('GET', KEYS[1])}
