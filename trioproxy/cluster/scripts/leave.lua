#!lua
-- The node is interested no more; the last one tells the owner.
local left = redis.call('ZREM', interest, node)
if left == 1 and interested(now()) == 0 and not refusal(false, 'running') then
  tell_owner('leave')
end
return {'left'}
