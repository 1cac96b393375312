//! Long computations, on threads that let others of this process go first.
//!
//! To decide on a list of a million accounts, to fold it or to write a snapshot takes a core for a second, while who asks
//! whether an account is withheld waits for microseconds. Where there are not cores enough for both, the kernel would share one
//! evenly, and a query thread that needs more than half of it would fall behind further and further. So these threads are
//! nicer, by so much that a query thread has nine tenths of a core. The last tenth is theirs whatever comes: the tenth of a
//! millisecond that a small order takes, for an emergency, becomes one at worst. Threads that they start are as nice.
//!
//! Measured with the threads of a running service made nicer by hand, all else the same: while a million accounts were applied,
//! at half of what one query thread can answer, one call in a thousand took longer than 9 ms instead of 73 (`make bench
//! ROWS=tail`). Knows nothing of what is computed.
//!
//! A simulation has one thread, so that the same seed gives the same run: there, computations are tasks of its own runtime
//! ([`without_threads`]), one after another, in the order they were begun.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tracing::warn;

/// By how much they are nicer: each step is a quarter more for the others, ten are nine times as much.
const NICER: i32 = 10;

/// A runtime of which nothing is used but its threads for what blocks.
static THREADS: LazyLock<Option<Runtime>> = LazyLock::new(|| {
    let built = Builder::new_current_thread().thread_name("compute").on_thread_start(give_way).build();
    built.inspect_err(|error| warn!(%error, "long computations have no threads of their own")).ok()
});

/// Elsewhere niceness is of a whole process, not of a thread.
fn give_way() {
    if cfg!(target_os = "linux")
        && let Err(error) = rustix::process::nice(NICER)
    {
        warn!(%error, "long computations do not let queries go first");
    }
}

static WITHOUT_THREADS: AtomicBool = AtomicBool::new(false);

/// From now on this process computes on the runtime of whoever begins it, without any thread of another kind: for
/// simulations. Everything else such a runtime has to do waits meanwhile.
pub fn without_threads() {
    WITHOUT_THREADS.store(true, Ordering::Relaxed);
}

/// Begins a computation. It is not taken back if nobody waits for it any more.
pub fn begin<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    if WITHOUT_THREADS.load(Ordering::Relaxed) {
        return tokio::spawn(async { work() });
    }
    match &*THREADS {
        Some(threads) => threads.spawn_blocking(work),
        None => tokio::task::spawn_blocking(work),
    }
}
