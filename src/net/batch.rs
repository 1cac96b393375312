//! The calls of one connection that have arrived together, begun together.
//!
//! hyper hands each call to an executor. As tasks of their own, thousands a second would cost more to schedule than to answer:
//! most calls are answered as soon as they are looked at. Begun where they arrive, each answer would be written by itself.
//! So they wait until all that was there has been read, are begun on the connection's task, and only those that have to
//! wait become tasks; what the others answered is written together. Knows nothing of HTTP.
//!
//! Measured on one core, 8 connections with 32 calls each: see `benches/FIGURES.md`, row *check*.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use hyper::rt::Executor;

/// So many calls are begun before anything is written, and other connections of this thread have their turn.
const MAX_BATCH: usize = 128;

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Keeps the calls of one connection until they are begun. A clone keeps the same.
#[derive(Clone, Default)]
pub(super) struct BatchExecutor(Arc<Mutex<Vec<Call>>>);

/// What came of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun {
    /// Whether there was any call.
    pub(super) any: bool,
    /// Whether there are more than a batch has.
    pub(super) more: bool,
}

impl<F> Executor<F> for BatchExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        self.waiting().push(Box::pin(call));
    }
}

impl BatchExecutor {
    fn waiting(&self) -> MutexGuard<'_, Vec<Call>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins those that wait, in the order in which they arrived.
    pub(super) fn begin_waiting_calls(&self) -> Begun {
        let batch = {
            let mut waiting = self.waiting();
            if waiting.len() <= MAX_BATCH {
                std::mem::take(&mut *waiting)
            } else {
                waiting.drain(..MAX_BATCH).collect()
            }
        };
        let any = !batch.is_empty();
        batch.into_iter().for_each(begin);
        Begun { any, more: !self.waiting().is_empty() }
    }

    /// Lets go of those that wait: their connection is over.
    pub(super) fn discard_waiting_calls(&self) {
        // Calls hold the executor too: they are let go outside of its lock.
        let waiting = std::mem::take(&mut *self.waiting());
        drop(waiting);
    }
}

/// Polls a call once, and leaves it to a task if it has to wait.
fn begin(mut call: Call) {
    // If it has to wait, it is polled again as a task, which then is what is woken.
    let ended =
        catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()));
    if let Ok(false) = ended {
        tokio::spawn(call);
    }
}
