-- Puts ARGV[2] in the place of ARGV[1] at KEYS[1] ("" stands for nothing there), kept for ARGV[3] milliseconds.
-- Answers false where it is done (again: what a lost answer makes us repeat is done once), else what lies there.
local there = redis.call('GET', KEYS[1]) or ''
if there == ARGV[2] then return false end
if there ~= ARGV[1] then return there end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return false
