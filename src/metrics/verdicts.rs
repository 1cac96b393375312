//! Counts verdicts: what viewers of each country were told, a count per subject that was asked for.
//!
//! It stands on the path of a query, like [`super::calls`], and counts the same way: in atomics that one thread has for
//! itself. There is no more in it than each caller is told. **Sealed**: a country and an outcome are all that is known.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::head;
use crate::domain::country::Viewer;

const NAME: &str = "withheld_verdicts_total";
const OUTCOMES: [&str; 2] = ["visible", "withheld"];

/// A pair of counts for each kind of viewer.
type Shard = Box<[[AtomicU64; OUTCOMES.len()]]>;

/// See the module. A clone counts together with it.
#[derive(Debug, Clone, Default)]
pub struct Verdicts {
    shards: Arc<Mutex<Vec<Arc<Shard>>>>,
}

impl Verdicts {
    /// Counts what one thread answers.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let shard: Shard = (0..Viewer::KINDS).map(|_| Default::default()).collect();
        let shard = Arc::new(shard);
        self.shards.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&shard));
        Tally(shard)
    }

    /// Adds them to what is told to Prometheus. A country appears once somebody has asked for it.
    pub(super) fn render(&self, text: &mut String) {
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Writing to a string cannot fail.
        let _ = head(
            text,
            NAME,
            "counter",
            "Accounts and posts asked for, by the viewer's country (XX: unknown) and outcome.",
        );
        for viewer in Viewer::all() {
            let counts = OUTCOMES.iter().enumerate().map(|(at, outcome)| {
                let counts = shards.iter().filter_map(|shard| shard.get(viewer.kind())?.get(at));
                (outcome, counts.map(|count| count.load(Ordering::Relaxed)).sum::<u64>())
            });
            let counts: Vec<_> = counts.collect();
            if counts.iter().any(|(_, count)| *count > 0) {
                for (outcome, count) in counts {
                    let _ = writeln!(text, "{NAME}{{country=\"{viewer}\",outcome=\"{outcome}\"}} {count}");
                }
            }
        }
    }
}

/// What one thread counts.
#[derive(Debug, Clone)]
pub struct Tally(Arc<Shard>);

impl Tally {
    /// So many subjects were asked for, and so many of them were withheld.
    pub fn count(&self, viewer: Viewer, asked: usize, withheld: usize) {
        if let Some(counts) = self.0.get(viewer.kind()) {
            for (count, by) in counts.iter().zip([asked.saturating_sub(withheld), withheld]) {
                if by > 0 {
                    count.fetch_add(by as u64, Ordering::Relaxed);
                }
            }
        }
    }
}
