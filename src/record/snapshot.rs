//! A snapshot of the state in a file, so that a start need not fold years of entries again.
//!
//! It names the entry it was taken after by revision and hash; whoever reads it checks that the journal has that entry,
//! and folds the rest. It is closed by a SHA-256 over all that stands before, so one that is torn or altered is found
//! out, and so is one that restores to another state than it was taken of, by the state's digest. The journal is folded
//! from the start then: a snapshot is only ever a shortcut.

mod parts;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::{decode, pb};
use crate::domain::format::Format;
use crate::domain::ids::Revision;
use crate::domain::state::{Restore, State};
use crate::journal::{Hash, JournalName, Position};
use crate::machine;

use parts::{add, next_record, write_all};

const MAGIC: &[u8; 16] = b"withheld snap 1\n";
const FORMAT: u32 = 1;
const PART: usize = 10_000;

/// Why there is no state to be had from a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file cannot be read or written.
    #[error("the snapshot `{path}` cannot be {doing}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Read or written.
        doing: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Its contents are not what was written.
    #[error("the snapshot `{path}` is damaged: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// The journal was in a format then that this program does not know. The file is not damaged.
    #[error(
        "the snapshot `{path}` is of a journal in format `{format}`; this program reads up to `{}`: use a newer withheld",
        Format::NEWEST_READABLE
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// That format.
        format: Format,
    },
}

/// The entry that a snapshot was taken after, and the journal that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TakenAt {
    /// The entry.
    pub position: Position,
    /// The journal's name: the first 16 bytes of the hash of its first entry. `None`: the snapshot does not say.
    pub journal: Option<[u8; 16]>,
}

/// Where a journal's snapshot is kept.
#[derive(Debug, Clone)]
pub struct SnapshotFile(PathBuf);

impl SnapshotFile {
    /// A snapshot in this file.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn io(&self, doing: &'static str) -> impl Fn(io::Error) -> SnapshotError + '_ {
        move |source| SnapshotError::Io { path: self.0.clone(), doing, source }
    }

    fn damaged(&self, why: impl ToString) -> SnapshotError {
        SnapshotError::Damaged { path: self.0.clone(), why: why.to_string() }
    }

    /// Writes a state beside the old snapshot and puts it in its place, durably. The hash is that of the last entry folded
    /// in, and the name that of the journal it is of.
    ///
    /// # Errors
    /// If the file cannot be written; the old snapshot is there then as before.
    pub fn write(&self, state: &State, hash: Hash, journal: Option<[u8; 16]>) -> Result<(), SnapshotError> {
        let fresh = self.0.with_extension("snapshot.new");
        let io = self.io("written");
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh).map_err(&io)?;
        let mut file = Hashing { inner: BufWriter::new(file), hash: Sha256::new() };
        write_all(&mut file, state, hash, journal).map_err(&io)?;
        let digest = file.hash.finalize();
        file.inner.write_all(&digest).map_err(&io)?;
        let file = file.inner.into_inner().map_err(|e| io(e.into_error()))?;
        file.sync_all().map_err(&io)?;
        fs::rename(&fresh, &self.0).map_err(&io)?;
        let parent = self.0.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(&io)
    }

    /// The state, and where it was taken; `None` if there is no snapshot.
    ///
    /// # Errors
    /// If it cannot be read, is damaged, or is of a format that this program does not know.
    pub fn read(&self) -> Result<Option<(State, TakenAt)>, SnapshotError> {
        let file = match File::open(&self.0) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.io("read")(error)),
        };
        let length = file.metadata().map_err(self.io("read"))?.len();
        let body = length.checked_sub(32).ok_or_else(|| self.damaged("it is too short"))?;
        let again = File::open(&self.0).map_err(self.io("read"))?;
        // At the same time: what is restored of a damaged file is thrown away.
        std::thread::scope(|scope| {
            let verified = scope.spawn(|| self.verify(&file, body));
            let restored = self.restore(BufReader::with_capacity(1 << 20, again.take(body)));
            verified.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            restored.map(Some)
        })
    }

    /// Which journal it is of, if it says so, and the entry it was taken after: from its first record alone, without reading
    /// the rest. `None`: there is no snapshot, or none that begins like one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn lineage(&self) -> io::Result<Option<(Option<JournalName>, Position)>> {
        let mut file = match File::open(&self.0) {
            Ok(file) => BufReader::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut magic = [0; 16];
        if file.read_exact(&mut magic).is_err() || &magic != MAGIC {
            return Ok(None);
        }
        let first = next_record(&mut file).ok().flatten().and_then(|bytes| pb::SnapshotRecord::decode(&*bytes).ok());
        let Some(pb::snapshot_record::Record::Header(header)) = first.and_then(|first| first.record) else {
            return Ok(None);
        };
        let name = <[u8; 16]>::try_from(header.journal_name).ok().map(JournalName::from_bytes);
        let hash = <[u8; 32]>::try_from(header.hash).ok().map(Hash::from_bytes);
        Ok(hash.map(|hash| (name, Position { revision: Revision::new(header.revision), hash })))
    }

    /// Sets a damaged snapshot aside, so that it can be looked at, and gives its new name.
    ///
    /// # Errors
    /// If it cannot be renamed.
    pub fn set_aside(&self) -> Result<PathBuf, SnapshotError> {
        let aside = self.0.with_extension("snapshot.damaged");
        fs::rename(&self.0, &aside).map_err(self.io("set aside"))?;
        Ok(aside)
    }

    fn verify(&self, file: &File, body: u64) -> Result<(), SnapshotError> {
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut hash = Sha256::new();
        io::copy(&mut (&mut reader).take(body), &mut HashOnly(&mut hash)).map_err(self.io("read"))?;
        let mut expected = [0; 32];
        reader.read_exact(&mut expected).map_err(self.io("read"))?;
        if hash.finalize().as_slice() == expected { Ok(()) } else { Err(self.damaged("its checksum does not match")) }
    }

    /// What the file cannot be read for; if it only ends too soon, that is damage.
    fn cut(&self, error: io::Error) -> SnapshotError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("it ends within a record"),
            _ => self.io("read")(error),
        }
    }

    fn restore(&self, mut body: impl Read) -> Result<(State, TakenAt), SnapshotError> {
        let mut magic = [0; 16];
        body.read_exact(&mut magic).map_err(|e| self.cut(e))?;
        if &magic != MAGIC {
            return Err(self.damaged("it is not a snapshot of this format"));
        }
        let (mut restore, mut header) = (Restore::new(machine::cores()), None);
        while let Some(bytes) = next_record(&mut body).map_err(|e| self.cut(e))? {
            let record = pb::SnapshotRecord::decode(&*bytes).map_err(|e| self.damaged(e))?;
            match record.record {
                Some(pb::snapshot_record::Record::Header(h)) => {
                    restore.format(self.format(&h)?);
                    header = Some(h);
                }
                Some(part) => add(&mut restore, part).map_err(|why| self.damaged(why))?,
                None => return Err(self.damaged("a record is empty")),
            }
        }
        let header = header.ok_or_else(|| self.damaged("it has no header"))?;
        let at = decode::required_time(header.at, "at").map_err(|e| self.damaged(e))?;
        let hash: [u8; 32] = header.hash.try_into().map_err(|_| self.damaged("its header has no hash"))?;
        let revision = Revision::new(header.revision);
        let state = restore.finish(revision, at);
        if header.format != FORMAT || state.orders().len() as u64 != header.orders {
            return Err(self.damaged("it is not whole"));
        }
        if !header.state_digest.is_empty() && header.state_digest != state.digest().to_bytes() {
            return Err(self.damaged("its contents make another state than the one it was taken of"));
        }
        let journal = Some(header.journal_name).filter(|name| !name.is_empty());
        let journal = journal.map(<[u8; 16]>::try_from).transpose();
        let journal = journal.map_err(|_| self.damaged("its header has no name of 16 bytes"))?;
        Ok((state, TakenAt { position: Position { revision, hash: Hash::from_bytes(hash) }, journal }))
    }

    /// The journal's format by a header. One that is not known ends the reading: what follows may be in it.
    fn format(&self, header: &pb::SnapshotHeader) -> Result<Format, SnapshotError> {
        let format = Format::from_number(header.journal_format).unwrap_or_default();
        let newer = || SnapshotError::NewerFormat { path: self.0.clone(), format };
        if format.is_readable() { Ok(format) } else { Err(newer()) }
    }
}

/// Hashes what passes through.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write_all(bytes)?;
        self.hash.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

struct HashOnly<'a>(&'a mut Sha256);

impl Write for HashOnly<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "../../fuzz/histories.rs"]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::parts::put;
    use super::*;

    fn why(records: &[u8]) -> String {
        let file = SnapshotFile::at("snapshot");
        match file.restore([MAGIC.as_slice(), records].concat().as_slice()) {
            Err(SnapshotError::Damaged { why, .. }) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_record_that_is_longer_than_the_file_is_damage_and_takes_no_memory() {
        assert_eq!(why(&[0xff, 0xff, 0xff, 0xff, 1, 2, 3]), "it ends within a record");
        assert_eq!(why(&[7, 0]), "it ends within a record");
        let mut endless = [u32::MAX.to_le_bytes().as_slice(), &[0; 100]].concat();
        assert!(next_record(&mut endless.as_slice()).is_err());
        endless[..4].copy_from_slice(&100_u32.to_le_bytes());
        let record = next_record(&mut endless.as_slice()).unwrap().unwrap();
        assert!(record.len() == 100 && record.capacity() < 10_000, "{}", record.capacity());
    }

    #[test]
    fn columns_of_different_lengths_are_damage() {
        use pb::snapshot_record::Record;
        let written = |record| {
            let mut bytes = Vec::new();
            put(&mut bytes, record).unwrap();
            bytes
        };
        let part = pb::SnapshotProtections { account_ids: vec![7, 8], categories: vec![1], since_micros: vec![1, 2] };
        assert!(why(&written(Record::Protections(part))).contains("protected list"));
        let part = pb::SnapshotRequests { request_ids: vec!["a".to_owned()], ..Default::default() };
        assert!(why(&written(Record::Requests(part))).contains("requests"));
        let id = || vec!["a".to_owned()];
        let digests = || vec![vec![7; 32]];
        for (at_micros, fits) in [(vec![], true), (vec![1], true), (vec![1, 2], false)] {
            let (request_ids, request_digests) = (id(), digests());
            let part = pb::SnapshotRequests { request_ids, request_digests, revisions: vec![1], at_micros };
            assert_eq!(why(&written(Record::Requests(part))) == "it has no header", fits);
        }
    }
}
