#!lua flags=no-writes
-- What is asked, if somebody still waits for an answer.
return {redis.call('HGET', KEYS[1], '')}
