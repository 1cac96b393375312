-- Seals the journal, unless it is.  KEYS: seal.  ARGV: stream as for an append, why.
-- Gives 'sealed' or 'replaced'.
if ARGV[1] ~= '' then
  local info = redis.call('INFO', 'replication')
  if not string.find(info, 'role:master', 1, true) or string.match(info, 'master_replid:(%x+)') ~= ARGV[1] then return 'replaced' end
end
redis.call('SET', KEYS[1], ARGV[2], 'NX')
return 'sealed'
