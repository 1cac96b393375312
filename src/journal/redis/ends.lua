-- Where the journal ends, and up to where it is settled.
-- KEYS: journal, settled.  Gives revision and hash of each.
local function last(key)
  local found = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  if not found then return '0', string.rep('\0', 32) end
  return string.match(found[1], '^%d+'), found[2][2]
end
local revision, hash = last(KEYS[1])
local settled, settled_hash = last(KEYS[2])
return { revision, hash, settled, settled_hash }
