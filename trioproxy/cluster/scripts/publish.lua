#!lua
-- One entry more in each of several logs, unless its events are there already. KEYS are pairs of
-- meta and log. The first argument has of each (as MessagePack) the fence, and the seqs behind which and
-- up to which its events are; the others are those events. Only what is wrong is told, and of which.
local wrong = {}
local places = cmsgpack.unpack(ARGV[7])
for pair = 1, #KEYS / 2 do
  meta, log = KEYS[2 * pair - 1], KEYS[2 * pair]
  local fence, after, seq = unpack(places[pair])
  local no, last = refusal(fence, 'running')
  if not no and last < after then no = {'behind', last} end
  if no then
    table.insert(wrong, {pair, unpack(no)})
  elseif last < seq then
    append(fence, seq, 'e', ARGV[7 + pair])
    redis.call('HSET', meta, 'last', seq)
    if last == 0 then keep(ttl, log) end -- from then on its owner's renewals do
  end
end
return wrong
