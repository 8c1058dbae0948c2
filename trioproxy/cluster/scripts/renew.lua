#!lua flags=allow-oom
-- The owner holds each of several for a lease more. KEYS are the four of each, and for each there are
-- two arguments. Told is of each the number of nodes that are interested, or why it is not held.
local at = now()

local function renew(fence)
  local no = refusal(fence, 'running', 'closing')
  if no then return no end
  redis.call('HSET', meta, 'lease', at + lease, 'state', 'running')
  hold_request()
  keep(ttl, meta, interest, log, alias())
  return {'renewed', interested(at)}
end

local replies = {}
for number = 1, #KEYS / 4 do
  local fence
  holder, meta, interest, log = unpack(KEYS, 4 * number - 3, 4 * number)
  generation, fence = unpack(ARGV, 2 * number + 5, 2 * number + 6)
  replies[number] = renew(fence)
end
return replies
