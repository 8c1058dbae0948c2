#!lua
-- The head is known: to who joins from now on, and by the log to who has joined.
local fence, head = ARGV[7], ARGV[8]
local no = refusal(fence, 'running')
if no then return no end
if redis.call('HSETNX', meta, 'head', head) == 1 and redis.call('EXISTS', log) == 0 then
  append(fence, 0, 'h', head)
  keep(ttl, log)
end
return {'opened'}
