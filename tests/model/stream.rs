//! What a server was told to write, in order, and what is kept there as a result.
//!
//! Redis replicates one stream of writes: a replica has a prefix of its source's stream, whatever the writes are about. So
//! the log, the committed mark, the takeover record and the seal are folded from one list, and a replica that has the
//! entry but not yet the mark is a state like any other.

use crate::list::List;

/// Names an entry by its bytes: the same bytes after the same entry are the same entry. 0 is none.
pub type EntryId = u8;

/// Names a replication stream, as `master_replid` does. 0 is none.
pub type StreamId = u8;

/// One write. Each is a script, atomic in the server and in its stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    #[default]
    Nothing,
    Entry(EntryId),
    /// Committed up to this entry.
    Mark(EntryId),
    /// The primary of `epoch` was proven complete, and its log is committed up to `upto`.
    Takeover {
        epoch: u8,
        stream: StreamId,
        upto: EntryId,
    },
    /// A person has accepted this history: as `Takeover`, and lifts the seal.
    Accept {
        epoch: u8,
        stream: StreamId,
        upto: EntryId,
    },
    Seal,
    /// The journal's key was deleted, by mistake or malice; the other keys stay.
    DeleteLog,
}

/// The writes of one server, oldest first.
pub type Stream = List<Op, 20>;

/// The entries of a log; an entry's revision is its place in it, from 1.
pub type Log = List<EntryId, 8>;

/// Which epoch's primary was proven, and the stream it wrote then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakeoverRecord {
    pub epoch: u8,
    pub stream: StreamId,
}

/// What the keys of the journal hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct Contents {
    pub log: Log,
    /// The committed mark: revision and hash, so it names one entry.
    pub mark: EntryId,
    pub takeover: Option<TakeoverRecord>,
    pub sealed: bool,
}

impl Contents {
    pub fn of(stream: &Stream) -> Self {
        let mut contents = Self::default();
        for op in &**stream {
            match *op {
                Op::Nothing => {}
                Op::Entry(entry) => contents.log.push(entry),
                Op::Mark(entry) => contents.mark = entry,
                Op::Takeover { epoch, stream, upto } => {
                    contents.mark = upto;
                    contents.takeover = Some(TakeoverRecord { epoch, stream });
                }
                Op::Accept { epoch, stream, upto } => {
                    contents.mark = upto;
                    contents.takeover = Some(TakeoverRecord { epoch, stream });
                    contents.sealed = false;
                }
                Op::Seal => contents.sealed = true,
                Op::DeleteLog => contents.log.clear(),
            }
        }
        contents
    }

    pub fn end(&self) -> EntryId {
        self.log.last().copied().unwrap_or(0)
    }

    /// The revision of an entry of this log, 0 for none; `None` if the log does not have it.
    pub fn revision(&self, entry: EntryId) -> Option<usize> {
        if entry == 0 { Some(0) } else { self.log.iter().position(|e| *e == entry).map(|at| at + 1) }
    }

    pub fn committed(&self) -> Option<&[EntryId]> {
        self.revision(self.mark).map(|revision| &self.log[..revision])
    }
}
