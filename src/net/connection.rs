//! One connection, from its first byte to its end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::Service;
use tracing::debug;

use super::answers::Unread;
use super::budget::Budget;
use super::calls::Calls;
use super::certificate::Names;
use super::drain::Drain;
use crate::clock::jittered;
use crate::telemetry::causes;

/// How long a connection may take to say what HTTP/2 begins with.
const GREETING: Duration = Duration::from_secs(10);
/// How long a connection may take at most to say that it is still there.
const PATIENCE: Duration = Duration::from_secs(20);
/// A connection that has reached its age has as long again for what has begun, at most this; then streams are ended, too.
const GRACE: Duration = Duration::from_mins(5);
/// How long streams that are ended because of their connection's age may take to tell so.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// How long calls that are cut off may take to tell so.
const VERY_LAST_WORDS: Duration = Duration::from_millis(500);
/// Calls at once; a client with more of them waits, or opens another connection.
const STREAMS: u32 = 1_000;
/// Bytes of a call's head, as RFC 9113 counts them (section 6.5.2): a token and a trace take two thousand. Past it the call
/// is answered 431; far past it, or in too many frames, the connection ends (CVE-2024-27316).
const HEAD: u32 = 16 << 10;
/// Calls that a client may take back before anybody has looked at them, at one time; past it the connection ends
/// (CVE-2023-44487).
const TAKEN_BACK: usize = 20;
/// Calls of one connection that may be reset because of mistakes in their frames; past it the connection ends
/// (CVE-2025-8671).
const MISTAKEN: usize = 100;
/// Bytes of one call's answer that may wait for a client that does not read from its socket.
const SENT_AHEAD: usize = 32 << 10;
/// Streams of one connection that go on for ever. Each has answers of its own that wait; a timeline service needs one.
const ENDLESS: usize = 64;
/// For those that live as long as they like: decades.
const FOR_EVER: Duration = Duration::from_hours(24 * 365 * 30);

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2 from the first byte on, as gRPC has it.
    Grpc,
    /// HTTP/1.1, for pages.
    Http1,
}

impl Protocol {
    /// The bytes after which somebody has said hello: HTTP/2's preface and the head of the first frame; a request line.
    const fn greeting_bytes(self) -> usize {
        match self {
            Self::Grpc => 24 + 9,
            Self::Http1 => 16,
        }
    }

    fn builder(self, pace: Pace) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        match self {
            Self::Grpc => {
                let patience = PATIENCE.min(pace.keepalive);
                builder = builder.http2_only();
                builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS);
                builder.http2().max_header_list_size(HEAD).max_send_buf_size(SENT_AHEAD);
                builder.http2().max_pending_accept_reset_streams(TAKEN_BACK).max_local_error_reset_streams(MISTAKEN);
                builder.http2().keep_alive_interval(pace.keepalive).keep_alive_timeout(patience);
            }
            Self::Http1 => {
                builder = builder.http1_only();
                builder.http1().timer(TokioTimer::new()).header_read_timeout(GREETING);
            }
        }
        builder
    }
}

/// How connections live.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// After this, up to a quarter less or more, it is ended, so that clients look for other replicas now and then.
    pub age: Option<Duration>,
    /// How often it is asked (PING) whether it is still there, however idle it is.
    pub keepalive: Duration,
}

/// The connection that a call came in by; in the extensions of its request. Each call has a clone: one reference.
#[derive(Debug, Clone)]
pub struct Connection(Arc<Ends>);

#[derive(Debug)]
struct Ends {
    names: Option<Names>,
    streams: CancellationToken,
    drain: Drain,
    endless: AtomicUsize,
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

/// Serves one until its end.
pub(super) async fn serve<T, S, B>(
    io: T,
    peer: SocketAddr,
    names: Option<Names>,
    service: S,
    (protocol, pace, budget): (Protocol, Pace, Budget),
    drain: Drain,
) where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: HttpBody<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let (io, greeted) = Listened::to(io, protocol.greeting_bytes());
    let ending = drain.end_of_streams();
    let ends = Ends { names, streams: ending.clone(), drain: drain.clone(), endless: AtomicUsize::new(0) };
    let service = Calls { inner: service, connection: Connection(Arc::new(ends)), budget, unread: Unread::default() };
    let builder = protocol.builder(pace);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(io), TowerToHyperService::new(service)));

    let age = pace.age.map_or(FOR_EVER, jittered);
    let greeting = GREETING.min(age);
    let mut stage = Stage::Greeting;
    let mut timer = pin!(sleep(greeting));
    let (mut leaving, mut cut) = (false, false);
    loop {
        tokio::select! {
            biased;
            ended = serving.as_mut() => {
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
                if !greeted.load(Ordering::Relaxed) {
                    return;
                }
                serving.as_mut().graceful_shutdown();
            }
            () = timer.as_mut() => {
                let wait = match stage {
                    Stage::Greeting if !greeted.load(Ordering::Relaxed) => return,
                    Stage::Greeting => {
                        stage = Stage::Age;
                        age.saturating_sub(greeting)
                    }
                    Stage::Age => {
                        serving.as_mut().graceful_shutdown();
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

/// A byte stream of which it is known whether a whole greeting was read. HTTP/2's own state is not to be seen from here.
struct Listened<T> {
    inner: T,
    missing: usize,
    greeted: Arc<AtomicBool>,
}

impl<T> Listened<T> {
    fn to(inner: T, greeting: usize) -> (Self, Arc<AtomicBool>) {
        let greeted = Arc::new(AtomicBool::new(false));
        (Self { inner, missing: greeting, greeted: Arc::clone(&greeted) }, greeted)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Listened<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(context, into);
        if self.missing > 0 {
            self.missing = self.missing.saturating_sub(into.filled().len() - before);
            self.greeted.store(self.missing == 0, Ordering::Relaxed);
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Listened<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
