-- KEYS[1] is blocked until ARGV[1] (whole nanoseconds as text, of one length, so that text compares as the number does).
-- ARGV[2]: milliseconds to keep it. An earlier end does not shorten a block.
local until_ns = redis.call('GET', KEYS[1])
if until_ns and until_ns >= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
