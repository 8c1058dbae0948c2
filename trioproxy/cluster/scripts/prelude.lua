-- What every script begins with. Times are in milliseconds, by the broker's clock.
local holder, meta, interest, log = unpack(KEYS)
local generation, node, lease, ttl, retention, max_entries = unpack(ARGV)

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Why this cannot be done, if the fence (false: any) is another or the state none of these; where it
-- can, the last seq that was published.
local function refusal(fence, ...)
  local state, held, last = unpack(redis.call('HMGET', meta, 'state', 'fence', 'last'))
  if not state then return {'not', 'unknown'} end
  if fence and fence ~= held then return {'fenced', held} end
  for _, allowed in ipairs({...}) do
    if state == allowed then return nil, tonumber(last) end
  end
  return {'not', state}
end

-- The number of nodes that are interested, when those whose interest has run out are forgotten.
local function interested(at)
  redis.call('ZREMRANGEBYSCORE', interest, '-inf', at)
  return redis.call('ZCARD', interest)
end

local function free_request()
  if redis.call('GET', holder) == generation then redis.call('DEL', holder) end
end

-- It is this generation that new requests join, unless it has ended or another runs; whether it is.
local function hold_request()
  if redis.call('HEXISTS', meta, 'has_ended') == 1 then return false end
  redis.call('SET', holder, generation, 'NX', 'PX', ttl)
  if redis.call('GET', holder) ~= generation then return false end
  redis.call('PEXPIRE', holder, ttl)
  return true
end

local function append(fence, seq, field, payload)
  redis.call('XADD', log, 'MAXLEN', '~', max_entries, fence .. '-' .. seq, field, payload)
end

local function keep(time, ...)
  for _, key in ipairs({...}) do redis.call('PEXPIRE', key, time) end
end

-- The key of its alias, if it has one; as the last that is kept.
local function alias() return redis.call('HGET', meta, 'alias') or nil end

local function tell(mailbox, word, request, of, sender)
  redis.call('XADD', mailbox, 'MAXLEN', '~', 1000, '*', 'w', word, 'r', request, 'g', of, 's', sender)
  keep(ttl, mailbox)
end

local function tell_owner(word)
  local lane, request = string.match(holder, '^(tp:{%d+}:)(.*):rk$')
  local owner = redis.call('HGET', meta, 'node')
  tell(lane .. 'n:' .. owner .. ':ctl', word, request, generation, node)
end

-- How many other nodes have of a pool, and how many this one, when those whose lease has run out
-- are forgotten.
local function held(pool, at)
  local others, own, all = 0, 0, redis.call('HGETALL', pool)
  for index = 1, #all, 2 do
    local until_, number = string.match(all[index + 1], '^(%d+) (%d+)$')
    if tonumber(until_) <= at then
      redis.call('HDEL', pool, all[index])
    elseif all[index] == node then
      own = tonumber(number)
    else
      others = others + number
    end
  end
  return others, own
end

local function have(pool, at, number)
  if number == 0 then
    redis.call('HDEL', pool, node)
  else
    redis.call('HSET', pool, node, string.format('%.0f %.0f', at + lease, number))
    keep(ttl, pool)
  end
end
