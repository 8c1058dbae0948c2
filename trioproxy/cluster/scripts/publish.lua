#!lua
-- One entry more in each of several logs, unless its events are there already. KEYS are pairs of
-- meta and log, and for each there are four arguments.
local function publish(fence, after, seq, payload)
  local no = refusal(fence, 'running')
  if no then return no end
  local last = tonumber(redis.call('HGET', meta, 'last'))
  if last < tonumber(after) then return {'behind', last} end
  if last < tonumber(seq) then
    append(fence, seq, 'e', payload)
    redis.call('HSET', meta, 'last', seq)
    keep(ttl, log)
  end
  return {'published'}
end

local replies = {}
for pair = 1, #KEYS / 2 do
  meta, log = KEYS[2 * pair - 1], KEYS[2 * pair]
  replies[pair] = publish(unpack(ARGV, 4 * pair + 3, 4 * pair + 6))
end
return replies
