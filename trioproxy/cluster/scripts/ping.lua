#!lua flags=allow-oom
-- For how long the broker's memory has lived, by when the first asked; who asks lives for a lease.
local at = now()
redis.call('SET', KEYS[1], string.format('%.0f', at), 'NX', 'PX', ttl)
redis.call('ZADD', KEYS[2], at + lease, node)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', at)
keep(ttl, KEYS[1], KEYS[2])
return {'pong', at - redis.call('GET', KEYS[1])}
