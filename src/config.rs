//! What the daemon is told at start: flags, then `WITHHELD_*` in the environment, then defaults.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;

use crate::domain::country::UnknownViewerPolicy;

/// Which journal to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalUrl {
    /// In memory: lost when the process ends.
    Memory,
    /// In an SQLite file.
    Sqlite(PathBuf),
}

/// Not a journal this program knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a journal: write `sqlite:PATH`, or `memory:` for trying things out")]
pub struct UnknownJournal(String);

impl FromStr for JournalUrl {
    type Err = UnknownJournal;
    fn from_str(text: &str) -> Result<Self, UnknownJournal> {
        match text.split_once(':') {
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(path.into())),
            _ => Err(UnknownJournal(text.to_owned())),
        }
    }
}

impl std::fmt::Display for JournalUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
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

/// Flags of `withheld serve`.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeArgs {
    /// Where timeline services ask (VisibilityService)
    #[arg(long, env = "WITHHELD_LISTEN", default_value = "127.0.0.1:50051", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Where operators work (OrderService, ProtectionService); keep it on loopback: nobody is asked who they are
    #[arg(long, env = "WITHHELD_ADMIN_LISTEN", default_value = "127.0.0.1:50052", value_name = "ADDRESS")]
    pub admin_listen: SocketAddr,
    /// Where /metrics, /healthz and /readyz are served over HTTP; `off` for nowhere
    #[arg(long, env = "WITHHELD_HTTP_LISTEN", default_value = "127.0.0.1:9090", value_name = "ADDRESS")]
    pub http_listen: HttpListen,
    /// Where truth is kept: `sqlite:PATH`, or `memory:` for trying things out
    #[arg(long, env = "WITHHELD_JOURNAL", default_value = "sqlite:withheld-data/journal.db", value_name = "URL")]
    pub journal: JournalUrl,
    /// What a viewer of unknown country sees
    #[arg(long, env = "WITHHELD_UNKNOWN_VIEWER", default_value = "worldwide-only", value_name = "POLICY")]
    pub unknown_viewer: UnknownViewer,
    /// The most accounts and posts in one query
    #[arg(long, env = "WITHHELD_MAX_BATCH", default_value_t = 10_000, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_batch: u32,
    /// Answers are marked STALE when the journal has been out of reach for longer than this
    #[arg(long, env = "WITHHELD_STALE_AFTER", default_value = "5s", value_name = "DURATION", value_parser = span,
          allow_hyphen_values = true)]
    pub stale_after: Duration,
    /// A staged list that no order has used is thrown away after this
    #[arg(long, env = "WITHHELD_KEEP_UPLOADS", default_value = "24h", value_name = "DURATION", value_parser = span,
          allow_hyphen_values = true)]
    pub keep_uploads: Duration,
    /// A snapshot of the state is written beside the journal after so many entries, so that the next start is fast
    #[arg(long, env = "WITHHELD_SNAPSHOT_EVERY", default_value_t = 50_000, value_name = "ENTRIES",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub snapshot_every: u64,
    /// How long calls in flight may take to finish after SIGTERM
    #[arg(long, env = "WITHHELD_DRAIN", default_value = "10s", value_name = "DURATION", value_parser = span,
          allow_hyphen_values = true)]
    pub drain: Duration,
    /// Threads that answer queries [default: one a core]
    #[arg(long, env = "WITHHELD_QUERY_THREADS", value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub query_threads: Option<u16>,
    /// A data file of regimes instead of the built-in one
    #[arg(long, env = "WITHHELD_REGIMES", value_name = "FILE")]
    pub regimes: Option<PathBuf>,
    /// A data file of country groups instead of the built-in one
    #[arg(long, env = "WITHHELD_GROUPS", value_name = "FILE")]
    pub groups: Option<PathBuf>,
    /// A data file of the platform's own links instead of the built-in one
    #[arg(long, env = "WITHHELD_LINKS", value_name = "FILE")]
    pub links: Option<PathBuf>,
}
