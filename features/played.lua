-- How many plays of each of some pairs have counted in a week, as of one offset.
--
-- KEYS[1]  {hp:<topic>:<partition>}:fence
-- KEYS[2]  a key that never exists: see CounterStore._whole
-- ARGV[1]  the offset at which the fence must be: a fence elsewhere has counted more, or less
-- ARGV[2]  the week
-- ARGV[3]  digests of a user and a track, 16 bytes each
-- Answers {"OK", how many of each, 32-bit integers, little-endian}, or {the fence's next_offset or "NOFENCE"}.

local CHUNK = 4000  -- Lua's C stack holds 8,000 arguments

local prefix = string.sub(KEYS[1], 1, -string.len('fence') - 1)

local at = redis.call('HGET', KEYS[1], 'next_offset')
if at ~= ARGV[1] then return {at or 'NOFENCE'} end

local NONE = struct.pack('<I4', 0)
local counts = {}
for first = 0, #ARGV[3] / 16 - 1, CHUNK do
  local pairs_ = {}
  for place = first, math.min(first + CHUNK, #ARGV[3] / 16) - 1 do
    pairs_[#pairs_ + 1] = string.sub(ARGV[3], 16 * place + 1, 16 * place + 16)
  end
  for _, n in ipairs(redis.call('HMGET', prefix .. 'plays:' .. ARGV[2], unpack(pairs_))) do
    counts[#counts + 1] = n and struct.pack('<I4', n) or NONE
  end
end
return {'OK', table.concat(counts)}
