-- Moves the mark up to which entries are settled, if this journal has the entry named.
-- KEYS: journal, settled.  ARGV: revision, hash.
local id = ARGV[1] .. '-0'
local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
if not entry or entry[2][2] ~= ARGV[2] then return 0 end
local mark = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
if not mark or tonumber(string.match(mark[1], '^%d+')) < tonumber(ARGV[1]) then
  redis.call('XADD', KEYS[2], 'MAXLEN', 1, id, 'h', ARGV[2])
end
return 1
