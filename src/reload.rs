//! What can be changed while the service runs, and the change itself: on SIGHUP all settings and the files they name are
//! read anew.
//!
//! Everything is read before anything is changed: a mistake in one file leaves all as it was. What else is to be
//! changeable becomes a field of [`Live`] and of `Read`, and its settings stand in `CHANGEABLE`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tracing::{error, info, warn};

use crate::config::ServeArgs;
use crate::config::layers::ConfigError;
use crate::config::settings::{Change, Settings};
use crate::domain::locator::Links;
use crate::domain::policy::Policy;
use crate::domain::regime::Regimes;
use crate::domain::rules::Rules;
use crate::domain::territory::{DataError, Groups};
use crate::telemetry::{Log, causes};

/// The settings that take effect without a restart.
const CHANGEABLE: &[&str] = &["regimes", "groups", "links", "policy", "log-level"];

/// A file that a setting names cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A data file cannot be read.
    #[error("the data file `{path}` cannot be read")]
    DataFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A data file makes no sense.
    #[error("`{path}`: {source}")]
    Data {
        /// The file.
        path: PathBuf,
        /// Why.
        source: DataError,
    },
}

/// The settings cannot be read anew.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Load(#[from] LoadError),
}

fn data<T>(path: Option<&Path>, parse: fn(&str) -> Result<T, DataError>, builtin: fn() -> T) -> Result<T, LoadError> {
    let Some(path) = path else { return Ok(builtin()) };
    let text = std::fs::read_to_string(path).map_err(|source| LoadError::DataFile { path: path.to_owned(), source })?;
    parse(&text).map_err(|source| LoadError::Data { path: path.to_owned(), source })
}

/// Reads the data files.
///
/// # Errors
/// If one of them cannot be used.
pub fn rules(args: &ServeArgs) -> Result<Rules, LoadError> {
    Ok(Rules {
        regimes: data(args.regimes.as_deref(), Regimes::parse, Regimes::builtin)?,
        groups: data(args.groups.as_deref(), Groups::parse, Groups::builtin)?,
        links: data(args.links.as_deref(), Links::parse, Links::builtin)?,
        policy: data(args.policy.as_deref(), Policy::parse, Policy::builtin)?,
    })
}

/// What the running service reads anew each time it uses it.
#[derive(Debug, Clone)]
pub struct Live {
    /// The data that decisions rest on. Whoever decides loads it once: a decision rests on one version of it.
    pub rules: Arc<ArcSwap<Rules>>,
}

impl Live {
    /// As the settings have it.
    ///
    /// # Errors
    /// If a file that they name cannot be used.
    pub fn load(args: &ServeArgs) -> Result<Self, LoadError> {
        let Read { rules } = Read::new(args)?;
        Ok(Self { rules: Arc::new(ArcSwap::from_pointee(rules)) })
    }
}

/// All that was read, and nothing of it in force.
struct Read {
    rules: Rules,
}

impl Read {
    fn new(args: &ServeArgs) -> Result<Self, LoadError> {
        Ok(Self { rules: rules(args)? })
    }

    /// Puts it in force. Tells what is another one than before: what a file says may be new under the same name.
    fn put_in_force(self, live: &Live) -> Vec<&'static str> {
        let (old, new) = (live.rules.load(), self.rules);
        let changed = [
            (old.regimes != new.regimes, "other regimes"),
            (old.groups != new.groups, "other country groups"),
            (old.links != new.links, "other links"),
            (old.policy != new.policy, "another policy"),
        ];
        live.rules.store(Arc::new(new));
        changed.into_iter().filter_map(|(other, what)| other.then_some(what)).collect()
    }
}

/// Reads everything anew, again and again.
pub struct Reloading<F> {
    live: Live,
    log: Log,
    /// What is in force.
    settings: Settings,
    /// Reads the settings.
    read: F,
}

impl<F: Fn() -> Result<(ServeArgs, Settings), ConfigError>> Reloading<F> {
    /// Of a service that was started with these settings.
    pub const fn new(live: Live, log: Log, settings: Settings, read: F) -> Self {
        Self { live, log, settings, read }
    }

    /// Reads everything anew, and says what came of it.
    pub fn reload(&mut self) {
        let read = (self.read)().map_err(ReloadError::from).and_then(|(args, settings)| {
            let read = Read::new(&args)?;
            Ok((args, settings, read))
        });
        let (args, settings, read) = match read {
            Ok(read) => read,
            Err(error) => return error!(error = causes(&error), "not reloaded: everything stays as it was"),
        };
        let (changed, fixed): (Vec<Change>, Vec<Change>) =
            self.settings.changes(&settings).into_iter().partition(|change| CHANGEABLE.contains(&&*change.name));
        let mut changed: Vec<String> = changed.iter().map(ToString::to_string).collect();
        changed.extend(read.put_in_force(&self.live).into_iter().map(str::to_owned));
        self.settings.take(CHANGEABLE, &settings);
        let tell = || info!(changed = %listed(&changed), "reloaded");
        // Told while the log tells such things: before it is silenced, or after it is not any more.
        if tracing::enabled!(tracing::Level::INFO) {
            tell();
            self.log.set(&args.log_level);
        } else {
            self.log.set(&args.log_level);
            tell();
        }
        for change in fixed {
            warn!(%change, "a setting stays as it was: it needs a restart");
        }
    }

    /// Reloads on each SIGHUP, for ever.
    ///
    /// # Errors
    /// If signals cannot be had.
    pub fn on_hangup(mut self) -> std::io::Result<()>
    where
        F: Send + 'static,
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                // Files are read: that may take a moment, in which nobody else is to wait.
                tokio::task::block_in_place(|| self.reload());
            }
        });
        Ok(())
    }
}

fn listed(changed: &[String]) -> String {
    if changed.is_empty() { "nothing".to_owned() } else { changed.join("; ") }
}
