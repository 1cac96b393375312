//! What the daemon is told: flags, then `WITHHELD_*` in the environment, then a file, then defaults.
//!
//! Here is the list of settings, and what their values may be. [`layers`] says which source outranks which, [`settings`]
//! what came of it.

pub mod file;
pub mod layers;
pub mod settings;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;

use crate::domain::country::UnknownViewerPolicy;
use crate::journal::redis::{
    BadRedisUrl, Credentials, Durability, RedisOptions, RedisUrl, SetUpError, TlsFiles, Topology, redacted,
};
use crate::telemetry::{LogFilter, LogFormat};

/// Which journal to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalUrl {
    /// In memory: lost when the process ends.
    Memory,
    /// In an SQLite file.
    Sqlite(PathBuf),
    /// On Redis, shared with other replicas.
    Redis(RedisUrl),
}

/// Not a journal this program knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownJournal {
    /// Of no kind that is known.
    #[error(
        "`{0}` is not a journal: write `sqlite:PATH`, `redis://HOST:PORT`, `redis+sentinel://HOST,HOST/NAME`, `redis+cluster://HOST,HOST` (`rediss` for TLS), or `memory:` for trying things out"
    )]
    Kind(String),
    /// On Redis, but it is not said where.
    #[error(transparent)]
    Redis(#[from] BadRedisUrl),
}

impl FromStr for JournalUrl {
    type Err = UnknownJournal;
    fn from_str(text: &str) -> Result<Self, UnknownJournal> {
        match text.split_once(':') {
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(path.into())),
            Some(_) if RedisUrl::claims(text) => Ok(Self::Redis(text.parse()?)),
            _ => Err(UnknownJournal::Kind(redacted(text))),
        }
    }
}

impl std::fmt::Display for JournalUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Redis(url) => url.fmt(f),
        }
    }
}

/// Where, if anywhere, metrics and health are served over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpListen {
    /// Nowhere.
    Off,
    /// There.
    At(SocketAddr),
}

impl FromStr for HttpListen {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            _ => text.parse().map(Self::At).map_err(|_| "write it like 127.0.0.1:9090, or `off`".to_owned()),
        }
    }
}

/// After how long a connection is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionAge {
    /// Never.
    Off,
    /// After about this.
    Most(Duration),
}

impl FromStr for ConnectionAge {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            _ => interval(text).map(Self::Most).map_err(|why| format!("{why}, or `off`")),
        }
    }
}

/// A length of time that something is done after again and again.
fn interval(text: &str) -> Result<Duration, String> {
    match span(text)? {
        short if short < Duration::from_secs(1) => Err("a second is the least".to_owned()),
        interval => Ok(interval),
    }
}

/// A length of time, for example `1h 30m`, `90s` or `250ms`.
///
/// # Errors
/// If it is none, or less than nothing.
pub fn span(text: &str) -> Result<Duration, String> {
    let span: SignedDuration = text.parse().map_err(|_| "write it like 1h 30m, 90s or 250ms".to_owned())?;
    Duration::try_from(span).map_err(|_| "a length of time is not negative".to_owned())
}

/// What a viewer of unknown country sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum UnknownViewer {
    /// Everything but what is withheld worldwide.
    WorldwideOnly,
    /// Nothing that is withheld anywhere.
    Strict,
}

impl From<UnknownViewer> for UnknownViewerPolicy {
    fn from(policy: UnknownViewer) -> Self {
        match policy {
            UnknownViewer::WorldwideOnly => Self::WorldwideOnly,
            UnknownViewer::Strict => Self::Strict,
        }
    }
}

/// Which journal, and how to reach it.
#[derive(Debug, Clone, clap::Args)]
pub struct JournalArgs {
    /// A TOML file of settings: a key is a flag of `withheld serve` without its dashes. Flags and the environment
    /// outrank it
    #[arg(help_heading = "Configuration")]
    #[arg(long, env = "WITHHELD_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where truth is kept: `sqlite:PATH`, `redis://HOST:PORT`, `redis+sentinel://HOST:PORT,…/NAME`,
    /// `redis+cluster://HOST:PORT,…`, with `rediss` for TLS; or `memory:` for trying things out
    #[arg(help_heading = "Journal")]
    #[arg(long, env = "WITHHELD_JOURNAL", default_value = "sqlite:withheld-data/journal.db", value_name = "URL")]
    pub journal: JournalUrl,
    #[command(flatten)]
    redis: RedisArgs,
}

/// What a journal on Redis needs beside its URL.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Redis")]
struct RedisArgs {
    /// What the journal's keys begin with: several environments can share a server
    #[arg(long, env = "WITHHELD_REDIS_NAMESPACE", default_value = "withheld", value_name = "NAME",
          value_parser = namespace)]
    redis_namespace: String,
    /// Redis replicas that must have an entry before it is acknowledged and seen [default: 0 for redis://, else 1]
    #[arg(long, env = "WITHHELD_REDIS_WAIT_REPLICAS", value_name = "N")]
    redis_wait_replicas: Option<u8>,
    /// What to do if the server's settings would lose what is acknowledged
    #[arg(long, env = "WITHHELD_REDIS_DURABILITY", default_value = "require", value_name = "POLICY")]
    redis_durability: Durability,
    /// How long Redis may take to answer
    #[arg(long, env = "WITHHELD_REDIS_TIMEOUT", default_value = "500ms", value_name = "DURATION", value_parser = span,
          allow_hyphen_values = true)]
    redis_timeout: Duration,
    /// The ACL user, if not in the URL
    #[arg(long, env = "WITHHELD_REDIS_USER", value_name = "NAME")]
    redis_user: Option<String>,
    /// The password, if not in the URL; better in the environment than on the command line, where others see it
    #[arg(long, env = "WITHHELD_REDIS_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    redis_password: Option<String>,
    /// The ACL user for the Sentinels, if they have one
    #[arg(long, env = "WITHHELD_REDIS_SENTINEL_USER", value_name = "NAME")]
    redis_sentinel_user: Option<String>,
    /// The password for the Sentinels, if they have one
    #[arg(long, env = "WITHHELD_REDIS_SENTINEL_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    redis_sentinel_password: Option<String>,
    /// Who may vouch for the server [default: whom the system trusts]
    #[arg(long, env = "WITHHELD_REDIS_CA", value_name = "PEM FILE")]
    redis_ca: Option<PathBuf>,
    /// The service's own certificate, if the server asks for one
    #[arg(long, env = "WITHHELD_REDIS_CERT", value_name = "PEM FILE")]
    redis_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, env = "WITHHELD_REDIS_KEY", value_name = "PEM FILE")]
    redis_key: Option<PathBuf>,
}

/// Settings that do not go together. They may come from different sources, so nobody but us can tell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// Of a certificate and its key, one is missing.
    #[error("`{given}` is set and `{missing}` is not: a certificate and its key go together")]
    HalfIdentity {
        /// What there is.
        given: &'static str,
        /// What there is not.
        missing: &'static str,
    },
    /// Nothing would be left for calls in flight.
    #[error("`drain-pause` is {pause:?}, and all of stopping may take {drain:?} (`drain`): make the pause shorter")]
    PauseOutlastsDrain {
        /// The pause.
        pause: Duration,
        /// All of it.
        drain: Duration,
    },
}

/// Braces would change which slot of a cluster the keys are in; white space is always a slip.
fn namespace(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if !text.is_empty() && text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err("use letters, digits, and - _ . : only".to_owned())
    }
}

impl JournalArgs {
    /// What the values themselves do not tell: that they go together.
    ///
    /// # Errors
    /// If they do not.
    pub fn check(&self) -> Result<(), Contradiction> {
        let [cert, key] = ["redis-cert", "redis-key"];
        match (&self.redis.redis_cert, &self.redis.redis_key) {
            (Some(_), None) => Err(Contradiction::HalfIdentity { given: cert, missing: key }),
            (None, Some(_)) => Err(Contradiction::HalfIdentity { given: key, missing: cert }),
            (Some(_), Some(_)) | (None, None) => Ok(()),
        }
    }

    /// Reads the files that a journal on Redis needs, and reaches for nothing.
    ///
    /// # Errors
    /// If one of them cannot be used.
    pub fn check_files(&self) -> Result<(), SetUpError> {
        match &self.journal {
            JournalUrl::Redis(url) => self.redis(url).check(),
            JournalUrl::Memory | JournalUrl::Sqlite(_) => Ok(()),
        }
    }

    /// How to reach a journal on Redis.
    #[must_use]
    pub fn redis(&self, url: &RedisUrl) -> RedisOptions {
        let args = self.redis.clone();
        let mut url = url.clone();
        url.credentials = Credentials {
            user: url.credentials.user.or(args.redis_user),
            password: url.credentials.password.or(args.redis_password),
        };
        let wait = args.redis_wait_replicas.unwrap_or_else(|| u8::from(!matches!(url.topology, Topology::Single(_))));
        RedisOptions {
            namespace: args.redis_namespace,
            wait_replicas: wait,
            durability: args.redis_durability,
            timeout: args.redis_timeout,
            sentinel_credentials: Credentials {
                user: args.redis_sentinel_user,
                password: args.redis_sentinel_password,
            },
            tls: TlsFiles { ca: args.redis_ca, identity: args.redis_cert.zip(args.redis_key) },
            ..RedisOptions::new(url)
        }
    }
}

impl std::fmt::Display for JournalArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.journal.fmt(f)
    }
}

/// Flags of `withheld serve`.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeArgs {
    /// Where timeline services ask (VisibilityService)
    #[arg(help_heading = "Listeners")]
    #[arg(long, env = "WITHHELD_LISTEN", default_value = "127.0.0.1:50051", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Where operators work (OrderService, ProtectionService, ReportService); keep it on loopback: nobody is asked who they are
    #[arg(help_heading = "Listeners")]
    #[arg(long, env = "WITHHELD_ADMIN_LISTEN", default_value = "127.0.0.1:50052", value_name = "ADDRESS")]
    pub admin_listen: SocketAddr,
    /// Where /metrics, /healthz and /readyz are served over HTTP; `off` for nowhere
    #[arg(help_heading = "Listeners")]
    #[arg(long, env = "WITHHELD_HTTP_LISTEN", default_value = "127.0.0.1:9090", value_name = "ADDRESS")]
    pub http_listen: HttpListen,
    /// Which journal, and how to reach it.
    #[command(flatten)]
    pub journal: JournalArgs,
    /// What a viewer of unknown country sees
    #[arg(help_heading = "Queries")]
    #[arg(long, env = "WITHHELD_UNKNOWN_VIEWER", default_value = "worldwide-only", value_name = "POLICY")]
    pub unknown_viewer: UnknownViewer,
    /// The most accounts and posts in one query
    #[arg(help_heading = "Queries")]
    #[arg(long, env = "WITHHELD_MAX_BATCH", default_value_t = 10_000, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_batch: u32,
    /// Answers are marked STALE when the journal has been out of reach for longer than this
    #[arg(help_heading = "Queries")]
    #[arg(long, env = "WITHHELD_STALE_AFTER", default_value = "5s", value_name = "DURATION", value_parser = span,
          allow_hyphen_values = true)]
    pub stale_after: Duration,
    /// A staged list that no order has used is thrown away after this
    #[arg(help_heading = "Orders")]
    #[arg(long, env = "WITHHELD_KEEP_UPLOADS", default_value = "24h", value_name = "DURATION", value_parser = span,
          allow_hyphen_values = true)]
    pub keep_uploads: Duration,
    /// A snapshot of the state is written beside the journal after so many entries, so that the next start is fast
    #[arg(help_heading = "Starting and stopping")]
    #[arg(long, env = "WITHHELD_SNAPSHOT_EVERY", default_value_t = 50_000, value_name = "ENTRIES",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub snapshot_every: u64,
    /// The file of that snapshot [default: beside the SQLite journal, or withheld-data/NAMESPACE.snapshot]
    #[arg(help_heading = "Starting and stopping")]
    #[arg(long, env = "WITHHELD_SNAPSHOT", value_name = "FILE")]
    pub snapshot: Option<PathBuf>,
    /// Serve from the snapshot, marked STALE, if the journal is out of reach at the start
    #[arg(help_heading = "Starting and stopping")]
    #[arg(long, env = "WITHHELD_SERVE_FROM_SNAPSHOT", default_value_t = false, value_name = "BOOL",
          action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub serve_from_snapshot: bool,
    /// Health says NOT_SERVING when the journal has been out of reach for longer than this [default: never for that]
    #[arg(help_heading = "Queries")]
    #[arg(long, env = "WITHHELD_MAX_STALENESS", value_name = "DURATION", value_parser = span,
          allow_hyphen_values = true)]
    pub max_staleness: Option<Duration>,
    /// A command is refused when the journal has been out of reach for this long
    #[arg(help_heading = "Orders")]
    #[arg(long, env = "WITHHELD_WRITE_LIMIT", default_value = "900ms", value_name = "DURATION", value_parser = span,
          allow_hyphen_values = true)]
    pub write_limit: Duration,
    /// After SIGTERM health says NOT_SERVING, and for so long calls are taken all the same, while balancers notice
    #[arg(help_heading = "Starting and stopping")]
    #[arg(long, env = "WITHHELD_DRAIN_PAUSE", default_value = "3s", value_name = "DURATION", value_parser = span,
          allow_hyphen_values = true)]
    pub drain_pause: Duration,
    /// How long all of stopping may take after SIGTERM; calls that have not finished by then are cut off
    #[arg(help_heading = "Starting and stopping")]
    #[arg(long, env = "WITHHELD_DRAIN", default_value = "20s", value_name = "DURATION", value_parser = span,
          allow_hyphen_values = true)]
    pub drain: Duration,
    /// A connection is ended after about this, so that clients spread over the replicas anew; `off` for never
    #[arg(help_heading = "Connections")]
    #[arg(
        long,
        env = "WITHHELD_MAX_CONNECTION_AGE",
        default_value = "30m",
        value_name = "DURATION",
        allow_hyphen_values = true
    )]
    pub max_connection_age: ConnectionAge,
    /// How often a connection is asked (HTTP/2 PING) whether its other end is still there
    #[arg(help_heading = "Connections")]
    #[arg(long, env = "WITHHELD_KEEPALIVE", default_value = "30s", value_name = "DURATION", value_parser = interval,
          allow_hyphen_values = true)]
    pub keepalive: Duration,
    /// The most connections of timeline services at once; who comes then is turned away
    #[arg(help_heading = "Connections")]
    #[arg(long, env = "WITHHELD_MAX_CONNECTIONS", default_value_t = 10_000, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: u32,
    /// Threads that answer queries [default: one a core]
    #[arg(help_heading = "Queries")]
    #[arg(long, env = "WITHHELD_QUERY_THREADS", value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub query_threads: Option<u16>,
    /// A data file of regimes instead of the built-in one
    #[arg(help_heading = "Orders")]
    #[arg(long, env = "WITHHELD_REGIMES", value_name = "FILE")]
    pub regimes: Option<PathBuf>,
    /// A data file of country groups instead of the built-in one
    #[arg(help_heading = "Orders")]
    #[arg(long, env = "WITHHELD_GROUPS", value_name = "FILE")]
    pub groups: Option<PathBuf>,
    /// A data file of the platform's own links instead of the built-in one
    #[arg(help_heading = "Orders")]
    #[arg(long, env = "WITHHELD_LINKS", value_name = "FILE")]
    pub links: Option<PathBuf>,
    /// A data file that says what takes a second person, instead of the built-in one
    #[arg(help_heading = "Orders")]
    #[arg(long, env = "WITHHELD_POLICY", value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// What is logged: off, error, warn, info, debug or trace, and more of some parts, like info,withheld::journal=debug
    /// [RUST_LOG is read where WITHHELD_LOG_LEVEL is not set]
    #[arg(help_heading = "Log")]
    #[arg(long, env = "WITHHELD_LOG_LEVEL", default_value = "info", value_name = "FILTER")]
    pub log_level: LogFilter,
    /// How: for people, or as one JSON object a line
    #[arg(help_heading = "Log")]
    #[arg(long, env = "WITHHELD_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Read all settings and the files they name, say what is in force and from where, and start nothing
    #[arg(help_heading = "Configuration")]
    #[arg(long)]
    pub validate: bool,
}

impl ServeArgs {
    /// What the values themselves do not tell: that they go together.
    ///
    /// # Errors
    /// If they do not.
    pub fn check(&self) -> Result<(), Contradiction> {
        let (pause, drain) = (self.drain_pause, self.drain);
        if pause >= drain && !pause.is_zero() {
            return Err(Contradiction::PauseOutlastsDrain { pause, drain });
        }
        self.journal.check()
    }
}
