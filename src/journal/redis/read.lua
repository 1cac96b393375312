-- Settled entries after the one the caller stands at, if the journal has that one.
-- KEYS: journal, settled.  ARGV: revision, hash, the most entries, a number of bytes to stop after.
-- Gives { 'level' }, { 'elsewhere', end, end's hash } or { 'entries', id, hash, payload, id, hash, payload … }.
local mark = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
local settled = 0
if mark then
  if mark[1] == ARGV[1] .. '-0' and mark[2][2] == ARGV[2] then return { 'level' } end
  settled = tonumber(string.match(mark[1], '^%d+'))
end
local after = tonumber(ARGV[1])
if after > 0 then
  local id = ARGV[1] .. '-0'
  local known = redis.call('XRANGE', KEYS[1], id, id)[1]
  if not known or known[2][2] ~= ARGV[2] then
    local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
    if not last then return { 'elsewhere', '0', string.rep('\0', 32) } end
    return { 'elsewhere', string.match(last[1], '^%d+'), last[2][2] }
  end
end
if settled <= after then return { 'level' } end
local found, bytes, count = { 'entries' }, 0, 0
local most, enough, upto = tonumber(ARGV[3]), tonumber(ARGV[4]), string.format('%.0f-0', settled)
local from, step = '(' .. ARGV[1] .. '-0', 1
while count < most and bytes < enough do
  local part = redis.call('XRANGE', KEYS[1], from, upto, 'COUNT', math.min(step, most - count))
  for _, entry in ipairs(part) do
    found[#found + 1], found[#found + 2], found[#found + 3] = entry[1], entry[2][2], entry[2][4]
    bytes, count = bytes + #entry[2][4], count + 1
    from = '(' .. entry[1]
  end
  if #part < step then break end
  -- As many again as fit, judged by those seen: entries may be large, and the server must not build them all.
  step = math.max(1, math.min(1024, math.floor((enough - bytes) * count / (bytes + 1))))
end
return found
