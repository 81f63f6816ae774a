-- What a person said of accounts, kept unless something later is known. KEYS: the hash, field `v` of it a word that is another
-- after each change. ARGV: that word, the latest time that can be true, then of each account its field, 1 or 0 (suspended or not)
-- and when that was said. Answers how many were news.
local news = 0
for at = 3, #ARGV, 3 do
  local field, state, said = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local known = redis.call('HGET', KEYS[1], field)
  local was_state, was_said
  if known then was_state, was_said = string.match(known, '^([01]) ([%d.]+)$') end
  was_said = tonumber(was_said or 0)
  if not was_said or was_said > tonumber(ARGV[2]) then was_state, was_said = '', 0 end
  if tonumber(said) > was_said or (tonumber(said) == was_said and state > (was_state or '')) then
    redis.call('HSET', KEYS[1], field, state .. ' ' .. said)
    news = news + 1
  end
end
if news > 0 then redis.call('HSET', KEYS[1], 'v', ARGV[1]) end
return news
