//! Whole histories and snapshots: entries that follow on each other, or do not, and what is kept of their state.

use sha2::{Digest as _, Sha256};

use super::{Hash, SnapshotError, SnapshotFile, State, write_all};
use crate::domain::ids::Revision;
use crate::index::Index;
use crate::record::{decode, encode};

crate::fuzz::target!(histories, check_history);
crate::fuzz::target!(snapshots, check_snapshot);

/// Entries, each after its length in two bytes.
fn payloads(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut payloads = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (payload, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        payloads.push(payload);
        bytes = rest;
    }
    payloads
}

fn check_history(bytes: &[u8]) {
    let (mut state, mut again, mut index) = (State::default(), State::default(), Index::default());
    for entry in payloads(bytes).into_iter().filter_map(|payload| decode(payload).ok()) {
        let before = state.digest();
        let revision = state.revision().next();
        match state.apply(revision, &entry) {
            Ok(touched) => {
                assert_eq!(state.revision(), revision);
                index.advance(&state, &[touched], state.at());
                again.apply(revision, &decode(&encode(&entry)).unwrap()).unwrap();
            }
            Err(error) => {
                assert!(error.to_string().contains(&format!("`{revision}`")));
                assert_eq!((state.revision(), state.digest()), (Revision::new(revision.get() - 1), before));
            }
        }
    }
    assert_eq!(state.digest(), again.digest());
    // What is published piece by piece is what would be published at once.
    let (by_pieces, at_once) = (index.rebuild(&state, state.at()), Index::default().rebuild(&again, again.at()));
    assert_eq!((by_pieces.len(), by_pieces.valid_until()), (at_once.len(), at_once.valid_until()));
    let mut kept = Vec::new();
    write_all(&mut kept, &state, Hash::GENESIS, None).unwrap();
    let (restored, taken) = read(&kept).unwrap();
    assert_eq!((restored.digest(), taken.position.revision), (state.digest(), state.revision()));
}

/// Reads a snapshot of which the checksum is right, whatever stands before it.
fn read(body: &[u8]) -> Result<(State, super::TakenAt), SnapshotError> {
    let directory = tempfile::tempdir().unwrap();
    let file = SnapshotFile::at(directory.path().join("fuzzed"));
    std::fs::write(file.path(), [body, Sha256::digest(body).as_slice()].concat()).unwrap();
    file.read().map(Option::unwrap)
}

fn check_snapshot(body: &[u8]) {
    match read(body) {
        Ok((state, taken)) => {
            let mut kept = Vec::new();
            write_all(&mut kept, &state, taken.position.hash, taken.journal).unwrap();
            let (again, other) = read(&kept).unwrap();
            assert_eq!((again.digest(), again.format(), other), (state.digest(), state.format(), taken));
        }
        Err(SnapshotError::NewerFormat { format, .. }) => assert!(!format.is_readable()),
        // The file is there, and can be read: what is wrong is what it says.
        Err(error) => assert!(matches!(&error, SnapshotError::Damaged { why, .. } if !why.is_empty()), "{error:?}"),
    }
}
