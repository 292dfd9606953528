-- Copies the counters of some weeks of one partition, and answers the fence: all as of one instant.
--
-- KEYS[1]  the fence; every other key shares its hash tag, and is named after it
-- KEYS[2]  a key that never exists: see CounterStore._whole
-- ARGV[1]  begins the names of the copies, after the hash tag
-- ARGV[2]  seconds after which a copy goes, should nobody remove it
-- ARGV[3]  how many slices there are
-- ARGV[4]  and those after it: the weeks
-- Answers the fence's fields and values.
local prefix = string.sub(KEYS[1], 1, -#'fence' - 1)
local wanted = {}
for n = 4, #ARGV do wanted[ARGV[n]] = true end

local fence = redis.call('HGETALL', KEYS[1])
for n = 1, #fence, 2 do
  local week = string.match(fence[n], '^bucket:(.+)$')
  if week and wanted[week] then
    for slice = 0, tonumber(ARGV[3]) - 1 do
      local name = 'week:' .. week .. ':' .. slice
      local copy = prefix .. ARGV[1] .. name
      if redis.call('COPY', prefix .. name, copy) == 1 then
        redis.call('EXPIRE', copy, ARGV[2])
      end
    end
  end
end
return fence
