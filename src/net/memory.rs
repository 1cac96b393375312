//! How many bytes of requests may be held at once.
//!
//! A request that is still arriving is held until it is whole; ten thousand connections with a thousand calls each could
//! have all memory filled with halves. What arrives is counted, and what it becomes when it is unpacked. Past the limit the
//! call that asks for more is refused, whoever it is of: a process without memory answers nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A call that holds no more than this is not what fills the memory.
const SMALL: usize = 16 << 10;

/// No message is larger, so that no call holds more, however long it goes on.
const LARGEST: usize = 64 << 20;

/// Shared by the calls of one listener. A clone counts together with it.
#[derive(Debug, Clone)]
pub struct MemoryLimiter {
    limit: usize,
    held: Arc<AtomicUsize>,
}

/// There is no memory left.
#[derive(Debug)]
pub(super) struct OutOfMemory;

impl MemoryLimiter {
    /// So many bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, held: Arc::default() }
    }

    /// How much may be held when this much of it is one call's: who asks little goes on when others have taken all.
    const fn limit_for(&self, held: usize) -> usize {
        if held <= SMALL { self.limit.saturating_add(self.limit / 4) } else { self.limit }
    }

    /// So many bytes more, for a call that held so many. How many of them count, which are to be released, whether or not
    /// that was too much.
    pub(super) fn acquire(&self, held: usize, more: usize) -> (usize, Result<(), OutOfMemory>) {
        // A stream's messages are let go one by one: of it no more is held than the largest.
        let bytes = more.min(LARGEST.saturating_sub(held));
        let all = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (bytes, if all > self.limit_for(held + bytes) { Err(OutOfMemory) } else { Ok(()) })
    }

    /// Bytes that counted are held no longer.
    pub(super) fn release(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}
