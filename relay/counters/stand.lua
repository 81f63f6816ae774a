-- Who does not stand well, for all gateways to read: KEYS[1] is a hash of name to level, KEYS[2] counts its changes, KEYS[3] releases.
-- ARGV: name, level ("0": well), "1" where a person released.
local before = redis.call('HGET', KEYS[1], ARGV[1]) or '0'
if before ~= ARGV[2] then
  if ARGV[2] == '0' then redis.call('HDEL', KEYS[1], ARGV[1]) else redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
  redis.call('INCR', KEYS[2])
end
if ARGV[3] == '1' then redis.call('INCR', KEYS[3]) end
return 1
