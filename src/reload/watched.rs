//! Files that are looked at again and again: who is revoked is to be out within seconds, and certificates are replaced by
//! programs that send nobody a signal.
//!
//! What a file was is remembered only once it has been read: a file that cannot be read now is tried again, for ever.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::LoadError;

/// How often files that name further files are read, until it is known of each of them what it was before it was read.
const TRIES: usize = 3;

/// What tells that a file is another one, or that somebody else may read it now; nothing if there is none.
type Stamp = Option<[i64; 7]>;

fn stamp(path: &Path) -> Stamp {
    let of = |found: Metadata| {
        let [inode, size] = [found.ino(), found.size()].map(u64::cast_signed);
        [inode, size, found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec(), i64::from(found.mode())]
    };
    std::fs::metadata(path).ok().map(of)
}

/// The files of one part of the configuration.
#[derive(Debug, Default)]
pub(super) struct Watched {
    read: BTreeMap<PathBuf, Stamp>,
    failed: bool,
}

impl Watched {
    /// Whether they are to be read: one has changed, or they could not be read when they were last tried.
    pub(super) fn is_due(&self) -> bool {
        self.failed || self.read.iter().any(|(path, read)| stamp(path) != *read)
    }

    /// Reads them. `read` gives what is in them, and which they are.
    pub(super) fn read<T>(&mut self, read: impl Fn() -> Result<(T, Vec<PathBuf>), LoadError>) -> Result<T, LoadError> {
        // Until it succeeds.
        self.failed = true;
        let (mut known, mut tries): (Vec<PathBuf>, _) = (self.read.keys().cloned().collect(), 0);
        loop {
            let before: BTreeMap<PathBuf, Stamp> = known.iter().map(|path| (path.clone(), stamp(path))).collect();
            let (value, files) = read()?;
            tries += 1;
            if tries == TRIES || files.iter().all(|path| before.contains_key(path)) {
                // One that was not looked at before it was read is read once more, not missed.
                let stamp_of = |path: &PathBuf| before.get(path).copied().flatten();
                self.read = files.iter().map(|path| (path.clone(), stamp_of(path))).collect();
                self.failed = false;
                return Ok(value);
            }
            known = files;
        }
    }
}
