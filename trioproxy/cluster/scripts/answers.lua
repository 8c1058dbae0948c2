#!lua flags=no-writes
-- What is asked, by nobody, and what has been answered, by nodes.
return redis.call('HGETALL', KEYS[1])
