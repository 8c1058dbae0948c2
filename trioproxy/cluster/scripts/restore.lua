#!lua
-- What the broker has lost is there again, as its owner knows it. Who was interested is not known:
-- the owner stands for them, for a lease.
local fence, about, head, seq, payload, wanted = unpack(ARGV, 7, 12)
local no = refusal(fence, 'running')
if no and no[2] ~= 'unknown' then return no end
if no then
  redis.call('DEL', interest, log)
  if wanted == '1' then redis.call('ZADD', interest, now() + lease, node) end
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
keep(ttl, meta, interest, log, alias())
return {'restored', redis.call('HGET', meta, 'last'), holds and 1 or 0}
