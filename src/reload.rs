//! What can be changed while the service runs, and the change itself: on SIGHUP all settings and the files they name are
//! read anew; who may do what, and what the listeners show, also when a file of theirs has changed.
//!
//! Which settings can be changed is in `config/reloadable.rs`. On SIGHUP everything is read before anything is changed: a
//! mistake leaves all as it was. When only files change, each part is by itself: a mistake in the access file keeps no
//! certificate from being replaced.

mod watched;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::ServerConfig;
use tracing::{error, info, warn};

use crate::access::{self, Access, AccessError};
use crate::clock::Clock;
use crate::config::layers::ConfigError;
use crate::config::settings::{Change, Settings};
use crate::config::{Contradiction, ServeArgs};
use crate::domain::locator::Links;
use crate::domain::policy::Policy;
use crate::domain::regime::Regimes;
use crate::domain::rules::Rules;
use crate::domain::territory::{DataError, Groups};
use crate::metrics::{self, ConfigPart};
use crate::net::{Tls, TlsError, TlsIdentity};
use crate::telemetry::{Log, causes};
use watched::Watched;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// So often it is said again that a part cannot be read, while its error is the same.
const SAY_AGAIN: Duration = Duration::from_mins(1);

/// What is agreed upon with TLS.
const GRPC: &[&[u8]] = &[b"h2"];
const PAGES: &[&[u8]] = &[b"http/1.1"];

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
    /// What was taken over and what was not do not go together.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
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

/// Who may do what, if anybody is asked, and the files that say so.
fn access(args: &ServeArgs) -> Result<(Option<Access>, Vec<PathBuf>), LoadError> {
    let Some(path) = args.access.access.as_deref() else { return Ok((None, Vec::new())) };
    let access = Access::read(path)?;
    let files = access.files(path);
    Ok((Some(access), files))
}

/// What the listeners show: for queries, for operators, for pages.
struct Shown {
    identity: TlsIdentity,
    listeners: [ServerConfig; 3],
}

/// What the listeners show, if TLS is spoken, and the files that have it.
fn shown(args: &ServeArgs) -> Result<(Option<Shown>, Vec<PathBuf>), LoadError> {
    let Some(files) = args.access.tls_files() else { return Ok((None, Vec::new())) };
    let (identity, args) = (files.read()?, &args.access);
    let listeners = [
        identity.config(args.client_cert, GRPC)?,
        identity.config(args.admin_client_cert, GRPC)?,
        identity.config(args.http_client_cert, PAGES)?,
    ];
    Ok((Some(Shown { identity, listeners }), files.paths()))
}

impl Shown {
    /// What is to be known of it beforehand.
    fn measure(&self) {
        metrics::certificates(self.identity.expiry(), self.identity.client_ca_expiry());
    }
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
        let rules = Arc::new(ArcSwap::from_pointee(rules(args)?));
        let access = Arc::new(ArcSwapOption::from(access(args)?.0.map(Arc::new)));
        let shown = shown(args)?.0;
        shown.iter().for_each(Shown::measure);
        Ok(Self { rules, access, tls: shown.map(|shown| shown.listeners.map(Tls::new)) })
    }

    /// What of the files can be used, and is of no use all the same.
    ///
    /// # Errors
    /// If the service's certificate has expired.
    pub fn check(args: &ServeArgs, clock: &Clock) -> Result<(), LoadError> {
        match shown(args)?.0 {
            Some(shown) => Ok(shown.identity.check(clock.now())?),
            None => Ok(()),
        }
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

    /// Puts in force who may do what. What somebody has used of their calls stays used.
    fn replace_access(&self, new: Option<Access>) {
        let old = self.access.load();
        let new = new.map(|mut new| {
            old.iter().for_each(|old| new.keep_rates_of(old));
            Arc::new(new)
        });
        self.access.store(new);
    }

    /// Has those who connect from now on shown that.
    fn replace_shown(&self, new: Option<Shown>) {
        if let (Some(new), Some(listeners)) = (new, &self.tls) {
            new.measure();
            new.listeners.into_iter().zip(listeners).for_each(|(config, tls)| tls.show(config));
        }
    }
}

/// Of what cannot be read, what was said last.
#[derive(Debug, Default)]
struct Complaint(Option<(String, Duration)>);

impl Complaint {
    /// Whether it is to be said: it is another one, or was said long ago.
    fn is_due(&mut self, error: &str, now: Duration) -> bool {
        if self.0.as_ref().is_some_and(|(said, at)| said == error && now - *at < SAY_AGAIN) {
            return false;
        }
        self.0 = Some((error.to_owned(), now));
        true
    }
}

/// A part of the configuration whose files are looked at.
#[derive(Debug, Default)]
struct Part {
    files: Watched,
    complaint: Complaint,
}

/// Reads everything anew, again and again.
pub struct Reloading<F> {
    live: Live,
    log: Log,
    clock: Clock,
    /// What is in force, as it may be told.
    settings: Settings,
    /// What is in force.
    args: ServeArgs,
    access: Part,
    certificates: Part,
    /// Reads the settings.
    read: F,
}

/// All that was read on SIGHUP, and nothing of it in force.
struct Read {
    args: ServeArgs,
    settings: Settings,
    /// The settings that are taken over.
    taken: Vec<&'static str>,
    rules: Rules,
    access: Option<Access>,
    shown: Option<Shown>,
}

impl<F: Fn() -> Result<(ServeArgs, Settings), ConfigError>> Reloading<F> {
    /// Of a service that was started with these settings.
    pub fn new(args: &ServeArgs, live: Live, log: Log, clock: Clock, settings: Settings, read: F) -> Self {
        let (access, certificates) = (Part::default(), Part::default());
        Self { live, log, clock, settings, args: args.clone(), access, certificates, read }
    }

    fn read_all(&mut self) -> Result<Read, ReloadError> {
        let (read, settings) = (self.read)()?;
        let mut args = self.args.clone();
        let taken = args.take_over(&read);
        args.check()?;
        let rules = rules(&args)?;
        let access = self.access.files.read(|| access(&args))?;
        let shown = self.certificates.files.read(|| shown_that_holds(&args, &self.clock))?;
        Ok(Read { args, settings, taken, rules, access, shown })
    }

    /// Reads everything anew, and says what came of it.
    pub fn reload(&mut self) {
        let read = self.read_all();
        metrics::reloaded(ConfigPart::Settings, read.is_ok().then(|| self.clock.now()));
        let Read { args, settings, taken, rules, access, shown } = match read {
            Ok(read) => read,
            Err(error) => {
                return error!(error = causes(&error), "configuration reload failed: everything stays as it was");
            }
        };
        let (changed, fixed): (Vec<Change>, Vec<Change>) =
            self.settings.changes(&settings).into_iter().partition(|change| taken.contains(&&*change.name));
        let mut changed: Vec<String> = changed.iter().map(ToString::to_string).collect();
        changed.extend(self.live.replace_rules(rules).into_iter().map(str::to_owned));
        self.live.replace_access(access);
        self.live.replace_shown(shown);
        self.args = args;
        self.settings.take(&taken, &settings);
        self.succeeded(ConfigPart::Access);
        self.succeeded(ConfigPart::Certificates);
        let tell = || info!(changed = %listed(&changed), "reloaded");
        // Told while the log tells such things: before it is silenced, or after it is not any more.
        if tracing::enabled!(tracing::Level::INFO) {
            tell();
            self.log.set(&self.args.log_level);
        } else {
            self.log.set(&self.args.log_level);
            tell();
        }
        for change in fixed {
            warn!(%change, "a setting stays as it was: it needs a restart");
        }
    }

    fn succeeded(&mut self, part: ConfigPart) {
        metrics::reloaded(part, Some(self.clock.now()));
        match part {
            ConfigPart::Access => self.access.complaint = Complaint::default(),
            ConfigPart::Certificates => self.certificates.complaint = Complaint::default(),
            ConfigPart::Settings => {}
        }
    }

    /// Looks whether a file has changed that says who may do what, or what the listeners show: each by itself.
    fn look(&mut self) {
        if self.access.files.is_due() {
            match self.access.files.read(|| access(&self.args)) {
                Ok(access) => {
                    self.live.replace_access(access);
                    self.succeeded(ConfigPart::Access);
                    info!("access reloaded: who may do what is what the files say now");
                }
                Err(error) => {
                    failed(ConfigPart::Access, &error, &mut self.access.complaint, &self.clock);
                }
            }
        }
        if self.certificates.files.is_due() {
            match self.certificates.files.read(|| shown_that_holds(&self.args, &self.clock)) {
                Ok(shown) => {
                    self.live.replace_shown(shown);
                    self.succeeded(ConfigPart::Certificates);
                    info!("certificates reloaded: listeners show what the files have now");
                }
                Err(error) => {
                    failed(ConfigPart::Certificates, &error, &mut self.certificates.complaint, &self.clock);
                }
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
        self.live.replace_access(self.access.files.read(|| access(&self.args))?);
        self.live.replace_shown(self.certificates.files.read(|| shown(&self.args))?);
        for part in ConfigPart::ALL {
            self.succeeded(part);
        }
        if let Err(error) = Live::check(&self.args, &self.clock) {
            error!(error = causes(&error), "certificate expired");
        }
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

/// What replaces a certificate has to hold: the one that is shown is no worse than one that has expired.
fn shown_that_holds(args: &ServeArgs, clock: &Clock) -> Result<(Option<Shown>, Vec<PathBuf>), LoadError> {
    let (shown, files) = shown(args)?;
    if let Some(shown) = &shown {
        shown.identity.check(clock.now())?;
    }
    Ok((shown, files))
}

fn failed(part: ConfigPart, error: &LoadError, complaint: &mut Complaint, clock: &Clock) {
    metrics::reloaded(part, None);
    let error = causes(error);
    if complaint.is_due(&error, clock.monotonic()) {
        error!(part = part.as_str(), error, "configuration reload failed: it stays as it was, and is tried again");
    }
}

fn listed(changed: &[String]) -> String {
    if changed.is_empty() { "nothing".to_owned() } else { changed.join("; ") }
}
