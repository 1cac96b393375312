//! What the daemon is told: flags, then `WITHHELD_*` in the environment, then a file, then defaults.
//!
//! Here is the list of settings; `values` has what their values may be. [`layers`] says which source outranks which,
//! [`settings`] what came of it.

mod access;
mod evidence;
pub mod file;
mod journal;
pub mod layers;
mod reloadable;
pub mod settings;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::telemetry::{LogFilter, LogFormat};
use values::interval;

pub use access::AccessArgs;
pub use evidence::EvidenceArgs;
pub use journal::{JournalArgs, JournalUrl, UnknownJournal};
pub use reloadable::is_reloadable;
pub use values::{ConnectionAge, Contradiction, HttpListen, UnknownViewer, span};

/// Flags of `withheld serve`.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeArgs {
    /// Where timeline services ask (VisibilityService)
    #[arg(help_heading = "Listeners")]
    #[arg(long, env = "WITHHELD_LISTEN", default_value = "127.0.0.1:50051", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Where operators and auditors work (OrderService, ProtectionService, ReportService, AuditService, JournalService); on another address than loopback only with --access
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
    /// What the service knows of its journal.
    #[command(flatten)]
    pub evidence: EvidenceArgs,
    /// Serve from the snapshot, marked STALE, if the journal is out of reach at the start, for 5 s or longer
    #[arg(help_heading = "Starting and stopping")]
    #[arg(long, env = "WITHHELD_SERVE_FROM_SNAPSHOT", default_value_t = false, value_name = "BOOL",
          action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub serve_from_snapshot: bool,
    /// Health says NOT_SERVING when the journal has been out of reach for longer than this [default: never for that]
    #[arg(help_heading = "Queries")]
    #[arg(long, env = "WITHHELD_MAX_STALENESS", value_name = "DURATION", value_parser = span,
          allow_hyphen_values = true)]
    pub max_staleness: Option<Duration>,
    /// Health says NOT_SERVING when the journal could not be followed because of a fault for longer than this: it has
    /// another history, a damaged entry, or one that this program cannot read
    #[arg(help_heading = "Queries")]
    #[arg(long, env = "WITHHELD_MAX_FAULT", default_value = "30s", value_name = "DURATION", value_parser = span,
          allow_hyphen_values = true)]
    pub max_fault: Duration,
    /// Nothing is written while this machine's clock and that of Redis differ by more than this, and no entry is adopted
    /// that is from more than twice as far in the future
    #[arg(help_heading = "Orders")]
    #[arg(long, env = "WITHHELD_MAX_CLOCK_SKEW", default_value = "1m", value_name = "DURATION", value_parser = interval,
          allow_hyphen_values = true)]
    pub max_clock_skew: Duration,
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
    /// TLS, and who may do what.
    #[command(flatten)]
    pub access: AccessArgs,
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
    /// A file with a key that checkpoints of the record are signed with, as `withheld journal key new` makes it; while a
    /// key is being replaced, both, separated by commas [default: checkpoints are not signed]
    #[arg(help_heading = "Record")]
    #[arg(long, env = "WITHHELD_CHECKPOINT_KEY", value_name = "FILE", value_delimiter = ',')]
    pub checkpoint_key: Vec<PathBuf>,
    /// A checkpoint is made about this often, if the journal has gone on
    #[arg(help_heading = "Record")]
    #[arg(long, env = "WITHHELD_CHECKPOINT_EVERY", default_value = "1h", value_name = "DURATION",
          value_parser = interval, allow_hyphen_values = true)]
    pub checkpoint_every: Duration,
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
        let http = match self.http_listen {
            HttpListen::Off => None,
            HttpListen::At(address) => Some(("http-listen", address)),
        };
        let listeners = [Some(("listen", self.listen)), Some(("admin-listen", self.admin_listen)), http];
        let listeners: Vec<_> = listeners.into_iter().flatten().collect();
        for (at, (other, address)) in listeners.iter().enumerate() {
            let taken = listeners.iter().take(at).find(|(_, before)| address.port() != 0 && before == address);
            if let Some((one, _)) = taken {
                return Err(Contradiction::SameAddress { one, other, address: *address });
            }
        }
        self.access.check(listeners.into_iter(), self.admin_listen)?;
        self.journal.check()
    }
}
