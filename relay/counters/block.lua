-- KEYS[1] is blocked until ARGV[1] (whole nanoseconds as text, of one length, so that text compares as the number does).
-- ARGV[2]: milliseconds to keep it; ARGV[3]: now, whole seconds; ARGV[4]: seconds that clocks may be apart. An earlier end does not
-- shorten a block, unless a clock that was ahead began it. Kept is the end and when it began.
local known = redis.call('GET', KEYS[1])
if known then
  local until_ns, began = string.match(known, '^(%d+) (%d+)$')
  if until_ns and tonumber(began) <= ARGV[3] + ARGV[4] and until_ns >= ARGV[1] then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[3], 'PX', ARGV[2])
return 1
