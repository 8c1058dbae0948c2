#!lua
-- A question is put to the nodes that live, or to one of them: who is asked.
local survey, nodes = KEYS[1], KEYS[2]
local request, of, question, only, patience = ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11]
redis.call('ZREMRANGEBYSCORE', nodes, '-inf', now())
redis.call('HSET', survey, '', question)
keep(patience, survey)
local asked, lane = {}, string.sub(nodes, 1, -#'nodes' - 1)
for _, other in ipairs(redis.call('ZRANGE', nodes, 0, -1)) do
  if other ~= node and (only == '' or only == other) then
    tell(lane .. 'n:' .. other .. ':ctl', 'ask', request, of, node)
    table.insert(asked, other)
  end
end
return asked
