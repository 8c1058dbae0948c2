#!lua flags=allow-oom
-- The node lives no more.
return {redis.call('ZREM', KEYS[1], node)}
