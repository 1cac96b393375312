//! How much of answers may wait to be read.
//!
//! A large answer takes a few bytes to ask for. Who asks a thousand times and reads nothing would have them all made and
//! kept. So every byte of an answer counts from when it is made until it is handed to the system or dropped. A connection
//! that has much unread has no more of its requests read until it has read some: to a client whose link is slow this is what
//! flow control does anyway. For all connections of the process together there is one limit. When it is reached, those that
//! have more than a little unread are held back like this, large answers are refused to everybody, and who then does not
//! read is disconnected, so that the limit does not stay reached.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep};

/// Bytes of one connection that may wait while requests are read. The last answer may go beyond it.
const MAX_UNREAD: usize = 1 << 20;
/// Less than this of one connection does not count towards what the process has, nor does it hold it back; and an answer of
/// no more is never refused. The count of the process goes by these steps, so that connections which are read, as nearly all
/// are, do not meet at one counter.
const SMALL: usize = 16 << 10;
/// When the process is at its limit, a connection has to read half of what it owes in this time.
const MAX_STALL: Duration = Duration::from_secs(10);

/// What waits to be read of all connections of the process. A clone is the same.
#[derive(Debug, Clone)]
pub struct ResponseMemory(Arc<Process>);

#[derive(Debug)]
struct Process {
    limit: usize,
    unread: AtomicUsize,
    less: Notify,
}

impl ResponseMemory {
    /// So many bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Process { limit, unread: AtomicUsize::new(0), less: Notify::new() }))
    }

    /// How many bytes wait, in steps of 16 KiB of each connection.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.0.unread.load(Ordering::Relaxed)
    }

    fn is_full(&self) -> bool {
        self.unread() >= self.0.limit
    }

    fn add(&self, bytes: usize) {
        self.0.unread.fetch_add(bytes, Ordering::Relaxed);
    }

    fn subtract(&self, bytes: usize) {
        let before = self.0.unread.fetch_sub(bytes, Ordering::Relaxed);
        if before >= self.0.limit && before - bytes < self.0.limit {
            self.0.less.notify_waiters();
        }
    }
}

/// What waits to be read of one connection. A clone is the same.
#[derive(Debug, Clone)]
pub(super) struct ResponseBackpressure(Arc<Unread>);

#[derive(Debug)]
struct Unread {
    bytes: AtomicUsize,
    /// All that was ever read.
    read: AtomicUsize,
    less: Notify,
    process: ResponseMemory,
}

/// The process has as much unread as it may.
#[derive(Debug)]
pub(super) struct TooMuchUnread;

impl ResponseBackpressure {
    pub(super) fn new(process: ResponseMemory) -> Self {
        let (bytes, read) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self(Arc::new(Unread { bytes, read, less: Notify::new(), process }))
    }

    /// A part of an answer, which counts until it is dropped.
    pub(super) fn count(&self, part: Bytes) -> Result<Bytes, TooMuchUnread> {
        if part.len() > SMALL && self.0.process.is_full() {
            return Err(TooMuchUnread);
        }
        self.0.add(part.len());
        Ok(Bytes::from_owner(Counted { part, of: self.clone() }))
    }

    fn is_much(&self) -> bool {
        let bytes = self.0.bytes();
        bytes >= MAX_UNREAD || (bytes >= SMALL && self.0.process.is_full())
    }

    /// What to wait for before more is asked, if much is unread now.
    pub(super) fn before_more(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let this = self.clone();
        self.is_much().then(|| Box::pin(async move { this.until_little().await }) as _)
    }

    async fn until_little(&self) {
        loop {
            // Before looking, lest what is read in between go unnoticed.
            let (mine, all) = (self.0.less.notified(), self.0.process.0.less.notified());
            if !self.is_much() {
                return;
            }
            tokio::select! { () = mine => {}, () = all => {} }
        }
    }
}

impl Unread {
    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        match in_steps(before + bytes) - in_steps(before) {
            0 => {}
            more => self.process.add(more),
        }
    }

    fn subtract(&self, bytes: usize) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
        let before = self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        match in_steps(before) - in_steps(before - bytes) {
            0 => {}
            less => self.process.subtract(less),
        }
        let fell_below = |limit| before >= limit && before - bytes < limit;
        if fell_below(MAX_UNREAD) || fell_below(SMALL) {
            self.less.notify_waiters();
        }
    }
}

const fn in_steps(bytes: usize) -> usize {
    bytes - bytes % SMALL
}

/// A part of an answer on its way to the system.
struct Counted {
    part: Bytes,
    of: ResponseBackpressure,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.part
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.of.0.subtract(self.part.len());
    }
}

/// Looks whether a connection with much unread goes on reading while the process is at its limit.
pub(super) struct StalledReader {
    responses: ResponseBackpressure,
    since: Option<Since>,
}

struct Since {
    timer: Pin<Box<Sleep>>,
    /// What it had unread, and had read, when the timer was set.
    unread: usize,
    read: usize,
}

/// It did not.
#[derive(Debug, thiserror::Error)]
#[error("much of its answers is not read, and the process holds as many unread answers as it may")]
pub(super) struct Stalled;

impl StalledReader {
    pub(super) const fn of(responses: ResponseBackpressure) -> Self {
        Self { responses, since: None }
    }

    /// To be polled whenever its connection is; wakes it when it is time to look again.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Result<(), Stalled> {
        let Unread { bytes: _, read, process, .. } = &*self.responses.0;
        let unread = self.responses.0.bytes();
        if unread < SMALL {
            self.since = None;
            return Ok(());
        }
        let read = read.load(Ordering::Relaxed);
        let begin = || Since { timer: Box::pin(sleep(MAX_STALL)), unread, read };
        loop {
            let since = self.since.get_or_insert_with(begin);
            let Poll::Ready(()) = since.timer.as_mut().poll(context) else { return Ok(()) };
            if process.is_full() && read - since.read < since.unread / 2 {
                return Err(Stalled);
            }
            self.since = Some(begin());
        }
    }
}
