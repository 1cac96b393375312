//! How long a request may take to arrive.
//!
//! One that comes a byte at a time would hold its call, and what has come of it, for as long as its connection lives; a few
//! hundred of them would use up what may be held of requests at all, at no cost to who sends them. A time limit alone would
//! cut off lists that are long and links that are slow: time is bought with bytes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;

use super::answers::Unread;

/// How long all of it may take, if it is small.
const TIME: Duration = Duration::from_secs(10);
/// Each of so many bytes that have come give a second more.
const BYTES_A_SECOND: u64 = 1_024;

/// How much more it has if its client leaves answers unread, for which it then waits.
const FOR_UNREAD: Duration = Duration::from_mins(1);

/// A request's body, on its way. Most are there when they are first asked for, and need no timer.
pub(super) struct Arriving {
    inner: Incoming,
    unread: Unread,
    /// Before that no more of it is read.
    first: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    has_waited: bool,
    bytes: u64,
    wait: Option<Wait>,
    late: fn() -> Status,
}

#[derive(Debug)]
struct Wait {
    /// When it has to be there if nothing more comes.
    due: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Wait {
    fn begun() -> Self {
        let timer = Box::pin(sleep(TIME));
        Self { due: timer.deadline(), timer }
    }
}

impl Arriving {
    /// `late` is told of one that takes too long.
    pub(super) const fn new(inner: Incoming, late: fn() -> Status, unread: Unread) -> Self {
        Self { inner, unread, first: None, has_waited: false, bytes: 0, wait: None, late }
    }

    /// Whether not too much waits to be read by its client.
    fn may_be_read(&mut self, context: &mut Context<'_>) -> bool {
        if self.first.is_none() {
            self.first = self.unread.before_more();
        }
        let may = self.first.as_mut().is_none_or(|first| first.as_mut().poll(context).is_ready());
        if may {
            self.first = None;
        }
        may
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        loop {
            if this.may_be_read(context) {
                if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) {
                    let Some(frame) = frame else { return Poll::Ready(None) };
                    let frame = frame.map_err(|error| Status::from_error(Box::new(error)))?;
                    this.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                    return Poll::Ready(Some(Ok(frame)));
                }
            } else if this.bytes == 0 {
                // It holds nothing here: it may wait as long as its client likes.
                return Poll::Pending;
            } else {
                this.has_waited = true;
            }
            let wait = this.wait.get_or_insert_with(Wait::begun);
            ready!(wait.timer.as_mut().poll(context));
            let unread = if this.has_waited { FOR_UNREAD } else { Duration::ZERO };
            let due = wait.due + Duration::from_secs(this.bytes / BYTES_A_SECOND) + unread;
            if due <= wait.timer.deadline() {
                return Poll::Ready(Some(Err((this.late)())));
            }
            wait.timer.as_mut().reset(due);
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
