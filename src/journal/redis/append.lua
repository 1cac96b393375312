-- Appends entries right after the one the caller names, all or none.
-- KEYS: journal, settled, fence.  ARGV: revision, hash, '1' to settle at once, then hash and payload of each entry.
-- Nothing is written before every check has passed.
local fence = redis.call('GET', KEYS[3])
if fence then return { 'fenced', fence } end
local function last(key)
  local found = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  if not found then return '0', string.rep('\0', 32) end
  return string.match(found[1], '^%d+'), found[2][2]
end
local revision, hash = last(KEYS[1])
if revision ~= ARGV[1] or hash ~= ARGV[2] then return { 'conflict', revision, hash, (last(KEYS[2])) } end
local at = tonumber(revision)
for i = 4, #ARGV, 2 do
  at = at + 1
  redis.call('XADD', KEYS[1], string.format('%.0f-0', at), 'h', ARGV[i], 'p', ARGV[i + 1])
end
if ARGV[3] == '1' and #ARGV > 3 then
  redis.call('XADD', KEYS[2], 'MAXLEN', 1, string.format('%.0f-0', at), 'h', ARGV[#ARGV - 1])
end
return { 'appended' }
