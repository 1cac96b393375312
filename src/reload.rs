//! What can be changed while the service runs, and the change itself: on SIGHUP all settings and the files they name are
//! read anew; who may do what, and what the listeners show, also when a file of theirs has changed.
//!
//! Everything is read before anything is changed: a mistake in one file leaves all as it was. What else is to be
//! changeable becomes a field of [`Live`] and of `Read`, and its settings stand in `CHANGEABLE`.

mod guards;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tracing::{error, info, warn};

use crate::access::{self, AccessError};
use crate::config::layers::ConfigError;
use crate::config::settings::{Change, Settings};
use crate::config::{AccessArgs, ServeArgs};
use crate::domain::locator::Links;
use crate::domain::policy::Policy;
use crate::domain::regime::Regimes;
use crate::domain::rules::Rules;
use crate::domain::territory::{DataError, Groups};
use crate::net::{Tls, TlsError};
use crate::telemetry::{Log, causes};
use guards::{Guards, Watch};

/// The settings that take effect without a restart.
const CHANGEABLE: &[&str] = &[
    "regimes",
    "groups",
    "links",
    "policy",
    "access",
    "tls-cert",
    "tls-key",
    "tls-client-ca",
    "tls-min-version",
    "log-level",
];
/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(2);

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
    /// It cannot be told who may do what.
    #[error(transparent)]
    Access(AccessError),
    /// Nobody could ask for a reload.
    #[error("the operating system refuses signals")]
    Signals(#[source] std::io::Error),
    /// TLS cannot be spoken.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl From<AccessError> for LoadError {
    fn from(error: AccessError) -> Self {
        Self::Access(error)
    }
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
fn rules(args: &ServeArgs) -> Result<Rules, LoadError> {
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
    /// Who may do what.
    pub access: access::Current,
    /// What the listeners show, if TLS is spoken: for queries, for operators, for pages.
    pub tls: Option<[Tls; 3]>,
}

impl Live {
    /// As the settings have it.
    ///
    /// # Errors
    /// If a file that they name cannot be used.
    pub fn load(args: &ServeArgs) -> Result<Self, LoadError> {
        let (access, tls) = Guards::read(&args.access)?.start();
        Ok(Self { rules: Arc::new(ArcSwap::from_pointee(rules(args)?)), access, tls })
    }

    /// Puts other data in force. Tells what is another one than before: what a file says may be new under the same name.
    fn replace_rules(&self, new: Rules) -> Vec<&'static str> {
        let old = self.rules.load();
        let changed = [
            (old.regimes != new.regimes, "other regimes"),
            (old.groups != new.groups, "other country groups"),
            (old.links != new.links, "other links"),
            (old.policy != new.policy, "another policy"),
        ];
        self.rules.store(Arc::new(new));
        changed.into_iter().filter_map(|(other, what)| other.then_some(what)).collect()
    }

    fn replace_guards(&self, guards: Guards) {
        guards.put_in_force(&self.access, self.tls.as_ref());
    }
}

/// Reads everything anew, again and again.
pub struct Reloading<F> {
    live: Live,
    log: Log,
    /// What is in force.
    settings: Settings,
    args: AccessArgs,
    watch: Watch,
    /// Reads the settings.
    read: F,
}

impl<F: Fn() -> Result<(ServeArgs, Settings), ConfigError>> Reloading<F> {
    /// Of a service that was started with these settings.
    pub fn new(args: &ServeArgs, live: Live, log: Log, settings: Settings, read: F) -> Self {
        Self { live, log, settings, args: args.access.clone(), watch: Watch::default(), read }
    }

    /// Reads everything anew, and says what came of it.
    pub fn reload(&mut self) {
        let read = (self.read)().map_err(ReloadError::from).and_then(|(args, settings)| {
            let (rules, guards) = (rules(&args)?, self.watch.read(&args.access)?);
            Ok((args, settings, rules, guards))
        });
        let (args, settings, rules, guards) = match read {
            Ok(read) => read,
            Err(error) => return error!(error = causes(&error), "not reloaded: everything stays as it was"),
        };
        let (changed, fixed): (Vec<Change>, Vec<Change>) =
            self.settings.changes(&settings).into_iter().partition(|change| CHANGEABLE.contains(&&*change.name));
        let mut changed: Vec<String> = changed.iter().map(ToString::to_string).collect();
        changed.extend(self.live.replace_rules(rules).into_iter().map(str::to_owned));
        self.live.replace_guards(guards);
        self.args = args.access;
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

    /// Looks whether a file has changed that says who may do what, or what the listeners show.
    fn look(&mut self) {
        match self.watch.look(&self.args) {
            None => {}
            Some(Ok(guards)) => {
                self.live.replace_guards(guards);
                info!("who may do what, and the certificates, are those that the files have now");
            }
            Some(Err(error)) => {
                error!(error = causes(&error), "who may do what, and the certificates, stay as they were");
            }
        }
    }

    /// Reloads on each SIGHUP, and looks at files now and then, for ever.
    ///
    /// # Errors
    /// If signals cannot be had, or a file not any more.
    pub fn go(mut self) -> Result<(), LoadError>
    where
        F: Send + 'static,
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut hangup = signal(SignalKind::hangup()).map_err(LoadError::Signals)?;
        // From now on it is known what they are.
        self.live.replace_guards(self.watch.read(&self.args)?);
        tokio::spawn(async move {
            loop {
                let hung_up = tokio::select! {
                    biased;
                    signal = hangup.recv() => signal.is_some(),
                    () = tokio::time::sleep(LOOK) => false,
                };
                // Files are read: that may take a moment, in which nobody else is to wait.
                tokio::task::block_in_place(|| if hung_up { self.reload() } else { self.look() });
            }
        });
        Ok(())
    }
}

fn listed(changed: &[String]) -> String {
    if changed.is_empty() { "nothing".to_owned() } else { changed.join("; ") }
}
