#!lua
-- One entry more, unless its events are there already.
local fence, after, seq, payload = ARGV[7], tonumber(ARGV[8]), ARGV[9], ARGV[10]
local no = refusal(fence, 'running')
if no then return no end
local last = tonumber(redis.call('HGET', meta, 'last'))
if last < after then return {'behind', last} end
if last < tonumber(seq) then
  append(fence, seq, 'e', payload)
  redis.call('HSET', meta, 'last', seq)
  keep(ttl, log)
end
return {'published'}
