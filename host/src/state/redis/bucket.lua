-- A change of a bucket, or the reading of many values.
-- KEYS: the hash of the values, the sorted set of the keys, the number of bytes.
-- ARGV: the operation, the most keys, the most bytes; then what the operation needs.
local values, names, used = KEYS[1], KEYS[2], KEYS[3]
local operation, most_keys, most_bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local FIRST = 4

-- The bytes of a value; nil if there is none.
local function length(key)
  if redis.call('HEXISTS', values, key) == 1 then
    return redis.call('HSTRLEN', values, key)
  end
end

-- Why a bucket cannot grow by so much; nil if it can.
local function full(keys, bytes)
  if keys > 0 and redis.call('ZCARD', names) + keys > most_keys then
    return {'keys', false}
  end
  if bytes > 0 and tonumber(redis.call('GET', used) or '0') + bytes > most_bytes then
    return {'bytes', false}
  end
end

-- Sets the pairs in a table, or nothing.
local function set(pairs)
  local keys, bytes = 0, 0
  for i = 1, #pairs, 2 do
    local old = length(pairs[i])
    if old then
      bytes = bytes - old
    else
      keys, bytes = keys + 1, bytes + #pairs[i]
    end
    bytes = bytes + #pairs[i + 1]
  end
  local refused = full(keys, bytes)
  if refused then
    return refused
  end
  for i = 1, #pairs, 2 do
    redis.call('HSET', values, pairs[i], pairs[i + 1])
    redis.call('ZADD', names, 0, pairs[i])
  end
  redis.call('INCRBY', used, bytes)
  return {'done', false}
end

if operation == 'get' then
  local all, bytes = {}, 0
  for i = FIRST, #ARGV do
    local value = redis.call('HGET', values, ARGV[i])
    bytes = bytes + (value and #value or 0)
    if bytes > most_bytes then
      return {'large', {}}
    end
    all[#all + 1] = value
  end
  return {'values', all}
end

if operation == 'set' then
  local pairs = {}
  for i = FIRST, #ARGV do
    pairs[#pairs + 1] = ARGV[i]
  end
  return set(pairs)
end

if operation == 'delete' then
  for i = FIRST, #ARGV do
    local old = length(ARGV[i])
    if old then
      redis.call('HDEL', values, ARGV[i])
      redis.call('ZREM', names, ARGV[i])
      redis.call('DECRBY', used, old + #ARGV[i])
    end
  end
  return {'done', false}
end

local key = ARGV[FIRST]
local current = redis.call('HGET', values, key)

if operation == 'increment' then
  -- Redis adds 64 bits, where Lua's numbers have 53.
  local added = redis.pcall('HINCRBY', values, key, ARGV[FIRST + 1])
  if type(added) == 'table' and added.err then
    if string.find(added.err, 'not an integer') then
      return {'number', false}
    elseif string.find(added.err, 'overflow') then
      return {'overflow', false}
    end
    return added
  end
  local sum = redis.call('HGET', values, key)
  -- As it was; `set` decides.
  if current then
    redis.call('HSET', values, key, current)
  else
    redis.call('HDEL', values, key)
  end
  local done = set({key, sum})
  if done[1] == 'done' then
    return {'sum', sum}
  end
  return done
end

if operation == 'swap' then
  local expected = ARGV[FIRST + 2] or false
  if current ~= expected then
    return {'otherwise', current}
  end
  return set({key, ARGV[FIRST + 1]})
end

return redis.error_reply('ERR no such operation')
