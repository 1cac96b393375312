//! A session with the primary: connections to one server that was the primary when they were opened, and what is known of
//! it. Whoever meets an error that ends a session says so, and the supervisor opens another one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, Pipeline, Value};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::connection::{CallError, call, call_all};
use super::durability::ServerInfo;
use super::options::Node;
use crate::clock::Clock;
use crate::domain::ids::Revision;
use crate::journal::error::{Peer, Unreachable, UnreachableCause, UnreachableKind};
use crate::telemetry::causes;

/// How old a majority's word may be to count: older, whoever reads is not level.
const CERTAIN_FOR: Duration = Duration::from_secs(2);
/// Never.
const NEVER: i64 = i64::MIN;

/// How many servers keep the journal, and how many must have an entry: properties of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quorum {
    /// Replicas that must have an entry before it is committed.
    pub(super) wait_replicas: u8,
    /// The primary and its replicas.
    pub(super) servers: usize,
}

impl Quorum {
    /// Servers that must be known to have had no more than an heir has, so that what was committed is surely among it: they
    /// and those that had it are more than there are.
    pub(super) fn to_prove(self) -> usize {
        (self.servers + 1).saturating_sub(1 + usize::from(self.wait_replicas)).max(1)
    }
}

/// Whether the server is known to have all that was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SessionState {
    /// It has, and nothing in it waits to be committed that was there when the session began.
    Fresh,
    /// Nobody is level with it, and nothing is appended.
    InDoubt(Doubt),
}

/// Why a server is not known to have all that was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It has just been found.
    Unexamined,
    /// Its last entries were there before this session, and are not committed: they may have been acknowledged by the word
    /// of a server that was lost.
    Tail {
        /// The last one that is committed.
        committed: Revision,
        /// The last one.
        end: Revision,
        /// Why they are not committed yet.
        why: String,
    },
    /// It became the primary, and too few others are known to have had no more than it has.
    Unproven {
        /// Those that are, itself among them.
        have: usize,
        /// So many must be.
        need: usize,
        /// Of so many.
        servers: usize,
    },
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unexamined => f.write_str("it is being found out whether the primary has all that was acknowledged"),
            Self::Tail { committed, end, why } => write!(
                f,
                "the journal ends at revision {end} and is committed up to {committed}: the entries in between may have been \
                 acknowledged, and are not committed again yet: {why}"
            ),
            Self::Unproven { have, need, servers } => write!(
                f,
                "the primary was replaced, and it is not proven that the new one has all that was acknowledged: of {servers} \
                 servers {have} are known to have had no more than it has, and {need} must be; if the others are lost, look at \
                 what it has and say `withheld journal accept`"
            ),
        }
    }
}

/// Connections to the primary.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) node: Node,
    /// The configuration in which it became the primary.
    pub(super) epoch: u64,
    /// The stream of writes that it was the primary of when the session began: the session is over once it writes another.
    /// Empty where nobody else can be the primary.
    pub(super) stream: String,
    /// Appends go here, each followed by a WAIT.
    pub(super) writer: MultiplexedConnection,
    /// Everything that is answered at once.
    pub(super) reader: MultiplexedConnection,
    /// Blocking reads, which hold all that comes after them.
    pub(super) waker: MultiplexedConnection,
    pub(super) limit: Duration,
    pub(super) clock: Clock,
    /// Cancelled when the session is of no more use.
    pub(super) over: CancellationToken,
    /// What is wrong with the server's settings or the user's rights; nothing is written then.
    pub(super) shortcomings: ArcSwap<Vec<String>>,
    pub(super) quorum: ArcSwap<Quorum>,
    pub(super) state: watch::Sender<SessionState>,
    /// When a majority of the voters last named it, by the monotonic clock in microseconds; [`NEVER`].
    certain_at: AtomicI64,
    /// How many of its replicas it has heard of within the last seconds.
    replicas: AtomicUsize,
    /// The server's date less this machine's monotonic clock, in microseconds; [`NEVER`]: not known.
    date_offset: AtomicI64,
}

/// What a session begins with.
pub(super) struct Opened {
    pub(super) node: Node,
    pub(super) epoch: u64,
    pub(super) connections: (MultiplexedConnection, MultiplexedConnection, MultiplexedConnection),
    pub(super) limit: Duration,
    pub(super) clock: Clock,
    pub(super) quorum: Quorum,
    /// Whether nobody else can be the primary.
    pub(super) single: bool,
}

impl Session {
    pub(super) fn new(opened: Opened, info: &ServerInfo) -> Self {
        let Opened { node, epoch, connections: (writer, reader, waker), limit, clock, quorum, single } = opened;
        let session = Self {
            node,
            epoch,
            stream: if single { String::new() } else { info.stream.clone() },
            writer,
            reader,
            waker,
            limit,
            clock,
            over: CancellationToken::new(),
            shortcomings: ArcSwap::default(),
            quorum: ArcSwap::from_pointee(quorum),
            state: watch::Sender::new(SessionState::InDoubt(Doubt::Unexamined)),
            certain_at: AtomicI64::new(NEVER),
            replicas: AtomicUsize::new(0),
            date_offset: AtomicI64::new(NEVER),
        };
        session.take_info(info);
        session
    }

    /// Takes in what the server has just said of itself.
    pub(super) fn take_info(&self, info: &ServerInfo) {
        self.replicas.store(info.in_touch, Ordering::Relaxed);
        let offset = if info.clock_micros == 0 { NEVER } else { info.clock_micros - self.monotonic() };
        self.date_offset.store(offset, Ordering::Relaxed);
    }

    /// A majority of the voters names it as the primary, or did when they were asked, at a time of the monotonic clock.
    pub(super) fn take_majority(&self, asked_at: Duration) {
        let micros = i64::try_from(asked_at.as_micros()).unwrap_or(i64::MAX);
        self.certain_at.fetch_max(micros, Ordering::Relaxed);
    }

    /// Ends the session if an answer says that it is of no more use.
    pub(super) fn noted<T>(&self, answer: Result<T, CallError>) -> Result<T, CallError> {
        if let Err(error) = &answer
            && error.ends_session()
            && !self.over.is_cancelled()
        {
            warn!(error = causes(error), primary = %shown(&self.node), "connection to Redis lost");
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

    /// What is wrong with the server's settings or the user's rights; nothing may be written then.
    pub(super) fn shortcomings(&self) -> Arc<Vec<String>> {
        self.shortcomings.load_full()
    }

    /// With how many of its replicas the server is in touch.
    pub(super) fn replicas(&self) -> usize {
        self.replicas.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> i64 {
        i64::try_from(self.clock.monotonic().as_micros()).unwrap_or(i64::MAX)
    }

    /// How far the server's clock is ahead of this machine's: negative if it is behind. `None`: not known. A date that was set
    /// since the server was asked counts at once.
    pub(super) fn clock_ahead(&self) -> Option<jiff::SignedDuration> {
        let offset = self.date_offset.load(Ordering::Relaxed);
        let ahead = || self.monotonic().saturating_add(offset).saturating_sub(self.clock.now().as_microsecond());
        (offset != NEVER).then(|| jiff::SignedDuration::from_micros(ahead()))
    }

    /// How long ago it was the primary by the word of a majority of the voters; `None` if for too long.
    pub(super) fn certain(&self) -> Option<Duration> {
        let at = self.certain_at.load(Ordering::Relaxed);
        let at = Duration::from_micros(u64::try_from(at).ok()?);
        let age = self.clock.monotonic().saturating_sub(at);
        (age <= CERTAIN_FOR && !self.over.is_cancelled()).then_some(age)
    }
}

pub(super) fn shown((host, port): &Node) -> String {
    format!("{host}:{port}")
}

/// How the link stands.
#[derive(Debug)]
pub(super) enum LinkState {
    /// It has just been lost, or there was none yet: the first attempt to have it is under way.
    Lost,
    /// That attempt has failed, as others since; why.
    Down(Unreachable),
    Up(Arc<Session>),
}

/// A handle on the link to the primary, which a supervisor keeps up.
#[derive(Debug, Clone)]
pub(super) struct Link(Arc<watch::Sender<LinkState>>);

impl Link {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(LinkState::Lost)))
    }

    pub(super) fn set(&self, state: LinkState) {
        self.0.send_replace(state);
    }

    /// The session there is, or will be in a moment if the link has just been lost; else why there is none. A link that is
    /// down is not waited for.
    pub(super) async fn session(&self, limit: Duration) -> Result<Arc<Session>, Unreachable> {
        let mut states = self.0.subscribe();
        let decided = states.wait_for(|state| match state {
            LinkState::Lost => false,
            LinkState::Down(_) => true,
            LinkState::Up(session) => !session.over.is_cancelled(),
        });
        match tokio::time::timeout(limit, decided).await.map(|decided| decided.map(|state| state.as_session())) {
            Ok(Ok(session)) => session,
            Ok(Err(_)) | Err(_) => Err(no_connection_yet()),
        }
    }

    /// Why there is no session, if there has been none for more than a moment.
    pub(super) fn trouble(&self) -> Option<String> {
        match &*self.0.borrow() {
            LinkState::Down(why) => Some(why.to_string()),
            LinkState::Lost | LinkState::Up(_) => None,
        }
    }

    /// Waits for a session.
    pub(super) async fn connected(&self) -> Arc<Session> {
        let mut states = self.0.subscribe();
        loop {
            if let LinkState::Up(session) = &*states.borrow_and_update()
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

fn no_connection_yet() -> Unreachable {
    let cause = UnreachableCause { peer: Peer::Redis, kind: UnreachableKind::Other };
    Unreachable { cause, detail: "the first attempt to connect is under way".to_owned() }
}

impl LinkState {
    fn as_session(&self) -> Result<Arc<Session>, Unreachable> {
        match self {
            Self::Up(session) => Ok(Arc::clone(session)),
            Self::Down(why) => Err(why.clone()),
            Self::Lost => Err(no_connection_yet()),
        }
    }
}
