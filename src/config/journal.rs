//! Which journal, and how to reach it: also for commands that work on a journal without a service.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::values::{Contradiction, span};
use crate::journal::redis::{
    BadRedisUrl, Credentials, Durability, RedisOptions, RedisUrl, SetUpError, TlsFiles, Topology, redacted,
};

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

impl JournalArgs {
    /// The same settings for another journal: whoever copies a journal on Redis reaches both by them.
    #[must_use]
    pub fn with_journal(&self, journal: JournalUrl) -> Self {
        Self { journal, ..self.clone() }
    }

    /// What the journal's keys on Redis begin with; nothing for one that is elsewhere.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        match self.journal {
            JournalUrl::Redis(_) => Some(&self.redis.redis_namespace),
            JournalUrl::Memory | JournalUrl::Sqlite(_) => None,
        }
    }

    /// A file of this kind that belongs to the journal: beside it, or, if it is elsewhere, under its name. `None` for a
    /// journal that ends with the process.
    #[must_use]
    pub fn beside(&self, kind: &str) -> Option<PathBuf> {
        match &self.journal {
            JournalUrl::Memory => None,
            JournalUrl::Sqlite(path) => {
                let mut beside = path.as_os_str().to_owned();
                beside.push(format!(".{kind}"));
                Some(beside.into())
            }
            JournalUrl::Redis(_) => Some(format!("withheld-data/{}.{kind}", self.redis.redis_namespace).into()),
        }
    }
}

impl std::fmt::Display for JournalArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.journal.fmt(f)
    }
}
