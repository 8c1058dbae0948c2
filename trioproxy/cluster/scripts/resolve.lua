#!lua flags=no-writes
-- The request and the id of the generation that has this alias.
return {redis.call('GET', KEYS[1])}
