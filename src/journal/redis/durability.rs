//! Whether the server is set up to keep what is acknowledged.
//!
//! **Acked-is-durable** rests on the server. Settings are what it is to do, and INFO is what it does: both are looked at. With `appendfsync everysec` it loses a second of acknowledged entries when
//! it is killed, and with an eviction policy it may throw the journal away when memory is short.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Value, cmd};

use super::connection::{CallError, call};
use super::locate::{fields, info_field};
use super::options::Node;

/// What a server says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ServerInfo {
    /// Whether it is a primary.
    pub(super) primary: bool,
    /// Its clock, in microseconds since 1970; 0 if it does not tell.
    pub(super) clock_micros: i64,
    /// The stream of writes that it has or follows: named anew when a server becomes a primary.
    pub(super) stream: String,
    /// The stream before, which this one goes on from, if it came to this one without losing anything: a replica that was sent
    /// everything anew, and a server that has started anew, have none.
    pub(super) stream_before: Option<String>,
    /// Whether, as a replica, it is in touch with its primary.
    pub(super) attached: bool,
    /// Its replicas that have all that it has, or will have in a moment.
    pub(super) replicas: BTreeSet<Node>,
    /// How many of those have been heard of within the last two seconds.
    pub(super) in_touch: usize,
    /// How its append-only file fares.
    pub(super) append_only_file: AppendOnlyFile,
}

/// How a server's append-only file fares. Settings do not tell that: a server whose rewrite failed after it was sent everything
/// anew goes on answering, and what it answers for is in no file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct AppendOnlyFile {
    /// `aof_enabled:0`: nothing is written into it.
    pub(super) off: bool,
    /// `aof_last_bgrewrite_status:err`.
    rewrite_failed: bool,
    /// `aof_last_write_status:err`.
    write_failed: bool,
    /// `loading:1`.
    loading: bool,
}

impl AppendOnlyFile {
    fn parse(info: &str) -> Self {
        let is = |key, value| info_field(info, key) == Some(value);
        Self {
            off: is("aof_enabled", "0"),
            rewrite_failed: is("aof_last_bgrewrite_status", "err"),
            write_failed: is("aof_last_write_status", "err"),
            loading: is("loading", "1"),
        }
    }

    /// What would not be kept, each with what to do about it.
    fn shortcomings(self) -> impl Iterator<Item = String> {
        let rewrite = "`aof_last_bgrewrite_status` is `err`: the last rewrite of the append-only file failed, and what was written \
                       since may be in no file; see the server's log, make room or give it the rights in its directory, then \
                       say `BGREWRITEAOF`";
        let write =
            "`aof_last_write_status` is `err`: the append-only file cannot be written; make room, or mend the disk";
        let loading = "`loading` is `1`: the server is still reading its data; wait";
        let all = [(self.rewrite_failed, rewrite), (self.write_failed, write), (self.loading, loading)];
        all.into_iter().filter(|(so, _)| *so).map(|(_, what)| what.to_owned())
    }
}

/// Asks a server.
pub(super) async fn server_info(connection: &MultiplexedConnection, limit: Duration) -> Result<ServerInfo, CallError> {
    let info: String = call(connection, cmd("INFO").arg("server").arg("replication").arg("persistence"), limit).await?;
    let number = |key| info_field(&info, key).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    let mut said = ServerInfo {
        primary: info_field(&info, "role") == Some("master"),
        clock_micros: i64::try_from(number("server_time_usec")).unwrap_or_default(),
        stream: info_field(&info, "master_replid").unwrap_or_default().to_owned(),
        stream_before: info_field(&info, "master_replid2").filter(|id| id.contains(|c| c != '0')).map(str::to_owned),
        attached: info_field(&info, "master_link_status") == Some("up"),
        append_only_file: AppendOnlyFile::parse(&info),
        ..ServerInfo::default()
    };
    for line in info.lines().filter(|line| line.starts_with("slave") && line.contains("state=online")) {
        let field = |key| line.split([',', ':']).find_map(|part| part.trim().strip_prefix(key)?.strip_prefix('='));
        let Some(node) = field("ip").zip(field("port").and_then(|port| port.parse().ok())) else { continue };
        let lag = field("lag").and_then(|lag| lag.parse::<i64>().ok());
        let new = said.replicas.insert((node.0.to_owned(), node.1));
        said.in_touch += usize::from(new && lag.is_some_and(|lag| (0..=2).contains(&lag)));
    }
    Ok(said)
}

/// Everything about a server's settings and its append-only file that would lose what was acknowledged, each with what to do
/// about it.
pub(super) async fn shortcomings(
    connection: &MultiplexedConnection,
    file: AppendOnlyFile,
    limit: Duration,
) -> Result<Vec<String>, CallError> {
    let mut found: Vec<String> = file.shortcomings().collect();
    let get = async |name: &str| -> Result<Option<String>, CallError> {
        match call::<Vec<String>>(connection, cmd("CONFIG").arg("GET").arg(name), limit).await {
            Ok(pair) => Ok(pair.into_iter().nth(1)),
            // Not everybody lets CONFIG be called.
            Err(CallError::Refused(error)) => {
                tracing::debug!(%error, name, "a setting of the server is not told");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    };
    for (name, wanted) in [("appendonly", "yes"), ("appendfsync", "always")] {
        match get(name).await?.as_deref() {
            Some("yes") if name == "appendonly" && file.off => found.push(
                "`appendonly` is `yes`, and `aof_enabled` is `0`: the server writes no append-only file; see its log, then say \
                 `CONFIG SET appendonly no` and `CONFIG SET appendonly yes`"
                    .to_owned(),
            ),
            Some(value) if value == wanted => {}
            Some(value) => found.push(format!("`{name}` is `{value}`: set it to `{wanted}`")),
            None => found.push(format!("`{name}` cannot be asked for: allow `CONFIG GET`, and set it to `{wanted}`")),
        }
    }
    let limited = get("maxmemory").await?.is_some_and(|bytes| bytes != "0");
    match get("maxmemory-policy").await?.as_deref() {
        Some("noeviction") => {}
        Some(policy) if limited => {
            found.push(format!("`maxmemory-policy` is `{policy}`: set it to `noeviction`"));
        }
        Some(_) | None => {}
    }
    if !default_user_may_replay(connection, limit).await? {
        found.push(
            "the ACL user `default` lacks rights, with which the server reads its append-only file at a restart, leaving \
             out what they do not allow: set `user default off ~* &* +@all`"
                .to_owned(),
        );
    }
    Ok(found)
}

/// A server reads its append-only file as the user `default`, and checks that user's rights for what a script or a
/// transaction wrote in several commands: without them it leaves those entries out, and starts without an error. True if
/// it cannot be asked.
async fn default_user_may_replay(connection: &MultiplexedConnection, limit: Duration) -> Result<bool, CallError> {
    let rights = match call::<Value>(connection, cmd("ACL").arg("GETUSER").arg("default"), limit).await {
        Ok(rights) => fields(&rights),
        Err(CallError::Refused(_)) => return Ok(true),
        Err(error) => return Err(error),
    };
    let has = |field: &str, all: &str| rights.get(field).is_none_or(|rights| rights.split(' ').any(|one| one == all));
    Ok(has("commands", "+@all") && has("keys", "~*"))
}
