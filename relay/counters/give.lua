-- Takes back what take.lua charged for an id, as if it had never been asked; nothing where it was not, or is given back already.
-- A theoretical arrival time is moved back by what the charge had moved it on, so charges made in between stay.
--
-- KEYS: as take.lua, the last one of who was met, if any is. ARGV: for each limit the units that its charge took of a rate, and the
-- nanoseconds of one, where the rate does not say so itself; 0 0 for a day.
local NS = 1e9
local kept = redis.call('GET', KEYS[1])
if not kept then return 0 end
redis.call('DEL', KEYS[1])
local none = {}  -- rates that were not asked, so that they were not charged either
for index in string.gmatch(kept, '\n(%d+) none 0') do none[tonumber(index)] = true end
for index = 1, #ARGV / 2 do
  local units = tonumber(ARGV[2 * index - 1])
  local tat = units > 0 and not none[index] and redis.call('GET', KEYS[index + 1])
  if tat then
    local s, n, made, ahead = string.match(tat, '^(%d+) (%d+) (%d+) (%d+)$')
    if not s then s, n = string.match(tat, '^(%d+) (%d+)$') end
    local taken = units * (made or ARGV[2 * index])
    local rest = math.fmod(taken, NS)
    s, n = s - (taken - rest) / NS, n - rest
    if n < 0 then s, n = s - 1, n + NS end
    local text = string.format('%d %d', s, n)
    if made then text = text .. string.format(' %s %d', made, math.max(0, ahead - taken)) end
    redis.call('SET', KEYS[index + 1], text, 'KEEPTTL')
  end
end
for index, step, units in string.gmatch(kept, '\n(%d+) (%w+) (%d+)') do
  local key = KEYS[index + 1]
  local mark = string.match(step, '^k(%d+)$')
  if mark then redis.call('SETRANGE', KEYS[#KEYS], mark, string.rep('\0', 4)) end
  local there = (mark or step == 'none') and 0 or tonumber(redis.call('HGET', key, step) or 0)
  if there > 0 then redis.call('HSET', key, step, string.format('%d', math.max(0, there - units))) end
end
return 1
