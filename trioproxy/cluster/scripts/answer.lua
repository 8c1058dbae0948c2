#!lua
-- An answer, of which the node that asked is told; one that comes too late goes nowhere.
local survey, mailbox, request, of, answer = KEYS[1], KEYS[2], ARGV[7], ARGV[8], ARGV[9]
if redis.call('EXISTS', survey) == 0 then return {'late'} end
redis.call('HSET', survey, node, answer)
tell(mailbox, 'answered', request, of, node)
return {'answered'}
