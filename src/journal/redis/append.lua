-- Appends entries right after the one the caller names, all or none.
-- KEYS: journal, committed mark, seal.  ARGV: revision, hash, how, stream, then hash and payload of each entry.
-- How: 'commit' at once, 'wait' for replicas first, or 'repair', which puts back what the mark may name already.
-- Stream: the replication stream that the server has to be the primary of; empty where nobody else can be the primary.
-- Gives 'appended', 'replaced', { 'sealed', why }, { 'conflict', end, its hash, mark } or { 'beyond', mark, end }.
-- Nothing is written before every check has passed.
if ARGV[4] ~= '' then
  local info = redis.call('INFO', 'replication')
  if not string.find(info, 'role:master', 1, true) or string.match(info, 'master_replid:(%x+)') ~= ARGV[4] then return 'replaced' end
end
local seal = redis.call('GET', KEYS[3])
if seal then return { 'sealed', seal } end
local function last(key)
  local found = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  if not found then return '0', string.rep('\0', 32) end
  return string.match(found[1], '^%d+'), found[2][2]
end
local revision, hash = last(KEYS[1])
local mark = last(KEYS[2])
if revision ~= ARGV[1] or hash ~= ARGV[2] then return { 'conflict', revision, hash, mark } end
if ARGV[3] ~= 'repair' and tonumber(mark) > tonumber(revision) then return { 'beyond', mark, revision } end
local at = tonumber(revision)
for i = 5, #ARGV, 2 do
  at = at + 1
  redis.call('XADD', KEYS[1], string.format('%.0f-0', at), 'h', ARGV[i], 'p', ARGV[i + 1])
end
if ARGV[3] == 'commit' and #ARGV > 4 then
  redis.call('XADD', KEYS[2], 'MAXLEN', 1, string.format('%.0f-0', at), 'h', ARGV[#ARGV - 1])
end
return 'appended'
