-- One more (or ARGV[3] more) of each key within a sliding window of 24 steps: `Counters.hit`. The hash is take.lua's of a day.
-- KEYS: one or more, of one slot. ARGV: seconds of the window, now, how many, milliseconds that a key outlives its window.
-- Answers the count of each key in its window, these included.
local PAST, CELLS = 24, 72
local window, now, amount, slack_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local scaled = now * PAST
local present = (scaled - math.fmod(scaled, window)) / window

local answers = {}
for index, key in ipairs(KEYS) do
  local flat, step, sum, gone = redis.call('HGETALL', key), present, amount, {}
  local head
  for at = 1, #flat, 2 do
    if flat[at] == 'h' then head = tonumber(flat[at + 1]) end
  end
  if head and step < head and head <= step + PAST then step = head end
  if head and (head > step + PAST or head < step - CELLS) then
    redis.call('DEL', key)
    flat = {}
  end
  local here = amount
  for at = 1, #flat, 2 do
    local cell, units = tonumber(flat[at]), tonumber(flat[at + 1])
    if cell and cell <= step - PAST then gone[#gone + 1] = flat[at]
    elseif cell and cell <= step then
      sum = sum + units
      if cell == step then here = here + units end
    end
  end
  if here < 0 then sum, here = sum - here, 0 end  -- taken back after the step had turned
  if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
  local name = string.format('%d', step)
  redis.call('HSET', key, 'h', name, 'r', name, name, string.format('%d', here))
  local ends = (step + PAST) * window / PAST
  redis.call('PEXPIRE', key, string.format('%d', math.max(0, ends - now) * 1000 + slack_ms))
  answers[index] = sum
end
return answers
