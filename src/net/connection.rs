//! One connection, from its first byte to its end.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::certificate::Names;
use super::drain::Drain;
use super::heard::Listened;
use super::slots::Slot;
use crate::clock::jittered;
use crate::rate::Rate;
use crate::telemetry::causes;

/// How long a connection may take to say what its protocol begins with.
pub(super) const GREETING: Duration = Duration::from_secs(10);
/// A connection that has reached its age has as long again for what has begun, at most this; then streams are ended, too.
const GRACE: Duration = Duration::from_mins(5);
/// How long streams that are ended because of their connection's age may take to tell so.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// How long calls that are cut off may take to tell so.
const VERY_LAST_WORDS: Duration = Duration::from_millis(500);
/// Streams of one connection that go on for ever. Each has answers of its own that wait; a timeline service needs one.
const ENDLESS: usize = 64;
/// How long the other end has at most to say that it is still there.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// New credentials of one connection that are verified in a second: a person's program has one, a gateway some.
const VERIFICATIONS_A_SECOND: u32 = 50;
/// For those that live as long as they like: decades.
const FOR_EVER: Duration = Duration::from_hours(24 * 365 * 30);

/// Why a connection broke.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What is said on a connection.
pub trait Protocol<S>: Clone + Send + 'static {
    /// After so many bytes somebody has said hello.
    const GREETING_BYTES: u64;

    /// Begins to talk.
    fn talk<T>(&self, io: T, service: S, connection: Connection, pace: Pace) -> impl Conversation
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static;
}

/// A connection on which something is said.
pub trait Conversation: Send {
    /// Goes on with it; ready once it is over.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>>;

    /// What has begun is finished, and nothing else begun.
    fn leave(&mut self);
}

/// How connections live.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// After this, up to a quarter less or more, it is ended, so that clients look for other replicas now and then.
    pub age: Option<Duration>,
    /// After this at the latest, whatever its age may be.
    pub limit: Option<Duration>,
    /// How often it is asked (PING) whether it is still there, however idle it is.
    pub keepalive: Duration,
}

impl Pace {
    /// How long the other end has to answer a PING.
    pub(super) fn ping_timeout(&self) -> Duration {
        PING_TIMEOUT.min(self.keepalive)
    }
}

/// The connection that a call came in by. Each call has a clone: one reference.
#[derive(Debug, Clone)]
pub struct Connection(Arc<Ends>);

#[derive(Debug)]
struct Ends {
    peer: SocketAddr,
    names: Option<Names>,
    streams: CancellationToken,
    drain: Drain,
    endless: AtomicUsize,
    verifications: Rate,
    slot: Arc<Slot>,
}

/// A stream that goes on for ever, and counts while there is this.
#[derive(Debug)]
pub struct Endless(Connection);

impl Drop for Endless {
    fn drop(&mut self) {
        self.0.0.endless.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    /// One more stream that goes on for ever.
    ///
    /// # Errors
    /// If there are as many as there may be; how many that is.
    pub fn endless(&self) -> Result<Endless, usize> {
        let counted = Endless(self.clone());
        if self.0.endless.fetch_add(1, Ordering::Relaxed) < ENDLESS { Ok(counted) } else { Err(ENDLESS) }
    }

    /// How often it may have a credential verified that is not known yet.
    #[must_use]
    pub fn verifications(&self) -> &Rate {
        &self.0.verifications
    }

    /// Somebody is known on it, or needs not be: it keeps its place.
    pub fn admitted(&self) {
        self.0.slot.admitted();
    }

    /// Whose it is.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    /// What the certificate says that was shown; it holds.
    #[must_use]
    pub fn names(&self) -> Option<&Names> {
        self.0.names.as_ref()
    }

    /// Once streams that would go on for ever are to end.
    pub async fn ending(&self) {
        self.0.streams.cancelled().await;
    }

    /// Once calls are waited for no longer.
    pub async fn cut_off(&self) {
        self.0.drain.cut_off().await;
    }
}

/// What a connection waits for next, unless its client ends it before.
enum Stage {
    Greeting,
    Age,
    Calls,
    Streams,
}

/// Whose a connection is.
pub(super) struct Identified {
    pub(super) peer: SocketAddr,
    pub(super) names: Option<Names>,
    pub(super) slot: Arc<Slot>,
}

/// Serves one until its end.
pub(super) async fn serve<T, P, S>(
    io: T,
    Identified { peer, names, slot }: Identified,
    service: S,
    (protocol, pace): (P, Pace),
    drain: Drain,
) where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    P: Protocol<S>,
{
    let (io, heard) = Listened::to(io);
    let greeted = || heard.bytes() >= P::GREETING_BYTES;
    let ending = drain.end_of_streams();
    let ends = Ends {
        peer,
        names,
        streams: ending.clone(),
        drain: drain.clone(),
        endless: AtomicUsize::new(0),
        verifications: Rate::new(VERIFICATIONS_A_SECOND),
        slot,
    };
    let mut talk = protocol.talk(io, service, Connection(Arc::new(ends)), pace);

    let age = pace.age.map_or(FOR_EVER, jittered).min(pace.limit.unwrap_or(FOR_EVER));
    let greeting = GREETING.min(age);
    let mut stage = Stage::Greeting;
    let mut timer = pin!(sleep(greeting));
    let (mut leaving, mut cut) = (false, false);
    loop {
        tokio::select! {
            biased;
            ended = poll_fn(|context| talk.poll(context)) => {
                if let Err(error) = ended {
                    debug!(%peer, error = causes(&*error), "a connection broke");
                }
                return;
            }
            () = drain.cut_off(), if !cut => {
                cut = true;
                stage = Stage::Streams;
                timer.set(sleep(VERY_LAST_WORDS));
            }
            () = drain.leaving(), if !leaving => {
                leaving = true;
                // Who has not said anything yet has nothing to be waited for.
                if !greeted() {
                    return;
                }
                talk.leave();
            }
            () = timer.as_mut() => {
                let wait = match stage {
                    Stage::Greeting if !greeted() => return,
                    Stage::Greeting => {
                        stage = Stage::Age;
                        age.saturating_sub(greeting)
                    }
                    Stage::Age => {
                        talk.leave();
                        stage = Stage::Calls;
                        GRACE.min(age)
                    }
                    Stage::Calls => {
                        ending.cancel();
                        stage = Stage::Streams;
                        LAST_WORDS
                    }
                    Stage::Streams => return,
                };
                timer.set(sleep(wait));
            }
        }
    }
}
