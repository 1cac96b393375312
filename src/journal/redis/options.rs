//! How a journal on Redis is named and set up: the URL, and what stands beside it.
//!
//! ```text
//! redis://[USER[:PASSWORD]@]HOST[:PORT][/DB]                      one server
//! redis+sentinel://[USER[:PASSWORD]@]HOST[:PORT],…/NAME[/DB]      the primary that Sentinels name NAME
//! redis+cluster://[USER[:PASSWORD]@]HOST[:PORT],…                 a cluster, from any of its nodes
//! ```
//! With `rediss` for `redis` the connections are encrypted, those to Sentinels too. A password is never printed.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};

use crate::clock::Clock;
use crate::journal::error::Source;

/// What stands for something else in a URL.
const IN_A_URL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A user's name and password.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Credentials {
    /// The ACL user; `None`: the server's default one.
    pub user: Option<String>,
    /// The password; `None`: not asked for.
    pub password: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = self.password.as_ref().map(|_| "***");
        f.debug_struct("Credentials").field("user", &self.user).field("password", &password).finish()
    }
}

/// A host and its port.
pub type Node = (String, u16);

/// How the primary is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    /// It is this one.
    Single(Node),
    /// Sentinels know.
    Sentinel {
        /// Some of the Sentinels.
        sentinels: Vec<Node>,
        /// The primary's name among them.
        name: String,
    },
    /// The nodes of the cluster know which of them has the journal's slot.
    Cluster(Vec<Node>),
}

/// Where a journal on Redis is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// How the primary is found.
    pub topology: Topology,
    /// Whether connections are encrypted.
    pub tls: bool,
    /// Who the service is to the server, if the URL says so.
    pub credentials: Credentials,
    /// The number of the database.
    pub database: i64,
}

/// A URL that names no journal on Redis.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{url}` names no Redis: {why}")]
pub struct BadRedisUrl {
    /// The URL, without its password.
    url: String,
    /// What is wrong.
    why: String,
}

/// A URL as it may be shown: the text up to the last `@` names a user, and nothing of it is repeated but the scheme.
#[must_use]
pub fn redacted(text: &str) -> String {
    let Some((user, rest)) = text.rsplit_once('@') else { return text.to_owned() };
    let is_scheme = |scheme: &&str| scheme.bytes().all(|b| b.is_ascii_alphabetic() || b == b'+');
    match user.split_once("://").map(|(scheme, _)| scheme).filter(is_scheme) {
        Some(scheme) => format!("{scheme}://***@{rest}"),
        None => format!("***@{rest}"),
    }
}

impl RedisUrl {
    /// Whether a text has the scheme of such a URL.
    #[must_use]
    pub fn claims(text: &str) -> bool {
        ["redis:", "rediss:", "redis+", "rediss+"].iter().any(|scheme| text.starts_with(scheme))
    }
}

fn node(text: &str, port: u16) -> Result<Node, String> {
    // The url crate knows how hosts are written, IPv6 in brackets too.
    let url = url::Url::parse(&format!("redis://{text}")).map_err(|error| format!("`{text}` is no host: {error}"))?;
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| format!("`{text}` is no host"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((host.to_owned(), url.port().unwrap_or(port)))
}

fn decoded(text: &str) -> Result<Option<String>, String> {
    let text = percent_encoding::percent_decode_str(text).decode_utf8();
    let text = text.map_err(|_| "its user or password is not UTF-8".to_owned())?;
    Ok(Some(text.into_owned()).filter(|text| !text.is_empty()))
}

fn parse(text: &str) -> Result<RedisUrl, String> {
    let (scheme, rest) = text.split_once("://").ok_or("write redis://HOST:PORT")?;
    let (tls, kind) = match scheme.split_once('+').unwrap_or((scheme, "")) {
        // What stands there may be a password that slipped in.
        _ if scheme.contains(['@', ':']) => return Err("write redis://HOST:PORT".to_owned()),
        ("redis", kind) => (false, kind),
        ("rediss", kind) => (true, kind),
        _ => return Err("its scheme is not redis, rediss, redis+sentinel or redis+cluster".to_owned()),
    };
    let (user, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let credentials = Credentials { user: decoded(user)?, password: decoded(password)? };
    let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
    if path.contains('?') || hosts.contains('?') {
        return Err("it takes no options after a `?`: they are flags of their own".to_owned());
    }
    let nodes = |port| hosts.split(',').map(|host| node(host, port)).collect::<Result<Vec<_>, _>>();
    let (database, topology) = match kind {
        "" => match nodes(6379)?.as_slice() {
            [one] => (path, Topology::Single(one.clone())),
            _ => return Err("several hosts need redis+sentinel:// or redis+cluster://".to_owned()),
        },
        "sentinel" => {
            let (name, database) = path.split_once('/').unwrap_or((path, ""));
            if name.is_empty() {
                return Err("it does not say which primary the Sentinels are asked for: end it with /NAME".to_owned());
            }
            (database, Topology::Sentinel { sentinels: nodes(26379)?, name: name.to_owned() })
        }
        "cluster" if path.is_empty() => ("", Topology::Cluster(nodes(6379)?)),
        "cluster" => return Err("a cluster has no databases to choose from".to_owned()),
        other => return Err(format!("`{other}` is neither sentinel nor cluster")),
    };
    let database = match database {
        "" => 0,
        number => number.parse::<u32>().map_err(|_| format!("`{number}` is no number of a database"))?.into(),
    };
    Ok(RedisUrl { topology, tls, credentials, database })
}

impl FromStr for RedisUrl {
    type Err = BadRedisUrl;
    fn from_str(text: &str) -> Result<Self, BadRedisUrl> {
        parse(text).map_err(|why| BadRedisUrl { url: redacted(text), why })
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, nodes, name) = match &self.topology {
            Topology::Single(node) => ("", std::slice::from_ref(node), None),
            Topology::Sentinel { sentinels, name } => ("+sentinel", sentinels.as_slice(), Some(name)),
            Topology::Cluster(nodes) => ("+cluster", nodes.as_slice(), None),
        };
        write!(f, "redis{}{kind}://", if self.tls { "s" } else { "" })?;
        if let Some(user) = &self.credentials.user {
            write!(f, "{}@", percent_encoding::utf8_percent_encode(user, IN_A_URL))?;
        }
        for (at, (host, port)) in nodes.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            if host.contains(':') { write!(f, "{comma}[{host}]:{port}")? } else { write!(f, "{comma}{host}:{port}")? }
        }
        if let Some(name) = name {
            write!(f, "/{name}")?;
        }
        if self.database > 0 { write!(f, "/{}", self.database) } else { Ok(()) }
    }
}

/// What to do if the server is not set up to keep what is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Durability {
    /// Write nothing.
    Require,
    /// Write all the same, and warn.
    Warn,
}

/// Certificates for encrypted connections, in PEM files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who may vouch for the server; `None`: those the system trusts.
    pub ca: Option<PathBuf>,
    /// The service's own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// How the link to Redis has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkChange {
    /// There is one, for the first time.
    Up,
    /// There is one again.
    UpAgain,
    /// There is none.
    Down,
}

/// A journal on Redis and how to use it.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// Where it is.
    pub url: RedisUrl,
    /// What its keys begin with, so that several journals can share a server.
    pub namespace: String,
    /// How many Redis replicas must have an entry before it is acknowledged and seen.
    pub wait_replicas: u8,
    /// What to do if the server is not set up to keep what is acknowledged.
    pub durability: Durability,
    /// How long the server may take to answer.
    pub timeout: Duration,
    /// Who the service is to Sentinels.
    pub sentinel_credentials: Credentials,
    /// Certificates.
    pub tls: TlsFiles,
    /// Told how the link to Redis changes.
    pub on_link: fn(LinkChange),
    /// Bytes of the last entries that are kept to append them again, should the journal lose them.
    pub replay_bytes: usize,
    /// By which entries get their times, and how far that may be from the server's.
    pub clock: Clock,
    /// **Bounded-clock**: nothing is appended while the two differ by more.
    pub max_clock_skew: Duration,
}

impl RedisOptions {
    /// The options of a journal of which nothing but its place is said.
    #[must_use]
    pub fn new(url: RedisUrl) -> Self {
        Self {
            wait_replicas: u8::from(!matches!(url.topology, Topology::Single(_))),
            url,
            namespace: "withheld".to_owned(),
            durability: Durability::Require,
            timeout: Duration::from_millis(500),
            sentinel_credentials: Credentials::default(),
            tls: TlsFiles::default(),
            on_link: |_| {},
            replay_bytes: 64 << 20,
            clock: Clock::system(),
            max_clock_skew: Duration::from_mins(1),
        }
    }
}

/// Why a journal on Redis cannot be set up at all; that a server does not answer is no such reason.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// A certificate cannot be read.
    #[error("the file `{path}` cannot be read")]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The certificates make no sense.
    #[error("the certificates for Redis cannot be used")]
    Tls(#[source] Source),
    /// Certificates are given for a connection that is not encrypted.
    #[error("certificates are given, but `{0}` is not encrypted: write rediss")]
    NotEncrypted(String),
}

#[cfg(test)]
#[path = "../../../fuzz/redis_urls.rs"]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_printed_without_their_passwords() {
        for (text, printed) in [
            ("redis://localhost", "redis://localhost:6379"),
            ("redis://127.0.0.1:7000/3", "redis://127.0.0.1:7000/3"),
            ("rediss://desk:p%40ss@example.org", "rediss://desk@example.org:6379"),
            ("redis://:secret@[::1]:7000", "redis://[::1]:7000"),
            ("redis://a%3Ab%40c@h", "redis://a%3Ab%40c@h:6379"),
            ("redis+sentinel://a,b:7,c/main", "redis+sentinel://a:26379,b:7,c:26379/main"),
            ("rediss+sentinel://a/main/2", "rediss+sentinel://a:26379/main/2"),
            ("redis+cluster://a:1,b:2", "redis+cluster://a:1,b:2"),
        ] {
            let url: RedisUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), printed);
            assert!(!format!("{url:?}").contains("secret"));
        }
        let url: RedisUrl = "redis://desk:p%40ss%3A:x@h".parse().unwrap();
        assert_eq!(url.credentials, Credentials { user: Some("desk".into()), password: Some("p@ss::x".into()) });
    }

    #[test]
    fn bad_urls_are_refused_without_repeating_a_password() {
        for (text, says) in [
            ("redis:/x", "write redis://HOST:PORT"),
            ("redis://a,b", "redis+sentinel://"),
            ("redis+sentinel://a", "/NAME"),
            ("redis+cluster://a/1", "no databases"),
            ("redis+ring://a", "`ring`"),
            ("redis://a/x", "`x` is no number"),
            ("redis://a/-2", "`-2` is no number"),
            ("redis://a?tls=true", "flags of their own"),
            ("redis://u:secret@", "no host"),
            ("redis://u:secret@a:99999", "no host"),
            ("redis:u:secret@a", "write redis://HOST:PORT"),
            ("redis+u:secret@a://b", "write redis://HOST:PORT"),
        ] {
            let error = text.parse::<RedisUrl>().unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("secret"), "{error}");
        }
    }
}
