#!lua flags=allow-oom
-- The node stays interested in each of several; who had ceased to be has to join. KEYS are the four of
-- each. Told is of each what is left of the owner's lease, or why it is not so.
local at = now()

local function stay()
  local no = refusal(false, 'running')
  if no then return no end
  interested(at)
  if not redis.call('ZSCORE', interest, node) then return {'ceased'} end
  redis.call('ZADD', interest, at + lease, node)
  keep(ttl, interest)
  return {'kept', redis.call('HGET', meta, 'lease') - at}
end

local replies = {}
for number = 1, #KEYS / 4 do
  holder, meta, interest, log = unpack(KEYS, 4 * number - 3, 4 * number)
  replies[number] = stay()
end
return replies
