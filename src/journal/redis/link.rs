//! The link to the primary: finds it, connects, notices when it is gone, and finds the next one, for ever.
//!
//! A [`Session`] is a set of connections to one server that was the primary when they were opened. Whoever meets an error
//! that ends a session says so, and the supervisor opens another one. Nobody waits for a session here but those who ask
//! to: a write without one is refused at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, Pipeline, Value};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::connection::{CallError, Connector, call, call_all};
use super::durability;
use super::locate::{LocateError, Located, Locator};
use super::options::{Durability, LinkChange, Node, RedisOptions, Topology};
use super::scripts::{Ends, Scripts};
use crate::clock::jittered;
use crate::journal::Position;
use crate::telemetry::causes;

/// How often the server is asked whether it still is what it was.
const TICK: Duration = Duration::from_millis(500);
/// The first and the longest pause before connecting again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Settings are looked at again after so many ticks.
const SETTINGS_EVERY: u32 = 20;

/// Connections to the primary.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) node: Node,
    /// Appends go here, each followed by a WAIT.
    writer: MultiplexedConnection,
    /// Everything that is answered at once.
    reader: MultiplexedConnection,
    /// Blocking reads, which hold all that comes after them.
    waker: MultiplexedConnection,
    limit: Duration,
    /// Whether the server can tell when replicas have an entry on their disks.
    waitaof: bool,
    /// Cancelled when the session is of no more use.
    over: CancellationToken,
    /// What is wrong with the server's settings.
    shortcomings: ArcSwap<Vec<String>>,
    /// Whether it is the primary by the word of those who would replace it.
    certain: AtomicBool,
    /// How many of its replicas it has heard of within the last seconds.
    replicas: AtomicUsize,
    /// So many of them make it the primary where nobody else's word does.
    enough: usize,
}

impl Session {
    fn noted<T>(&self, answer: Result<T, CallError>) -> Result<T, CallError> {
        if let Err(error) = &answer
            && error.ends_session()
            && !self.over.is_cancelled()
        {
            warn!(error = causes(error), primary = %shown(&self.node), "the link to Redis broke");
            self.over.cancel();
        }
        answer
    }

    /// A command that is answered at once.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, CallError> {
        self.ask_within(command, self.limit).await
    }

    /// The same with a limit of its own.
    pub(super) async fn ask_within<T: FromRedisValue>(&self, command: &Cmd, limit: Duration) -> Result<T, CallError> {
        self.noted(call(&self.reader, command, limit).await)
    }

    /// Commands that write, sent at once.
    pub(super) async fn write(
        &self,
        commands: &mut Pipeline,
        limit: Duration,
    ) -> Result<Vec<Result<Value, CallError>>, CallError> {
        let answers = self.noted(call_all(&self.writer, commands, limit).await)?;
        Ok(answers.into_iter().map(|answer| self.noted(answer)).collect())
    }

    /// A read that the server holds until there is something, or `block` is over.
    pub(super) async fn block(&self, command: &Cmd, block: Duration) -> Result<Value, CallError> {
        self.noted(call(&self.waker, command, block + self.limit).await)
    }

    /// How long a call may take.
    pub(super) const fn limit(&self) -> Duration {
        self.limit
    }

    /// Whether the server can tell when replicas have an entry on their disks, not only in their memories.
    pub(super) const fn knows_waitaof(&self) -> bool {
        self.waitaof
    }

    /// What is wrong with the server's settings; nothing may be written then.
    pub(super) fn shortcomings(&self) -> Arc<Vec<String>> {
        self.shortcomings.load_full()
    }

    /// With how many of its replicas the server is in touch.
    pub(super) fn replicas(&self) -> usize {
        self.replicas.load(Ordering::Relaxed)
    }

    /// Whether it is the primary by the word of those who would replace it.
    pub(super) fn is_certain(&self) -> bool {
        self.certain.load(Ordering::Relaxed) && !self.over.is_cancelled()
    }

    /// Whether what it says is what the primary says, as far as can be known without asking: most of those who would
    /// replace it call it the primary, or replicas followed it within the last seconds.
    pub(super) fn is_in_touch(&self) -> bool {
        self.is_certain() || self.replicas() >= self.enough && !self.over.is_cancelled()
    }
}

fn shown((host, port): &Node) -> String {
    format!("{host}:{port}")
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error(transparent)]
    Locate(#[from] LocateError),
    #[error("{doing} `{server}`")]
    Call {
        doing: &'static str,
        server: String,
        #[source]
        source: CallError,
    },
    #[error("`{0}` is not a primary")]
    NotPrimary(String),
}

/// How the link stands.
#[derive(Debug)]
enum State {
    /// It has just been lost, or there was none yet: the first attempt to have it is under way.
    Lost,
    /// That attempt has failed, as others since.
    Down,
    Up(Arc<Session>),
}

/// A handle on the link.
#[derive(Debug, Clone)]
pub(super) struct Link(Arc<watch::Sender<State>>);

impl Link {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(State::Lost)))
    }

    /// The session there is, or will be in a moment if the link has just been lost. A link that is down is not waited for.
    pub(super) async fn session(&self, limit: Duration) -> Option<Arc<Session>> {
        let mut states = self.0.subscribe();
        let settled = states.wait_for(|state| match state {
            State::Lost => false,
            State::Down => true,
            State::Up(session) => !session.over.is_cancelled(),
        });
        match &*tokio::time::timeout(limit, settled).await.ok()?.ok()? {
            State::Up(session) => Some(Arc::clone(session)),
            State::Lost | State::Down => None,
        }
    }

    /// Waits for a session.
    pub(super) async fn connected(&self) -> Arc<Session> {
        let mut states = self.0.subscribe();
        loop {
            if let State::Up(session) = &*states.borrow_and_update()
                && !session.over.is_cancelled()
            {
                return Arc::clone(session);
            }
            if states.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

/// Keeps the link up, for ever.
pub(super) struct Supervisor {
    pub(super) link: Link,
    pub(super) options: RedisOptions,
    pub(super) connector: Connector,
    pub(super) locator: Locator,
    pub(super) scripts: Scripts,
}

impl Supervisor {
    /// Never returns; `unsettled` is called with what no desk has settled for a while.
    pub(super) async fn run(self, unsettled: impl AsyncFn(&Session, Position)) {
        let mut backoff = BACKOFF.0;
        let mut told = String::new();
        let mut linked_before = false;
        (self.options.on_link)(LinkChange::Down);
        loop {
            match self.connect().await {
                Ok(session) => {
                    let again = std::mem::replace(&mut linked_before, true);
                    (self.options.on_link)(if again { LinkChange::UpAgain } else { LinkChange::Up });
                    (backoff, told) = (BACKOFF.0, String::new());
                    info!(primary = %shown(&session.node), "linked to Redis");
                    let session = Arc::new(session);
                    self.link.0.send_replace(State::Up(Arc::clone(&session)));
                    self.watch(&session, &unsettled).await;
                    session.over.cancel();
                    self.link.0.send_replace(State::Lost);
                    (self.options.on_link)(LinkChange::Down);
                    // Nearly at once: most links that break can be had again.
                }
                Err(error) => {
                    // The same trouble is told once, not twice a second.
                    let text = error.to_string();
                    if text != told {
                        warn!(error = causes(&error), "no link to Redis, trying again");
                        told = text;
                    }
                    self.link.0.send_replace(State::Down);
                    backoff = (backoff * 2).min(BACKOFF.1);
                }
            }
            tokio::time::sleep(jittered(backoff)).await;
        }
    }

    async fn connect(&self) -> Result<Session, ConnectError> {
        let Located { node, certain } = self.locator.locate().await?;
        let failed = |doing| {
            let server = shown(&node);
            move |source| ConnectError::Call { doing, server, source }
        };
        let url = &self.options.url;
        let open = || self.connector.connect(&node, &url.credentials, url.database);
        let (writer, reader, waker) = tokio::try_join!(open(), open(), open()).map_err(failed("cannot connect to"))?;
        let limit = self.options.timeout;
        let standing = durability::standing(&reader, limit).await.map_err(failed("cannot ask"))?;
        if !standing.primary {
            return Err(ConnectError::NotPrimary(shown(&node)));
        }
        self.scripts.load(&reader, limit).await.map_err(failed("cannot load scripts into"))?;
        let found = durability::shortcomings(&reader, limit).await.map_err(failed("cannot ask for settings of"))?;
        let waitaof = durability::knows_waitaof(&reader, limit).await.map_err(failed("cannot ask"))?;
        let session = Session {
            certain: AtomicBool::new(certain),
            replicas: AtomicUsize::new(standing.replicas),
            enough: usize::from(self.options.wait_replicas.max(1)),
            node,
            writer,
            reader,
            waker,
            limit,
            waitaof,
            over: CancellationToken::new(),
            shortcomings: ArcSwap::default(),
        };
        self.judge(&session, found);
        Ok(session)
    }

    /// Says what is wrong with the settings, and keeps it if it forbids to write.
    fn judge(&self, session: &Session, found: Vec<String>) {
        let server = shown(&session.node);
        let forbids = match self.options.durability {
            Durability::Require => found,
            Durability::Warn => {
                for shortcoming in &found {
                    warn!(server, shortcoming, "this server may lose what is acknowledged");
                }
                Vec::new()
            }
        };
        if **session.shortcomings.load() != forbids {
            for shortcoming in &forbids {
                error!(server, shortcoming, "nothing is written: this server may lose what is acknowledged");
            }
            session.shortcomings.store(Arc::new(forbids));
        }
    }

    /// Returns when the session is over.
    async fn watch(&self, session: &Session, unsettled: &impl AsyncFn(&Session, Position)) {
        let mut before: Option<Position> = None;
        let mut ticks: u32 = 0;
        loop {
            tokio::select! {
                () = session.over.cancelled() => return,
                () = tokio::time::sleep(jittered(TICK)) => {}
            }
            ticks = ticks.wrapping_add(1);
            let Ok(standing) = session.noted(durability::standing(&session.reader, session.limit).await) else {
                return;
            };
            if !standing.primary {
                warn!(server = %shown(&session.node), "this server is not the primary any more");
                return;
            }
            let was_in_touch = session.is_in_touch();
            session.replicas.store(standing.replicas, Ordering::Relaxed);
            // Whether somebody else is the primary by now.
            let certain = match self.locator.locate().await {
                Ok(located) if located.node != session.node => {
                    warn!(from = %shown(&session.node), to = %shown(&located.node), "the primary is another one now");
                    return;
                }
                Ok(located) => located.certain,
                Err(error) => {
                    tracing::debug!(%error, "the primary cannot be confirmed");
                    // A cluster's primary that is cut off refuses by itself.
                    !matches!(self.options.url.topology, Topology::Sentinel { .. })
                }
            };
            session.certain.store(certain, Ordering::Relaxed);
            if was_in_touch && !session.is_in_touch() {
                warn!(server = %shown(&session.node), "this server may have been replaced: what it says does not count as fresh");
            }
            if ticks.is_multiple_of(SETTINGS_EVERY) {
                let Ok(found) = session.noted(durability::shortcomings(&session.reader, session.limit).await) else {
                    return;
                };
                self.judge(session, found);
            }
            // What its desk did not settle, because it died or lost its link, somebody has to.
            match self.scripts.ends(session).await {
                Ok(Ends { end, settled }) => {
                    if end.revision > settled.revision && before == Some(end) {
                        unsettled(session, end).await;
                    }
                    before = Some(end);
                }
                // If it was the link that broke, the session is over.
                Err(error) => tracing::debug!(error = causes(&error), "where the journal ends is not known"),
            }
        }
    }
}
