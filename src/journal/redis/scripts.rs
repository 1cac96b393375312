//! The scripts that run inside the server, each atomic, and the keys they work on.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Script, Value, cmd};

use super::connection::{CallError, call};
use super::link::Session;
use crate::domain::ids::Revision;
use crate::journal::{Hash, Position};

/// The keys of a journal. The braces put them into one slot of a cluster.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    /// The entries: a stream, the entry of revision N under the id `N-0`, with its hash `h` and its bytes `p`.
    pub(super) journal: String,
    /// Up to where entries are settled: a stream of one entry, with the id and hash of the last one.
    pub(super) settled: String,
    /// If it is there, nothing is appended: histories have diverged. A text that says how.
    pub(super) fence: String,
    /// Written by whoever settles what another desk left, to have something to wait for.
    pub(super) settling: String,
    /// Which snapshot is shared: a hash.
    pub(super) snapshot: String,
    /// Held by whoever shares a snapshot.
    pub(super) snapshot_lock: String,
}

impl Keys {
    pub(super) fn of(namespace: &str) -> Self {
        let key = |name: &str| format!("{{{namespace}}}:{name}");
        Self {
            journal: key("journal"),
            settled: key("settled"),
            fence: key("fence"),
            settling: key("settling"),
            snapshot: key("snapshot"),
            snapshot_lock: key("snapshot:lock"),
        }
    }

    /// The parts of a shared snapshot: a hash, each part under its number.
    pub(super) fn snapshot_parts(&self, revision: Revision) -> String {
        format!("{}:{revision}", self.snapshot)
    }
}

/// An answer that no script of this program gives.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the server answered what this program does not understand")]
pub(super) struct Senseless;

/// What became of an append.
#[derive(Debug)]
pub(super) enum Appended {
    Done,
    Conflict { end: Position, settled: Revision },
    Fenced(String),
}

/// An entry as stored.
pub(super) type Row = (u64, Vec<u8>, Vec<u8>);

/// What there is after a position.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing.
    Level,
    /// The journal does not have the position; it ends here.
    Elsewhere(Position),
    /// These entries.
    Entries(Vec<Row>),
}

/// Where the journal ends, and up to where it is settled.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) end: Position,
    pub(super) settled: Position,
}

fn bytes(value: Value) -> Result<Vec<u8>, Senseless> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        _ => Err(Senseless),
    }
}

fn number(value: Value) -> Result<u64, Senseless> {
    String::from_utf8(bytes(value)?).ok().and_then(|text| text.parse().ok()).ok_or(Senseless)
}

fn position(revision: Value, hash: Value) -> Result<Position, Senseless> {
    let revision = Revision::new(number(revision)?);
    // A hash of another length cannot be chained to: it is found out as damage when its entry is read.
    let hash = Hash::from_bytes(bytes(hash)?.try_into().unwrap_or([0xff; 32]));
    Ok(Position { revision, hash })
}

fn parts(value: Value) -> Result<(Vec<u8>, std::vec::IntoIter<Value>), Senseless> {
    let Value::Array(parts) = value else { return Err(Senseless) };
    let mut parts = parts.into_iter();
    let word = bytes(parts.next().ok_or(Senseless)?)?;
    Ok((word, parts))
}

impl Appended {
    pub(super) fn parse(value: Value) -> Result<Self, Senseless> {
        let (word, mut rest) = parts(value)?;
        let mut next = || rest.next().ok_or(Senseless);
        match word.as_slice() {
            b"appended" => Ok(Self::Done),
            b"conflict" => {
                Ok(Self::Conflict { end: position(next()?, next()?)?, settled: Revision::new(number(next()?)?) })
            }
            b"fenced" => Ok(Self::Fenced(String::from_utf8_lossy(&bytes(next()?)?).into_owned())),
            _ => Err(Senseless),
        }
    }
}

impl Found {
    pub(super) fn parse(value: Value) -> Result<Self, Senseless> {
        let (word, mut rest) = parts(value)?;
        match word.as_slice() {
            b"level" => Ok(Self::Level),
            b"elsewhere" => {
                let mut next = || rest.next().ok_or(Senseless);
                Ok(Self::Elsewhere(position(next()?, next()?)?))
            }
            b"entries" => {
                let mut rows = Vec::with_capacity(rest.len() / 3);
                while let (Some(id), Some(hash), Some(payload)) = (rest.next(), rest.next(), rest.next()) {
                    let id = bytes(id)?;
                    let revision = std::str::from_utf8(&id).ok().and_then(|id| id.strip_suffix("-0")?.parse().ok());
                    rows.push((revision.ok_or(Senseless)?, bytes(hash)?, bytes(payload)?));
                }
                Ok(Self::Entries(rows))
            }
            _ => Err(Senseless),
        }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Scripts {
    pub(super) keys: Keys,
    append: Script,
    settle: Script,
    read: Script,
    ends: Script,
}

impl Scripts {
    pub(super) fn of(namespace: &str) -> Self {
        Self {
            keys: Keys::of(namespace),
            append: Script::new(include_str!("append.lua")),
            settle: Script::new(include_str!("settle.lua")),
            read: Script::new(include_str!("read.lua")),
            ends: Script::new(include_str!("ends.lua")),
        }
    }

    /// Makes the server know them.
    pub(super) async fn load(&self, connection: &MultiplexedConnection, limit: Duration) -> Result<(), CallError> {
        for code in
            [include_str!("append.lua"), include_str!("settle.lua"), include_str!("read.lua"), include_str!("ends.lua")]
        {
            call::<String>(connection, cmd("SCRIPT").arg("LOAD").arg(code), limit).await?;
        }
        Ok(())
    }

    fn run(script: &Script, keys: &[&str]) -> Cmd {
        let mut command = cmd("EVALSHA");
        command.arg(script.get_hash()).arg(keys.len());
        for key in keys {
            command.arg(key);
        }
        command
    }

    fn at(command: &mut Cmd, position: Position) {
        command.arg(position.revision.get()).arg(position.hash.as_bytes().as_slice());
    }

    /// Appends entries, each with its hash, right after a position.
    pub(super) fn append(&self, expected: Position, entries: &[(Hash, &[u8])], settle: bool) -> Cmd {
        let mut command = Self::run(&self.append, &[&self.keys.journal, &self.keys.settled, &self.keys.fence]);
        Self::at(&mut command, expected);
        command.arg(if settle { "1" } else { "0" });
        for (hash, payload) in entries {
            command.arg(hash.as_bytes().as_slice()).arg(*payload);
        }
        command
    }

    /// Marks a position as settled.
    pub(super) fn settle(&self, position: Position) -> Cmd {
        let mut command = Self::run(&self.settle, &[&self.keys.journal, &self.keys.settled]);
        Self::at(&mut command, position);
        command
    }

    /// Reads what is settled after a position.
    pub(super) fn read(&self, after: Position, limit: usize, bytes: usize) -> Cmd {
        let mut command = Self::run(&self.read, &[&self.keys.journal, &self.keys.settled]);
        Self::at(&mut command, after);
        command.arg(limit).arg(bytes);
        command
    }

    /// Waits for something settled after a revision.
    pub(super) fn wait(&self, seen: Revision, block: Duration) -> Cmd {
        let mut command = cmd("XREAD");
        let millis = u64::try_from(block.as_millis()).unwrap_or(1).max(1);
        command.arg("BLOCK").arg(millis).arg("STREAMS").arg(&self.keys.settled).arg(format!("{seen}-0"));
        command
    }

    /// Where the journal ends.
    pub(super) async fn ends(&self, session: &Session) -> Result<Ends, CallError> {
        let command = Self::run(&self.ends, &[&self.keys.journal, &self.keys.settled]);
        let answer: Vec<Value> = session.ask(&command).await?;
        let mut answer = answer.into_iter();
        let mut next = || position(answer.next().unwrap_or_default(), answer.next().unwrap_or_default());
        match (next(), next()) {
            (Ok(end), Ok(settled)) => Ok(Ends { end, settled }),
            (Err(Senseless), _) | (_, Err(Senseless)) => Err(CallError::Senseless(Senseless)),
        }
    }
}
