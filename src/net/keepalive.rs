//! Whether the other end of a connection that says nothing is still there: it is asked (PING), and has some time to answer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Sleep, sleep};

use super::heard::Heard;

/// How long it may take at most to say that it is still there.
const PATIENCE: Duration = Duration::from_secs(20);

/// Of one connection.
pub(super) struct Keepalive {
    every: Duration,
    heard: Heard,
    /// How much had been heard when it was looked at last.
    before: u64,
    pings: Option<PingPong>,
    asked: bool,
    timer: Pin<Box<Sleep>>,
}

impl Keepalive {
    /// Asks after so long a silence. Begins with [`Keepalive::over`].
    pub(super) fn every(every: Duration, heard: Heard) -> Self {
        Self { every, before: 0, heard, pings: None, asked: false, timer: Box::pin(sleep(every)) }
    }

    /// Over a connection whose pings these are.
    pub(super) fn over(&mut self, pings: Option<PingPong>) {
        self.pings = pings;
    }

    /// Ready if it is not there any more.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(pings) = &mut self.pings else { return Poll::Pending };
        loop {
            if self.asked
                && let Poll::Ready(answered) = pings.poll_pong(context)
            {
                if answered.is_err() {
                    return Poll::Ready(());
                }
                self.asked = false;
                self.before = self.heard.bytes();
                self.timer.as_mut().set(sleep(self.every));
            }
            ready!(self.timer.as_mut().poll(context));
            if self.asked {
                return Poll::Ready(());
            }
            let heard = self.heard.bytes();
            let silent = std::mem::replace(&mut self.before, heard) == heard;
            // Only one at a time is possible; the next is tried later.
            self.asked = silent && pings.send_ping(Ping::opaque()).is_ok();
            self.timer.as_mut().set(sleep(if self.asked { PATIENCE.min(self.every) } else { self.every }));
        }
    }
}
