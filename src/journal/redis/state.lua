-- Where the journal ends, up to where it is committed, and what it says of its servers.
-- KEYS: journal, committed mark, properties.
-- Gives revision and hash of the end and of the mark, then: replicas to wait for, servers, the epoch of the last proven
-- takeover, and the stream that the primary wrote then.
local function last(key)
  local found = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  if not found then return '0', string.rep('\0', 32) end
  return string.match(found[1], '^%d+'), found[2][2]
end
local revision, hash = last(KEYS[1])
local mark, mark_hash = last(KEYS[2])
local function property(name) return redis.call('HGET', KEYS[3], name) or '' end
return {
  revision, hash, mark, mark_hash,
  property('wait_replicas'), property('servers'), property('epoch'), property('stream'),
}
