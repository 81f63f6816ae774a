-- Every limit of one message, charged together or not at all: see `Counters.take` in contract.py for the promise, and
-- answer.py with cell_rate.py for the same arithmetic in Python. A property test holds the two against each other.
--
-- Numbers here are doubles, exact up to 2^53. Wall time in nanoseconds is beyond that, so a time is kept as seconds and
-- nanoseconds, and reckoned with as its distance from now: exact to 104 days, where 4 are the most that counts.
--
-- A rate is the string "seconds nanoseconds interval ahead": its theoretical arrival time, the nanoseconds that a unit took of who
-- wrote it, and how far ahead it was then; an older version wrote the first two only. A day is a hash: `h` its present step, `r` the
-- last step that is charged, and the units of each step under the step's number.
--
-- KEYS: what was answered to this id, then one for each limit. ARGV: one string of little-endian doubles, quicker to write and read
-- than so many arguments: charge (0: only look), now, its whole seconds and nanoseconds, park, most that may wait (0: any),
-- earliest time to leave, milliseconds that an answer is kept, milliseconds that a key outlives its use, whether it waits for what is
-- in another slot; then of each limit:
-- amount, period in seconds, burst, units to charge, nanoseconds that one takes, and of a warm-up when it began and how many days
-- it is behind, a hash of the units of each of its days under the day's number
-- (else 0 0, and 0 -1 of a limit that several tenants share, where what waits is nobody's to count; -1 0 where it only counts
-- what is sudden, see sudden.py: a hash of `b` when that began, `l` the last spell, and the units of each spell and day under s and d with its number; -2 and the days to be counted first for a campaign, which
-- also has the largest day of each span of three under p; -3 of a rate that is asked where nothing else makes the message wait, and
-- -4, which comes after it, of one that is asked where something does: the other of the two answers nothing and is not charged; what
-- makes it wait is anything but a rate of -3 that comes later).
-- Then the marks of the recipients, for the limit that counts those of the first time, and its place (else nothing and 0); whom the
-- account has written to is in the last key, see known.py: 16 digits say since when and 24 how long it is kept, then each bucket has its
-- marks, their weeks, and whether some lie deeper.
-- Answers "granted due limit backlog sudden waits": the limit is its place, from 1, or 0 where none bit; due "inf" is never; waits is 1
-- where a rate of -3 makes it wait, which those after it go by, and 2 where something else does.
local DAY, PAST, FUTURE, HORIZON, NS = 86400, 24, 48, 172800, 1e9
local WARM_UP_HORIZON = 14 * DAY
local HISTORY, SPELL, HOUR_SPELLS, DAY_SPELLS, KEPT = 14, 300, 12, 288, 400 * DAY
local SPAN, SPANS = 3, 30
local CELLS, NEVER = PAST + FUTURE, math.huge
local HEAD, EACH = 10, 7
local AT_ONCE, IN_LINE = -3, -4
local COUNT = (#ARGV[1] / 8 - HEAD) / EACH
local asked = {struct.unpack('<' .. string.rep('d', HEAD + EACH * COUNT), ARGV[1])}
local people, people_of = ARGV[2], tonumber(ARGV[3])
local charge, now, now_s, now_n, park = asked[1] == 1, asked[2], asked[3], asked[4], asked[5] == 1
local max_parked, wanted, keep_ms, slack_ms, waits = asked[6], asked[7], asked[8], asked[9], asked[10] == 1

if charge then
  local answered = redis.call('GET', KEYS[1])
  if answered then return string.match(answered, '^[^\n]*') end
end

-- a // b as Python has it for floats: by the exact remainder, so that no rounding carries a time into the next step.
local function whole(a, b) return (a - math.fmod(a, b)) / b end

local function step_of(time, period) return whole(time * PAST, period) end

local function pair(ahead)  -- now + ahead nanoseconds, as seconds and nanoseconds
  local n = now_n + ahead
  local rest = math.fmod(n, NS)
  return now_s + (n - rest) / NS, rest
end

-- ahead * to / from, rounded up; exact though the product may be beyond 2^53, by long division, a digit of `to` after the other.
local function scaled(ahead, to, from)
  local rest, sum, left, place = math.fmod(ahead, from), 0, 0, 32 ^ 9
  while place >= 1 do
    local digits = left * 32 + math.fmod(whole(to, place), 32) * rest
    sum, left, place = sum * 32 + whole(digits, from), math.fmod(digits, from), place / 32
  end
  return whole(ahead, from) * to + sum + (left > 0 and 1 or 0)
end

local function ask_rate(key, limit)
  local ahead = 0
  local kept = redis.call('GET', key)
  if kept then
    local s, n, made, level = string.match(kept, '^(%d+) (%d+) (%d+) (%d+)$')
    if not s then s, n = string.match(kept, '^(%d+) (%d+)$') end
    -- Further ahead than anything may reserve: written by a clock that was wrong, so it counts for nothing.
    if s - now_s <= 3 * HORIZON then
      ahead = (s - now_s) * NS + (n - now_n)
      if ahead < 0 or ahead > 2 * HORIZON * NS then ahead = 0 end
    end
    made = tonumber(made or 0)
    if ahead > 0 and made > 0 and made ~= limit.interval then  -- `tat_as` in cell_rate.py
      local since = limit.interval < made and math.max(0, level - ahead) or 0
      ahead = math.max(0, math.min(scaled(ahead + since, limit.interval, made) - since, 2 * HORIZON * NS))
    end
  end
  local tat = ahead + limit.cost * limit.interval
  local free = tat - math.max(limit.burst, 1) * limit.interval
  local answer = {due = 0, leaves = 0, backlog = 0, tat = tat}
  if free > 0 then
    local s, n = pair(free)
    answer.due = s + n / NS
    answer.backlog = whole(free, limit.interval) + (math.fmod(free, limit.interval) > 0 and 1 or 0)
  end
  return answer
end

local function ask_warm_up(key, limit)
  local units, reserved, today = {}, 0, math.max(0, whole(now - limit.since, DAY))
  local flat = redis.call('HGETALL', key)
  for at = 1, #flat, 2 do
    local day, count = tonumber(flat[at]), tonumber(flat[at + 1])
    units[day] = count
    if day > today then reserved = reserved + count end
  end
  for day = today, CELLS - 1 do
    local amount = limit.amount * 2 ^ math.min(math.max(day - limit.behind, 0), 32)
    if amount >= limit.burst then amount = nil end
    local there = units[day] or 0
    if not amount or there + limit.cost <= amount then
      local pieces = {{day, limit.cost}}
      if day == today then return {due = 0, leaves = 0, backlog = reserved, warm = pieces} end
      local due = limit.since + (day + (amount and there / amount or 0)) * DAY
      return {due = due, leaves = 0, backlog = reserved + limit.cost, warm = pieces}
    end
  end
  return {due = today >= CELLS and 0 or NEVER, leaves = 0, backlog = reserved}
end

local function ask_sudden(key, limit)
  local flat, last, began, gone = redis.call('HGETALL', key), 0, nil, {}
  for at = 1, #flat, 2 do
    if flat[at] == 'l' then last = tonumber(flat[at + 1]) elseif flat[at] == 'b' then began = tonumber(flat[at + 1]) end
  end
  local spell, hour, before, largest, here = whole(now, SPELL), limit.cost, 0, 0, 0
  if spell < last and last <= spell + DAY_SPELLS then spell = last end
  local today, stale = whole(spell, DAY_SPELLS), not began or spell < last
  local span = whole(today, SPAN)
  for at = 1, stale and 0 or #flat, 2 do
    local kind, number = string.match(flat[at], '^([sdp])(%d+)$')
    local units = tonumber(flat[at + 1])
    number = tonumber(number)
    if kind == 's' and number > spell - HOUR_SPELLS then hour = hour + units
    elseif kind == 'd' and number >= today - HISTORY then
      if number == today then here = units
      else
        before = before + units
        if number >= span * SPAN then largest = math.max(largest, units) end
      end
    elseif kind == 'p' and number >= span - SPANS then
      if number < span then largest = math.max(largest, units) end
    elseif kind then gone[#gone + 1] = flat[at] end
  end
  local campaign, sudden = limit.since == -2
  if campaign then
    sudden = (limit.behind == 0 or (began and now - began >= limit.behind * DAY)) and hour > limit.burst * largest
    if stale then sudden = limit.behind == 0 end
  else
    sudden = not stale and now - began >= HISTORY * DAY and hour * HISTORY > limit.burst * before
  end
  local count = {spell = spell, today = today, stale = stale, gone = gone, cost = limit.cost}
  if campaign then count.span, count.day = span, here + limit.cost end
  return {due = 0, leaves = 0, backlog = 0, sudden = sudden and hour > limit.amount and hour or 0, count = count}
end

local function write_sudden(key, count)
  if count.stale then
    redis.call('DEL', key)
    redis.call('HSET', key, 'b', string.format('%d', math.max(1, math.floor(now))))
  elseif #count.gone > 0 then
    redis.call('HDEL', key, unpack(count.gone))
  end
  redis.call('HSET', key, 'l', string.format('%d', count.spell))
  redis.call('HINCRBY', key, string.format('s%d', count.spell), count.cost)
  redis.call('HINCRBY', key, string.format('d%d', count.today), count.cost)
  if count.span then
    local field = string.format('p%d', count.span)
    if count.day > tonumber(redis.call('HGET', key, field) or 0) then redis.call('HSET', key, field, count.day) end
  end
  redis.call('PEXPIRE', key, string.format('%d', KEPT * 1000))
end

local function read_day(key, limit)
  local row = {cells = {}, step = step_of(now, limit.period), past = 0, ahead = 0}
  local flat = redis.call('HGETALL', key)
  for at = 1, #flat, 2 do
    local field, value = flat[at], tonumber(flat[at + 1])
    if field == 'h' then row.head = value
    elseif field == 'r' then row.last = value
    else row.cells[tonumber(field)] = value end
  end
  local head = row.head
  -- A wall clock that is set back does not bring old room back.
  if head and row.step < head and head <= row.step + PAST then row.step = head end
  row.stale = head and (head > row.step + PAST or head < row.step - CELLS)
  if row.stale then row.cells, row.last = {}, nil end
  for at, units in pairs(row.cells) do
    if at > row.step then row.ahead = row.ahead + units
    elseif at > row.step - PAST then row.past = row.past + units end
  end
  return row
end

local function windows(counts)  -- sums of the windows that end at each step from now on, from 0
  local sums, sum = {}, 0
  for at = -PAST + 1, FUTURE do
    sum = sum + counts[at] - (counts[at - PAST] or 0)
    if at >= 0 then sums[at] = sum end
  end
  return sums
end

local function first_room(sums, amount, cost, start)
  local step = start
  while step <= FUTURE do
    local full
    for last = math.min(step + PAST - 1, FUTURE), step, -1 do
      if sums[last] + cost > amount then full = last break end
    end
    if not full then return step end
    step = full + 1
  end
  return nil
end

local function spread(counts, amount, cost, start)
  local row, pieces = {}, {}
  for at = -PAST + 1, FUTURE do row[at] = counts[at] end
  for step = start, FUTURE do
    local sums, most = windows(row), 0
    for last = step, math.min(step + PAST - 1, FUTURE) do most = math.max(most, sums[last]) end
    local piece = math.min(cost, amount - most)
    if piece > 0 then
      pieces[#pieces + 1] = {step, piece}
      row[step] = row[step] + piece
      cost = cost - piece
    end
    if cost == 0 then return pieces end
  end
  return nil
end

local function time_of(row, limit, step, earliest)
  if step == 0 then return 0 end
  local width = limit.period / PAST
  if not step then return (row.step + FUTURE + 1) * width end
  local filled = math.min(row.counts[step] / limit.amount, 1)
  return math.max(earliest, (row.step + step + filled) * width)
end

local function common_step(rows, own)  -- the first step with room in all, from the latest that one of them found
  local found, settled = 0, false
  for at = 1, #rows do found = math.max(found, own[at] or FUTURE + 1) end
  while found and not settled do
    settled = true
    for _, row in ipairs(rows) do
      local limit = row.limit
      if limit.cost <= limit.amount then
        local step = first_room(row.sums, limit.amount, limit.cost, found)
        if step ~= found then found, settled = step, false break end
      end
    end
  end
  return found
end

local function place(row, own, common, start, earliest)
  local limit = row.limit
  if limit.cost > limit.amount then
    local pieces = park and common and spread(row.counts, limit.amount, limit.cost, common)
    if not pieces then return {due = NEVER, leaves = 0, backlog = row.ahead} end
    local due = time_of(row, limit, pieces[#pieces][1], earliest)
    return {due = due, leaves = due, backlog = row.ahead + limit.cost, pieces = pieces}
  end
  local later = common and common > 0
  return {
    due = own == start and 0 or time_of(row, limit, own, earliest), leaves = time_of(row, limit, common, earliest),
    backlog = row.ahead + (later and limit.cost or 0), pieces = {{common or 0, limit.cost}},
  }
end

local function ask_days(rows, earliest, answers)
  local quick = true
  for _, row in ipairs(rows) do
    local later = earliest > now and step_of(earliest, row.limit.period) > row.step
    if later or row.ahead > 0 or row.past + row.limit.cost > row.limit.amount then quick = false end
  end
  local own, period = {}, rows[1].limit.period
  local start = step_of(earliest, period) - step_of(now, period)
  for at, row in ipairs(rows) do
    if quick then
      answers[row.index] = {due = 0, leaves = 0, backlog = 0, pieces = {{0, row.limit.cost}}}
    else
      row.counts = {}
      for step = -PAST + 1, FUTURE do row.counts[step] = row.cells[row.step + step] or 0 end
      row.sums = windows(row.counts)
      own[at] = start
      if row.limit.cost <= row.limit.amount then
        own[at] = first_room(row.sums, row.limit.amount, row.limit.cost, start) or false
      end
    end
  end
  if quick then return end
  local common = common_step(rows, own)
  for at, row in ipairs(rows) do answers[row.index] = place(row, own[at], common, start, earliest) end
end

local function write_day(key, row, answer)
  local last, fields, gone = row.last or row.step, {'h', row.step}, {}
  if row.stale then redis.call('DEL', key) end
  for at, units in pairs(row.cells) do
    if at <= row.step - PAST then gone[#gone + 1] = string.format('%d', at) end
  end
  if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
  for _, piece in ipairs(answer.pieces) do
    local at = row.step + piece[1]
    last = math.max(last, at)
    fields[#fields + 1] = string.format('%d', at)
    fields[#fields + 1] = string.format('%d', (row.cells[at] or 0) + piece[2])
  end
  fields[2] = string.format('%d', row.step)
  fields[#fields + 1] = 'r'
  fields[#fields + 1] = string.format('%d', last)
  redis.call('HSET', key, unpack(fields))
  local ends = (last + PAST) * row.limit.period / PAST
  redis.call('PEXPIRE', key, string.format('%d', math.max(0, ends - now) * 1000 + slack_ms))
end

-- Whom the account has written to.
local PLACES, MARK, BUCKET, WEEK, KEPT_WEEKS = 57, 4, 286, 7 * DAY, 52
local LEVELS, STARTS, NOBODY = {1, 8, 64, 512}, {0, 1, 9, 73}, string.rep('\0', 4)
local week, buckets = math.fmod(whole(now, WEEK), 256), {}
local began, is_over, kept_until = 0, true, 0

local function lives(age)
  local past = math.fmod(week - age + 256, 256)
  return past <= KEPT_WEEKS or past >= 248
end

local function bucket_of(mark, level)  -- its text and where it lies
  local a, b, c, d = string.byte(mark, 1, MARK)
  local offset = 40 + (STARTS[level] + math.fmod(((a * 256 + b) * 256 + c) * 256 + d, LEVELS[level])) * BUCKET
  if not buckets[offset] then
    local kept = is_over and '' or redis.call('GETRANGE', KEYS[#KEYS], offset, offset + BUCKET - 1)
    buckets[offset] = kept .. string.rep('\0', BUCKET - #kept)
  end
  return buckets[offset], offset
end

local function place_of(bucket, mark)
  local from = string.find(bucket, mark, 1, true)
  while from and from <= PLACES * MARK - MARK + 1 do
    if math.fmod(from - 1, MARK) == 0 then return (from - 1) / MARK end
    from = string.find(bucket, mark, from + 1, true)
  end
  return nil
end

local function free_of(bucket)
  for at = 0, PLACES - 1 do
    if string.sub(bucket, at * MARK + 1, at * MARK + MARK) == NOBODY then return at end
    if not lives(string.byte(bucket, PLACES * MARK + at + 1)) then return at end
  end
  return nil
end

local function way_of(mark)  -- where it lives, if it does, and where there is a place for it
  local free
  for level = 1, #LEVELS do
    local bucket, offset = bucket_of(mark, level)
    local at = place_of(bucket, mark)
    local age = at and string.byte(bucket, PLACES * MARK + at + 1)
    if at and lives(age) then return {level = level, offset = offset, at = at, age = age} end
    if not free then
      local place = free_of(bucket)
      if place then free = {level = level, offset = offset, at = place} end
    end
    if free and string.byte(bucket, BUCKET) == 0 then break end
  end
  return nil, free
end

local function met()  -- the marks of strangers, and of who is known but not of this week
  local strangers, seen = {}, {}
  for from = 1, #people, MARK do
    local mark = string.sub(people, from, from + MARK - 1)
    local home, free = way_of(mark)
    if home then
      if home.age ~= week then seen[#seen + 1] = mark end
    elseif free then
      strangers[#strangers + 1] = mark
    end
  end
  return strangers, seen
end

local function patch(offset, from, text)  -- in the key, and in what is read of it
  redis.call('SETRANGE', KEYS[#KEYS], offset + from, text)
  local bucket = buckets[offset]
  buckets[offset] = string.sub(bucket, 1, from) .. text .. string.sub(bucket, from + #text + 1)
end

local function remember(marks, kept)
  for _, mark in ipairs(marks) do
    local home, free = way_of(mark)
    local place = home or free
    if place then
      for level = 1, place.level - 1 do
        local bucket, offset = bucket_of(mark, level)
        if string.byte(bucket, BUCKET) == 0 then patch(offset, BUCKET - 1, '\1') end
      end
      if not home then
        patch(place.offset, place.at * MARK, mark)
        kept[#kept + 1] = string.format('0 k%d 0', place.offset + place.at * MARK)
      end
      patch(place.offset, PLACES * MARK + place.at, string.char(week))
    end
  end
end

local strangers, seen, is_judged = {}, {}, false
if people_of > 0 then
  local head = redis.call('GETRANGE', KEYS[#KEYS], 0, 39)
  if #head == 40 then
    kept_until = tonumber(string.sub(head, 17))
    is_over = kept_until < now
    began = is_over and 0 or tonumber(string.sub(head, 1, 16))
  end
  strangers, seen = met()
  local wanted_days = asked[HEAD + people_of * EACH]
  is_judged = #strangers > 0 and (wanted_days == 0 or (began > 0 and now - began >= wanted_days * DAY))
end

local limits, answers, rows, earliest = {}, {}, {}, math.max(now, wanted)
local apart = {}  -- rates of AT_ONCE and IN_LINE

local function ask_pace(index)
  local limit, answer = limits[index], ask_rate(KEYS[index + 1], limits[index])
  answers[index] = answer
  if not park and limit.cost > math.max(limit.burst, 1) then
    answers[index] = {due = NEVER, leaves = 0, backlog = 0}
  elseif park and answer.due > earliest then
    earliest = answer.due
  end
end

for index = 1, COUNT do
  local from = HEAD + (index - 1) * EACH
  local limit = {
    amount = asked[from + 1], period = asked[from + 2], burst = asked[from + 3], cost = asked[from + 4],
    interval = asked[from + 5], since = asked[from + 6], behind = asked[from + 7],
  }
  limits[index] = limit
  if index == people_of then limit.cost = #strangers end
  if index == people_of and not is_judged then
    answers[index] = {due = 0, leaves = 0, backlog = 0}
  elseif limit.amount <= 0 then
    answers[index] = {due = NEVER, leaves = 0, backlog = 0}
  elseif limit.since <= AT_ONCE then
    apart[#apart + 1] = index
    answers[index] = {due = 0, leaves = 0, backlog = 0}
  elseif limit.since < 0 then
    answers[index] = ask_sudden(KEYS[index + 1], limit)
  elseif limit.since > 0 then
    answers[index] = ask_warm_up(KEYS[index + 1], limit)
  elseif limit.period >= DAY then
    local row = read_day(KEYS[index + 1], limit)
    row.index, row.limit = index, limit
    rows[#rows + 1] = row
  else
    ask_pace(index)
  end
end
if #rows > 0 then ask_days(rows, earliest, answers) end
local word = 0  -- whether it waits, for who asks the other slots
do
  local due, before, has_line, used, later = 0, earliest, false, false, false
  for _, answer in ipairs(answers) do due = math.max(due, answer.due, answer.leaves) end
  if due > now then waits, word = true, 2 end
  for _, index in ipairs(apart) do has_line = has_line or limits[index].since == IN_LINE end
  for _, index in ipairs(apart) do  -- narrow before wide; of a pair AT_ONCE comes first
    if limits[index].since == AT_ONCE then
      used = not (waits and has_line)
      if used then
        ask_pace(index)
        later = later or answers[index].due > now
      end
    else
      if not used then ask_pace(index) end
      waits = waits or later
    end
  end
  if later and word == 0 then word = 1 end
  if #rows > 0 and earliest > before then ask_days(rows, earliest, answers) end
end

local due, backlog, strictest, late, sudden = 0, 0, 1, false, 0
for index, answer in ipairs(answers) do
  local before = answers[strictest]
  if answer.due > before.due or (before.due == 0 and answer.leaves > before.leaves) then strictest = index end
  local leaves = math.max(answer.due, answer.leaves)
  due = math.max(due, leaves)
  late = late or leaves > now + (limits[index].since > 0 and WARM_UP_HORIZON or HORIZON)
  if limits[index].behind >= 0 then backlog = math.max(backlog, answer.backlog) end
  sudden = math.max(sudden, answer.sudden or 0)
end
local granted = due <= now
if granted then
  strictest, due = 0, 0
else
  granted = park and not late and (backlog <= max_parked or max_parked == 0)
  if granted and answers[strictest].due == 0 then strictest = 0 end  -- it waits for `wanted`, which bit elsewhere
end
local reply = string.format('%d %.17g %d %d %d', granted and 1 or 0, due, strictest, backlog, sudden)
if due == NEVER then reply = string.format('0 inf %d %d %d', strictest, backlog, sudden) end
reply = string.format('%s %d', reply, word)
if not (charge and granted) then return reply end

for index, answer in ipairs(answers) do
  if answer.tat then
    local s, n = pair(answer.tat)
    local lives_ms = math.ceil(answer.tat / 1e6) + slack_ms
    local text = string.format('%d %d %d %d', s, n, limits[index].interval, answer.tat)
    redis.call('SET', KEYS[index + 1], text, 'PX', string.format('%d', lives_ms))
  end
end
local kept = {reply}  -- and behind it what give.lua would take back: limit, field, units
for _, index in ipairs(apart) do
  if not answers[index].tat then kept[#kept + 1] = string.format('%d none 0', index) end
end
for index, answer in ipairs(answers) do
  if answer.count then
    write_sudden(KEYS[index + 1], answer.count)
    kept[#kept + 1] = string.format('%d s%d %d', index, answer.count.spell, answer.count.cost)
    kept[#kept + 1] = string.format('%d d%d %d', index, answer.count.today, answer.count.cost)
  end
  for _, piece in ipairs(answer.warm or {}) do
    local key = KEYS[index + 1]
    redis.call('HINCRBY', key, piece[1], piece[2])
    local lives = math.max(0, limits[index].since + CELLS * DAY - now)
    redis.call('PEXPIRE', key, string.format('%d', lives * 1000 + slack_ms))
    kept[#kept + 1] = string.format('%d %d %d', index, piece[1], piece[2])
  end
end
for _, row in ipairs(rows) do
  write_day(KEYS[row.index + 1], row, answers[row.index])
  for _, piece in ipairs(answers[row.index].pieces) do
    kept[#kept + 1] = string.format('%d %d %d', row.index, row.step + piece[1], piece[2])
  end
end
if people_of > 0 and answers[people_of].due == 0 and #strangers + #seen > 0 then
  if is_over then redis.call('DEL', KEYS[#KEYS]) end
  if began == 0 then began = math.max(1, math.floor(now)) end
  local lasts = now + (KEPT_WEEKS + 2) * WEEK
  if is_over or kept_until < lasts - WEEK then kept_until = lasts end
  local head = string.format('%016d%24.6f', began, kept_until)
  redis.call('SETRANGE', KEYS[#KEYS], 0, head)
  remember(strangers, kept)
  remember(seen, kept)
  redis.call('PEXPIRE', KEYS[#KEYS], string.format('%d', (KEPT_WEEKS + 2) * WEEK * 1000))
end
redis.call('SET', KEYS[1], table.concat(kept, '\n'), 'PX', string.format('%d', keep_ms))
return reply
