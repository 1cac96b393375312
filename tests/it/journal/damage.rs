//! What is damaged is found, and the first bad entry named, by everyone who reads.

use std::sync::Arc;

use withheld::domain::ids::Revision;
use withheld::journal::{Follower, Position, ReadError, verify};

use super::{Backend, Damage, append, mk_payloads, read_all};

const ENTRIES: u64 = 12;

pub async fn names_the_first_bad_entry<B: Backend>() {
    for (damage, first_bad) in [
        (Damage::PayloadBit(1), 1),
        (Damage::PayloadBit(7), 7),
        (Damage::PayloadBit(ENTRIES), ENTRIES),
        (Damage::HashBit(5), 5),
        (Damage::PayloadCut(3), 3),
        (Damage::Missing(1), 1),
        (Damage::Missing(6), 6),
        (Damage::Swapped(4), 4),
        // Whole in itself: it is the next one that no longer follows.
        (Damage::Replaced(8), 9),
    ] {
        let backend = B::mk().await;
        let journal = backend.open().await;
        append(&*journal, mk_payloads(1..=ENTRIES)).await;
        let positions: Vec<Position> =
            read_all(&*journal, Position::START).await.iter().map(|e| e.position()).collect();
        drop(journal);
        backend.damage(damage).await;
        let journal = backend.open().await;
        let named = |error: ReadError| match error {
            ReadError::Corrupt { revision, .. } => {
                assert!(error.to_string().contains(&format!("`{revision}`")), "{error}");
                revision
            }
            ReadError::Unavailable(_) | ReadError::InDoubt(_) | ReadError::Diverged { .. } => {
                panic!("{damage:?}: {error}")
            }
        };
        assert_eq!(named(verify(&*journal, |_, _| {}).await.unwrap_err()), Revision::new(first_bad), "{damage:?}");
        assert_eq!(named(journal.read(Position::START, 100).await.unwrap_err()), Revision::new(first_bad));
        let mut follower = Follower::new(Arc::clone(&journal) as _, Position::START);
        assert_eq!(named(follower.next().await.unwrap_err()), Revision::new(first_bad), "{damage:?}");
        assert_eq!(named(follower.next().await.unwrap_err()), Revision::new(first_bad), "and again, not skipped");
        // Who stands before the damage reads up to it.
        if first_bad > 2 && !matches!(damage, Damage::Replaced(_)) {
            let before = positions[usize::try_from(first_bad).unwrap() - 3];
            assert_eq!(journal.read(before, 1).await.unwrap().entries.len(), 1, "{damage:?}");
        }
    }
}
