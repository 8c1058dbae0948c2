#!lua
-- The request is this generation's, unless another runs for it.
local about = ARGV[7]
local function running(id, owner, fence, until_, state)
  return {'running', id, owner, fence, until_ - now(), state}
end

local held_by = redis.call('GET', holder)
if held_by and held_by ~= generation then
  local of_holder = string.sub(holder, 1, -3) .. held_by .. ':m'
  local state, owner, fence, until_ = unpack(redis.call('HMGET', of_holder, 'state', 'node', 'fence', 'lease'))
  if state == 'running' or state == 'closing' then return running(held_by, owner, fence, until_, state) end
end
local no = refusal(false, 'running')
if no and no[2] ~= 'unknown' then return no end
if no then
  redis.call('HSET', meta, 'node', node, 'fence', 1, 'state', 'running', 'lease', now() + lease, 'last', 0, 'about', about)
  keep(ttl, meta)
end
local owner, fence, until_ = unpack(redis.call('HMGET', meta, 'node', 'fence', 'lease'))
if owner ~= node then return running(generation, owner, fence, until_, 'running') end
redis.call('SET', holder, generation, 'PX', ttl)
return {'owner', fence}
