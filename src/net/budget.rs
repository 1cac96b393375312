//! How many bytes of requests may be held at once.
//!
//! A request that is still arriving is held until it is whole; ten thousand connections with a thousand calls each could
//! have all memory filled with halves. What arrives is counted, and past the limit the call that asks for more is refused,
//! whoever it is of: a process without memory answers nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tonic::Status;

/// A call that holds no more than this is not what fills the memory.
const LITTLE: usize = 16 << 10;

/// No message is larger, so that no call holds more, however long it goes on.
const LARGEST: usize = 64 << 20;

/// Shared by the calls of one listener. A clone is the same budget.
#[derive(Debug, Clone)]
pub struct Budget {
    most: usize,
    held: Arc<AtomicUsize>,
    refuse: fn() -> Status,
    late: fn() -> Status,
}

impl Budget {
    /// So many bytes; `refuse` is told for whom there are none left, and `late` for what does not arrive in time.
    #[must_use]
    pub fn new(most: usize, refuse: fn() -> Status, late: fn() -> Status) -> Self {
        Self { most, held: Arc::default(), refuse, late }
    }

    /// How much may be held when this much of it is one call's: who asks little goes on when others have taken all.
    const fn most_for(&self, held: usize) -> usize {
        if held <= LITTLE { self.most.saturating_add(self.most / 4) } else { self.most }
    }

    /// So many bytes more have come, for a call that held so many. How many of them count, which are to be let go; and a
    /// refusal if that is too much.
    pub(super) fn hold(&self, held: usize, more: usize) -> (usize, Result<(), Status>) {
        // A stream's messages are let go one by one: of it no more is held than the largest.
        let bytes = more.min(LARGEST.saturating_sub(held));
        let all = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (bytes, if all > self.most_for(held + bytes) { Err((self.refuse)()) } else { Ok(()) })
    }

    /// Bytes that counted are held no longer.
    pub(super) fn let_go(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Told for what does not arrive in time.
    pub(super) fn late(&self) -> Status {
        (self.late)()
    }
}
