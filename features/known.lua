-- Which ids are remembered, as of one offset.
--
-- KEYS[1]  {hp:<topic>:<partition>}:fence, which names the sets as fields ids:<name>
-- KEYS[2]  a key that never exists: see CounterStore._whole
-- ARGV[1]  the offset at which the fence must be: a fence elsewhere has remembered more, or less, than was counted there
-- ARGV[2]  family: sets whose names begin with it and a colon are looked into
-- ARGV[3]  ids of 16 bytes each
-- Answers {"OK", {name, place of an id that is in it, from 0 on, ...}, ...}, or {the fence's next_offset or "NOFENCE"}.

local CHUNK = 4000  -- Lua's C stack holds 8,000 arguments

local fence, family = KEYS[1], 'ids:' .. ARGV[2] .. ':'
local prefix = string.sub(fence, 1, -string.len('fence') - 1)

local at = redis.call('HGET', fence, 'next_offset')
if at ~= ARGV[1] then return {at or 'NOFENCE'} end

local answer = {'OK'}
for _, field in ipairs(redis.call('HKEYS', fence)) do
  if string.sub(field, 1, #family) == family then
    local found = {string.sub(field, string.len('ids:') + 1)}
    for first = 0, #ARGV[3] / 16 - 1, CHUNK do
      local ids = {}
      for place = first, math.min(first + CHUNK, #ARGV[3] / 16) - 1 do
        ids[#ids + 1] = string.sub(ARGV[3], 16 * place + 1, 16 * place + 16)
      end
      for n, is_member in ipairs(redis.call('SMISMEMBER', prefix .. field, unpack(ids))) do
        if is_member == 1 then found[#found + 1] = first + n - 1 end
      end
    end
    answer[#answer + 1] = found
  end
end
return answer
