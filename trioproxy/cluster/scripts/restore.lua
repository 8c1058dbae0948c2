#!lua
-- What the broker has lost is there again, as its owner knows it.
local fence, about, head, seq, payload = ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11]
local no = refusal(fence, 'running')
if no and no[2] ~= 'unknown' then return no end
if no then
  redis.call('DEL', interest, log)
  redis.call('HSET', meta, 'node', node, 'fence', fence, 'state', 'running', 'last', 0, 'about', about)
  if head ~= '' then
    redis.call('HSET', meta, 'head', string.sub(head, 2))
    append(fence, 0, 'h', string.sub(head, 2))
  end
  if seq ~= '0' then
    append(fence, seq, 'e', payload)
    redis.call('HSET', meta, 'last', seq)
  end
end
redis.call('HSET', meta, 'lease', now() + lease)
local holds = hold_request()
keep(ttl, meta, interest, log)
return {'restored', redis.call('HGET', meta, 'last'), holds and 1 or 0}
