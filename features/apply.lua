-- Change one partition's counters, catalogue and fence: everything or nothing.
--
-- KEYS[1]  {hp:<topic>:<partition>}:fence; all other keys are built from its hash tag, so they share its slot
-- KEYS[2]  a key that never exists: see CounterStore._whole
-- ARGV[1]  msgpack map (strings and integers only: cmsgpack refuses `bin`):
--            start, end       text: offsets; start must be the fence's next_offset
--            topic_id         text: must be the fence's
--            since            text: the stream time that the part was decided from; must be the fence's: a Redis that
--                             was emptied may be at the same offset, with another history
--            stream_time      text: ISO 8601, or empty
--            horizon          text: name of the oldest week kept; buckets of older weeks are removed; empty: none
--            slices           integer: how many hashes hold one bucket
--            tallies          map: fence field -> how many to add
--            buckets          list of {week, groups, fingerprint, touched, n, {{slice, {id, ...}}, ...}}: n counts a track
--            entries          list of {id, slice, timestamp, offset, value}
--            ids              list of {name, n}: how many of ARGV[2] to remember in the set ids:<name>
--            kept             list of names: of sets like ids:24h:7 those that stay, where it or horizon is not empty
--            plays            list of {week, n}: how many of ARGV[4] to set in the hash plays:<week>
--            listeners        list of {week, {{slice, {{id, n}, ...}}, ...}}: how many of ARGV[5] have played the track
-- ARGV[2]  the ids to remember, 16 bytes each
-- ARGV[3]  the counts to add to the tracks of the buckets, in their order: 32-bit integers, little-endian; then how many
--          plays of each pair of ARGV[4] have counted by now
-- ARGV[4]  digests of a user and a track, 16 bytes each
-- ARGV[5]  digests of listeners, 8 bytes each
-- Answers {"OK"}, or what is wrong: {"NOFENCE"}, {"TOPIC", the fence's id}, {"FENCED", the fence's next_offset},
-- {"SINCE", the fence's stream_time}.
--
-- Redis does not roll back a script that fails half-way, so everything is read, decoded and checked before the first
-- write, the user's rights too, and every write sets a value computed before it.

local CHUNK = 1000  -- Lua's C stack holds 8,000 arguments, and a field takes two
local LIMIT = 4294967295

local fence = KEYS[1]
local prefix = string.sub(fence, 1, -string.len('fence') - 1)
local span = cmsgpack.unpack(ARGV[1])

local have = redis.call('HMGET', fence, 'next_offset', 'topic_id', 'stream_time')
if not have[1] then return {'NOFENCE'} end
if have[2] ~= span.topic_id then return {'TOPIC', have[2]} end
if have[1] ~= span.start then return {'FENCED', have[1]} end
if (have[3] or '') ~= span.since then return {'SINCE', have[3] or ''} end

local writes = {}
local function plan(command, key, arguments)
  writes[#writes + 1] = {command, key, arguments}
end

local at = 1  -- in ARGV[3]

local function added(old, place, what)
  local plays, skips, likes = struct.unpack('<I4I4I4', ARGV[3], at)
  at = at + 12
  if old then
    local plays_before, skips_before, likes_before = struct.unpack('<I4I4I4', old, place)
    plays, skips, likes = plays + plays_before, skips + skips_before, likes + likes_before
    if plays > LIMIT or skips > LIMIT or likes > LIMIT then error('the count of ' .. what .. ' would pass ' .. LIMIT) end
  end
  return struct.pack('<I4I4I4', plays, skips, likes)
end

local function plan_counts(key, ids, n_bytes)
  for first = 1, #ids, CHUNK do
    local last = math.min(first + CHUNK - 1, #ids)
    local stored, fields = redis.call('HMGET', key, unpack(ids, first, last)), {}
    for n = first, last do
      local id, old, packed = ids[n], stored[n - first + 1], ''
      if old and #old ~= n_bytes then error(key .. ' has ' .. #old .. ' bytes for ' .. id .. ', expected ' .. n_bytes) end
      for place = 1, n_bytes, 12 do packed = packed .. added(old, place, id) end
      fields[#fields + 1] = id
      fields[#fields + 1] = packed
    end
    plan('HSET', key, fields)
  end
end

local function is_newer(entry, old)
  local timestamp, offset = string.match(old or '', '^(-?%d+) (%d+) ')
  if not timestamp then return true end
  timestamp, offset = tonumber(timestamp), tonumber(offset)
  return entry[3] > timestamp or (entry[3] == timestamp and entry[4] > offset)
end

local function whole(number)
  return string.format('%.0f', number)
end

local fields = {'next_offset', span['end']}
if span.stream_time ~= '' then
  fields[#fields + 1] = 'stream_time'
  fields[#fields + 1] = span.stream_time
end
for name, delta in pairs(span.tallies) do
  fields[#fields + 1] = name
  fields[#fields + 1] = whole(tonumber(redis.call('HGET', fence, name) or 0) + delta)
end
for _, bucket in ipairs(span.buckets) do
  local week, groups, fingerprint, touched, n_counts, slices = unpack(bucket)
  for _, slice in ipairs(slices) do
    plan_counts(prefix .. 'week:' .. week .. ':' .. whole(slice[1]), slice[2], 4 * n_counts)
  end
  for name, value in pairs({bucket = touched, groups = groups, experiment = fingerprint}) do
    fields[#fields + 1] = name .. ':' .. week
    fields[#fields + 1] = value
  end
end

local from = 1
for _, set in ipairs(span.ids) do
  local field = 'ids:' .. set[1]
  redis.call('SCARD', prefix .. field)  -- raises now, not half-way, where the key is of another type
  for first = 1, set[2], 4 * CHUNK do
    local ids = {}
    for n = first, math.min(first + 4 * CHUNK - 1, set[2]) do
      ids[#ids + 1] = string.sub(ARGV[2], from, from + 15)
      from = from + 16
    end
    plan('SADD', prefix .. field, ids)
  end
  fields[#fields + 1] = field
  fields[#fields + 1] = span['end']
end

local pair = 1  -- in ARGV[4]
for _, week in ipairs(span.plays) do
  local key, plays = prefix .. 'plays:' .. week[1], {}
  redis.call('HLEN', key)  -- raises now, not half-way, where the key is of another type
  for n = 1, week[2] do
    plays[#plays + 1] = string.sub(ARGV[4], pair, pair + 15)
    plays[#plays + 1] = struct.unpack('<I4', ARGV[3], at)
    pair, at = pair + 16, at + 4
    if #plays == 2 * CHUNK or n == week[2] then
      plan('HSET', key, plays)
      plays = {}
    end
  end
end

-- A sketch is a HyperLogLog as Redis has it. It is brought up to date under a name of its own, of which neither replicas
-- nor the append-only file hear; its bytes 8 to 15 are what PFCOUNT has found.
local sketch, listener = prefix .. 'sketch', 1  -- in ARGV[5]

local function heard_by(old, n)
  if old then redis.call('SET', sketch, old) end
  local is_new = 0
  for first = 1, n, CHUNK do
    local digests = {}
    for _ = first, math.min(first + CHUNK - 1, n) do
      digests[#digests + 1] = string.sub(ARGV[5], listener, listener + 7)
      listener = listener + 8
    end
    local answer = redis.pcall('PFADD', sketch, unpack(digests))
    if type(answer) == 'table' then
      redis.call('DEL', sketch)
      error(answer.err .. ' (a sketch of listeners)')
    end
    is_new = is_new + answer
  end
  redis.call('PFCOUNT', sketch)
  local value = redis.call('GET', sketch)
  redis.call('DEL', sketch)
  return is_new > 0 and value
end

if #span.listeners > 0 then redis.set_repl(redis.REPL_NONE) end
for _, bucket in ipairs(span.listeners) do
  for _, slice in ipairs(bucket[2]) do
    local key, sketches = prefix .. 'listeners:' .. bucket[1] .. ':' .. whole(slice[1]), {}
    for n, track in ipairs(slice[2]) do
      local value = heard_by(redis.call('HGET', key, track[1]), track[2])
      if value then
        sketches[#sketches + 1] = track[1]
        sketches[#sketches + 1] = value
      end
      if #sketches == 2 * CHUNK or (n == #slice[2] and #sketches > 0) then
        plan('HSET', key, sketches)
        sketches = {}
      end
    end
  end
end
if #span.listeners > 0 then redis.set_repl(redis.REPL_ALL) end

local newest = {}  -- a track may come twice in a span: only its newest entry is planned
for _, entry in ipairs(span.entries) do
  local other = newest[entry[1]]
  if not other or entry[3] > other[3] or (entry[3] == other[3] and entry[4] > other[4]) then newest[entry[1]] = entry end
end
for id, entry in pairs(newest) do
  local key = prefix .. 'tracks:' .. whole(entry[2])
  if is_newer(entry, redis.call('HGET', key, id)) then
    plan('HSET', key, {id, whole(entry[3]) .. ' ' .. whole(entry[4]) .. ' ' .. entry[5]})
  end
end

if span.horizon ~= '' or #span.kept > 0 then
  local kept = {}
  for _, name in ipairs(span.kept) do kept['ids:' .. name] = true end
  for _, field in ipairs(redis.call('HKEYS', fence)) do
    local week = string.match(field, '^bucket:(.+)$')
    if week and week < span.horizon then
      for slice = 0, span.slices - 1 do
        plan('UNLINK', prefix .. 'week:' .. week .. ':' .. slice, {})
        plan('UNLINK', prefix .. 'listeners:' .. week .. ':' .. slice, {})
      end
      plan('UNLINK', prefix .. 'plays:' .. week, {})
      plan('HDEL', fence, {field, 'groups:' .. week, 'experiment:' .. week})
    end
    local replayed = string.match(field, '^ids:replayed:(.+)$')
    if (replayed and replayed < span.horizon) or (string.match(field, '^ids:%d+h:') and not kept[field]) then
      plan('UNLINK', prefix .. field, {})
      plan('HDEL', fence, {field})
    end
  end
end

for first = 1, #fields, 2 * CHUNK do
  plan('HSET', fence, {unpack(fields, first, math.min(first + 2 * CHUNK - 1, #fields))})
end
for _, write in ipairs(writes) do
  if not redis.acl_check_cmd(write[1], write[2]) then
    return redis.error_reply('NOPERM this user may not ' .. write[1] .. ' ' .. write[2])
  end
end
for _, write in ipairs(writes) do redis.call(write[1], write[2], unpack(write[3])) end
return {'OK'}
