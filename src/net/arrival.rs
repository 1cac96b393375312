//! How long a request may take to arrive.
//!
//! One that comes a byte at a time would hold its call, and what has come of it, for as long as its connection lives; a few
//! hundred of them would use up what may be held of requests at all, at no cost to who sends them. A time limit alone would
//! cut off lists that are long and links that are slow: time is bought with bytes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;

use super::backpressure::ResponseBackpressure;
use super::limits::RequestLimits;

/// How long all of it may take, if it is small.
const TIME: Duration = Duration::from_secs(10);
/// Each of so many bytes that have come give a second more.
const BYTES_A_SECOND: u64 = 1_024;

/// How much more it has if its client leaves answers unread, for which it then waits.
const FOR_UNREAD: Duration = Duration::from_mins(1);

/// A request's body, on its way. Most are there when they are first asked for, and need no timer.
pub(super) struct Arriving {
    inner: Incoming,
    /// Before that no more of it is read.
    first: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    has_waited: bool,
    bytes: u64,
    wait: Option<Wait>,
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
    pub(super) const fn new(inner: Incoming) -> Self {
        Self { inner, first: None, has_waited: false, bytes: 0, wait: None }
    }

    /// Whether not too much waits to be read by its client.
    fn may_be_read(&mut self, context: &mut Context<'_>, unread: &ResponseBackpressure) -> bool {
        if self.first.is_none() {
            self.first = unread.before_more();
        }
        let may = self.first.as_mut().is_none_or(|first| first.as_mut().poll(context).is_ready());
        if may {
            self.first = None;
        }
        may
    }

    /// The next part of it.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        limits: &RequestLimits,
    ) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            if self.may_be_read(context, &limits.responses) {
                if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
                    return Poll::Ready(self.take(frame));
                }
            } else if self.bytes == 0 {
                // It holds nothing here: it may wait as long as its client likes.
                return Poll::Pending;
            } else {
                self.has_waited = true;
            }
            let wait = self.wait.get_or_insert_with(Wait::begun);
            ready!(wait.timer.as_mut().poll(context));
            let unread = if self.has_waited { FOR_UNREAD } else { Duration::ZERO };
            let due = wait.due + Duration::from_secs(self.bytes / BYTES_A_SECOND) + unread;
            if due <= wait.timer.deadline() {
                return Poll::Ready(Some(Err((limits.statuses.late)())));
            }
            wait.timer.as_mut().reset(due);
        }
    }

    /// What a frame has of it; `None` at its end.
    fn take(&mut self, frame: Option<hyper::Result<Frame<Bytes>>>) -> Option<Result<Bytes, Status>> {
        match frame {
            Some(Ok(frame)) => {
                // What follows the data of a request, trailers, has no meaning to anybody.
                let data = frame.into_data().ok()?;
                self.bytes += data.len() as u64;
                Some(Ok(data))
            }
            Some(Err(error)) => Some(Err(Status::from_error(Box::new(error)))),
            None if self.inner.is_end_stream() => None,
            // hyper ends the body of a call that its client has taken back as if it had ended. What had come of an upload
            // by then would be taken for all of it.
            None => Some(Err(Status::cancelled("the client gave the call up"))),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.inner.is_end_stream()
    }
}
