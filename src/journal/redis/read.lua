-- Committed entries after the one the caller stands at, if the journal has that one.
-- KEYS: journal, committed mark.  ARGV: revision, hash, the most entries, a number of bytes to stop after, stream as for an
-- append: what a server says that was replaced is not what the primary says.
-- Gives 'replaced'; { 'elsewhere', end, end's hash } if it does not have it; { 'beyond', mark, end } if the mark names an entry that is
-- not there; { 'mark', mark, hash of the entry there, hash in the mark } if it names another than is there; or
-- { 'entries', mark, id, hash, payload, id, hash, payload … }.
if ARGV[5] ~= '' then
  local info = redis.call('INFO', 'replication')
  if not string.find(info, 'role:master', 1, true) or string.match(info, 'master_replid:(%x+)') ~= ARGV[5] then return 'replaced' end
end
local function entry(revision) return redis.call('XRANGE', KEYS[1], revision .. '-0', revision .. '-0')[1] end
local function last(key)
  local found = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  if not found then return '0', string.rep('\0', 32) end
  return string.match(found[1], '^%d+'), found[2][2]
end
local after = tonumber(ARGV[1])
if after > 0 then
  local known = entry(ARGV[1])
  if not known or known[2][2] ~= ARGV[2] then return { 'elsewhere', last(KEYS[1]) } end
end
local mark, mark_hash = last(KEYS[2])
local committed = tonumber(mark)
if committed > 0 then
  local marked = entry(mark)
  if not marked then return { 'beyond', mark, (last(KEYS[1])) } end
  if marked[2][2] ~= mark_hash then return { 'mark', mark, marked[2][2], mark_hash } end
end
local found, bytes, count = { 'entries', mark }, 0, 0
if committed <= after then return found end
local most, enough, upto = tonumber(ARGV[3]), tonumber(ARGV[4]), mark .. '-0'
local from, step = '(' .. ARGV[1] .. '-0', 1
while count < most and bytes < enough do
  local part = redis.call('XRANGE', KEYS[1], from, upto, 'COUNT', math.min(step, most - count))
  for _, one in ipairs(part) do
    found[#found + 1], found[#found + 2], found[#found + 3] = one[1], one[2][2], one[2][4]
    bytes, count = bytes + #one[2][4], count + 1
    from = '(' .. one[1]
  end
  if #part < step then break end
  -- As many again as fit, judged by those seen: entries may be large, and the server must not build them all.
  step = math.max(1, math.min(1024, math.floor((enough - bytes) * count / (bytes + 1))))
end
return found
