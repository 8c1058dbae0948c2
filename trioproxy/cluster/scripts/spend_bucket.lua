#!lua
-- So much is taken out of a bucket, if it is there; or put back (below 0), or only looked at (0).
-- What was taken flows back as time goes by: how much has not.
local cost, burst, per_ms = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9] / 60000
local bucket, at = KEYS[1], now()
local taken, since = unpack(redis.call('HMGET', bucket, 'taken', 'at'))
taken = math.max(0, (taken or 0) - math.max(0, at - (since or at)) * per_ms)
local is_there = taken + cost - burst <= 1e-9
if is_there and cost ~= 0 then
  taken = math.max(0, taken + cost)
  redis.call('DEL', bucket)
  if taken > 0 then
    redis.call('HSET', bucket, 'taken', string.format('%.17g', taken), 'at', string.format('%.0f', at))
    redis.call('PEXPIRE', bucket, math.ceil(taken / per_ms))
  end
end
return {is_there and 1 or 0, string.format('%.17g', taken)}
