-- Put one partition's new counters in the place of the old ones, or only remove counters: everything or nothing.
--
-- KEYS[1]  the fence of the counters that go
-- KEYS[2]  a key that never exists: see CounterStore._whole
-- KEYS[3]  the fence of those that take their place; without it nothing does
-- ARGV[1]  topic_id that Kafka has now: the new counters' must be it; old ones of another id go, whatever they hold
-- Answers {"OK"}, or what is wrong: {"NOFENCE"}, {"TOPIC", the new fence's id}, {"BEHIND", the old fence's next_offset}.
--
-- A fence names all other keys, and its hash tag is theirs. Redis does not roll back a script that fails half-way, so
-- everything is read and checked before the first write, the user's rights too.

local old, new = KEYS[1], KEYS[3]

local function key(fence, name)
  return string.sub(fence, 1, -string.len('fence') - 1) .. name
end

local function names(fence)
  local found, slices = {}, tonumber(redis.call('HGET', fence, 'slices') or 0)
  for _, field in ipairs(redis.call('HKEYS', fence)) do
    local bucket = string.match(field, '^bucket:(.+)$')
    if bucket then
      found[#found + 1] = 'plays:' .. bucket
      for slice = 0, slices - 1 do
        found[#found + 1] = 'week:' .. bucket .. ':' .. slice
        found[#found + 1] = 'listeners:' .. bucket .. ':' .. slice
      end
    elseif string.match(field, '^ids:') then
      found[#found + 1] = field
    end
  end
  return found
end

local gone, come, identity = names(old), {}, ''
local have = redis.call('HMGET', old, 'next_offset', 'topic_id')
if new then
  local ready = redis.call('HMGET', new, 'next_offset', 'topic_id')
  if not ready[1] then return {'NOFENCE'} end
  if ready[2] ~= ARGV[1] then return {'TOPIC', ready[2]} end
  local id, rebuilt = string.match((have[2] or '') .. '#0', '^([^#]*)#(%d+)')
  if id == ready[2] and tonumber(have[1]) > tonumber(ready[1]) then return {'BEHIND', have[1]} end
  identity = ready[2] .. '#' .. string.format('%d', tonumber(rebuilt) + 1)
  for _, name in ipairs(names(new)) do
    if redis.call('EXISTS', key(new, name)) == 1 then come[#come + 1] = name end
  end
elseif not have[1] then
  return {'NOFENCE'}
end

for _, command in ipairs(new and {'UNLINK', 'RENAME', 'HSET', 'HDEL'} or {'UNLINK'}) do
  if not redis.acl_check_cmd(command, old, old) then
    return redis.error_reply('NOPERM this user may not ' .. command .. ' ' .. old)
  end
end

for _, name in ipairs(gone) do redis.call('UNLINK', key(old, name)) end
redis.call('UNLINK', old)
if new then
  for _, name in ipairs(come) do redis.call('RENAME', key(new, name), key(old, name)) end
  redis.call('HSET', new, 'topic_id', identity)
  redis.call('HDEL', new, 'rules')
  redis.call('RENAME', new, old)
end
return {'OK'}
