-- Moves the committed mark, if this journal has the entry named, and records whose takeover was proven.
-- KEYS: journal, committed mark, properties.  ARGV: revision, hash, stream as for an append, then, for a takeover, its epoch.
-- Gives 'committed'; 'missing' if the entry, or the one marked now, is not there, or a takeover is not of the whole journal;
-- 'replaced'; or { 'servers', attached, declared } if more servers are attached than the journal is
-- declared for: what they have confirmed proves nothing then.
local info = redis.call('INFO', 'replication')
if ARGV[3] ~= '' then
  if not string.find(info, 'role:master', 1, true) or string.match(info, 'master_replid:(%x+)') ~= ARGV[3] then return 'replaced' end
end
local declared = tonumber(redis.call('HGET', KEYS[3], 'servers') or '')
if declared then
  local seen, attached = {}, 1
  for replica in string.gmatch(info, 'slave%d+:(ip=[^,]*,port=%d+),state=online') do
    if not seen[replica] then seen[replica], attached = true, attached + 1 end
  end
  if attached > declared then return { 'servers', tostring(attached), tostring(declared) } end
end
local function entry(revision) return redis.call('XRANGE', KEYS[1], revision .. '-0', revision .. '-0')[1] end
local mark = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
if mark then
  -- A mark without its entry is a journal that lost entries: nothing is built on it.
  local marked = entry(string.match(mark[1], '^%d+'))
  if not marked or marked[2][2] ~= mark[2][2] then return 'missing' end
end
if ARGV[4] then
  -- A takeover commits the whole journal: if it has gone on meanwhile, it is another one.
  local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
  if (last and last[1] or '0-0') ~= ARGV[1] .. '-0' then return 'missing' end
end
if ARGV[1] ~= '0' then
  local id = ARGV[1] .. '-0'
  local named = entry(ARGV[1])
  if not named or named[2][2] ~= ARGV[2] then return 'missing' end
  if not mark or tonumber(string.match(mark[1], '^%d+')) < tonumber(ARGV[1]) then
    redis.call('XADD', KEYS[2], 'MAXLEN', 1, id, 'h', ARGV[2])
  end
end
if ARGV[4] then redis.call('HSET', KEYS[3], 'epoch', ARGV[4], 'stream', ARGV[3]) end
return 'committed'
