//! Whether the ACL user may do what the service needs, asked at the start and not found out in the middle of an append.
//!
//! Asked by a script, because that takes no right that the service does not need anyway, and changes nothing.

use redis::aio::MultiplexedConnection;
use redis::{Script, cmd};
use std::time::Duration;

use super::connection::{CallError, call};
use super::scripts::Keys;

/// What only reads.
const READING: [&str; 6] = ["XRANGE", "XREVRANGE", "XREAD", "GET", "HGET", "HMGET"];
/// What appends and commits.
const WRITING: [&str; 9] = ["XADD", "SET", "HSET", "WAIT", "DEL", "EXPIRE", "PERSIST", "MULTI", "EXEC"];

/// KEYS: one of each that is touched.  ARGV: what is asked for; gives what is not allowed.
/// A command that the server does not know at all is not allowed either.
const PROBE: &str = "
local key, missing = KEYS[1], {}
local arguments = {
  XRANGE = { key, '-', '+' }, XREVRANGE = { key, '+', '-' }, XREAD = { 'STREAMS', key, '0-0' }, GET = { key },
  HGET = { key, 'f' }, HMGET = { key, 'f' }, XADD = { key, '1-0', 'h', '' }, SET = { key, '' }, HSET = { key, 'f', '' },
  WAIT = { '0', '1' }, DEL = { key }, EXPIRE = { key, '1' }, PERSIST = { key }, MULTI = {}, EXEC = {},
}
for _, command in ipairs(ARGV) do
  local known, allowed = pcall(redis.acl_check_cmd, command, unpack(arguments[command]))
  if not known or not allowed then missing[#missing + 1] = command end
end
return missing
";

/// What the user may not do, by the names of the commands, in backticks; empty if it may do all of it.
///
/// # Errors
/// If the server cannot be asked: without EVALSHA and SCRIPT LOAD, that is what it says.
pub(super) async fn missing(
    connection: &MultiplexedConnection,
    keys: &Keys,
    writes: bool,
    limit: Duration,
) -> Result<Vec<String>, CallError> {
    call::<String>(connection, cmd("SCRIPT").arg("LOAD").arg(PROBE), limit).await?;
    let mut missing = Vec::new();
    // Each key by itself: an ACL may name keys one by one.
    for key in [&keys.journal, &keys.committed, &keys.seal, &keys.properties, &keys.probe, &keys.snapshot] {
        let mut probe = cmd("EVALSHA");
        probe.arg(Script::new(PROBE).get_hash()).arg(1).arg(key);
        for command in READING.iter().chain(WRITING.iter().filter(|_| writes)) {
            probe.arg(*command);
        }
        for command in call::<Vec<String>>(connection, &probe, limit).await? {
            let command = format!("`{command}`");
            if !missing.contains(&command) {
                missing.push(command);
            }
        }
    }
    Ok(missing)
}
