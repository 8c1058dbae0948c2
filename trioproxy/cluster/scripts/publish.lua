#!lua
-- One entry more in each of several logs, unless its events are there already. KEYS are pairs of
-- meta and log. The first argument has of each (as MessagePack) the fence, the seqs behind which and
-- up to which its events are, how many bytes of the second they take there, one after the other, and
-- where it has an alias the key of that and what it stands for. Only what is wrong is told, and of
-- which.
local wrong, begun = {}, 0
local places, payloads = cmsgpack.unpack(ARGV[7]), ARGV[8]
for pair = 1, #KEYS / 2 do
  meta, log = KEYS[2 * pair - 1], KEYS[2 * pair]
  local fence, after, seq, size, name, names = unpack(places[pair])
  local no, last = refusal(fence, 'running')
  if not no and last < after then no = {'behind', last} end
  if no then
    table.insert(wrong, {pair, unpack(no)})
  elseif last < seq then
    append(fence, seq, 'e', string.sub(payloads, begun + 1, begun + size))
    redis.call('HSET', meta, 'last', seq)
    if last == 0 then keep(ttl, log) end -- from then on its owner's renewals do
    if name and redis.call('HSETNX', meta, 'alias', name) == 1 then
      redis.call('SET', name, names, 'PX', ttl)
    end
  end
  begun = begun + size
end
return wrong
