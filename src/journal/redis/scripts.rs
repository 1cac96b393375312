//! The scripts that run inside the server, each atomic, and the keys they work on.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Script, Value, cmd};

use super::connection::{CallError, call};
use super::session::Session;
use crate::domain::ids::Revision;
use crate::journal::{Hash, Position, Tail};

/// The keys of a journal. The braces put them into one slot of a cluster. Names are for ever, also where the word in them is
/// not the one used now.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    /// The entries: a stream, the entry of revision N under the id `N-0`, with its hash `h` and its bytes `p`.
    pub(super) journal: String,
    /// The committed mark: a stream of one entry, with the id and hash of the last committed one.
    pub(super) committed: String,
    /// If it is there, nothing is appended: histories have diverged. A text that says how.
    pub(super) seal: String,
    /// How many servers there are, how many must have an entry, and whose takeover was proven last: a hash.
    pub(super) properties: String,
    /// Written by whoever commits what another desk left, to have something to wait for.
    pub(super) probe: String,
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
            committed: key("settled"),
            seal: key("fence"),
            properties: key("properties"),
            probe: key("settling"),
            snapshot: key("snapshot"),
            snapshot_lock: key("snapshot:lock"),
        }
    }

    /// What an ACL names them all by.
    pub(super) fn pattern(&self) -> String {
        let namespace = self.journal.trim_end_matches("journal");
        format!("~{namespace}*")
    }

    /// The parts of a shared snapshot: a hash, each part under its number.
    pub(super) fn snapshot_parts(&self, revision: Revision) -> String {
        format!("{}:{revision}", self.snapshot)
    }
}

/// An answer that no script of this program gives.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the server answered what this program does not understand")]
pub(super) struct UnexpectedAnswer;

/// What became of an append.
#[derive(Debug)]
pub(super) enum Appended {
    Done,
    Conflict {
        end: Position,
        committed: Revision,
    },
    Sealed(String),
    /// The committed mark names an entry that the journal does not have.
    MarkBeyondEnd {
        mark: Revision,
        end: Revision,
    },
    /// The server does not write the stream any more that it wrote when the session began.
    Replaced,
}

/// How entries are appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// And committed by the same script, where no replica is waited for and nobody else can be the primary.
    CommitAtOnce,
    /// To be committed once replicas have them.
    Wait,
    /// They were committed once, and the journal lost them.
    Repair,
}

/// What became of a commit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Committed {
    Done,
    /// The entry is not there any more.
    Missing,
    /// The server does not write the stream any more that it wrote when the session began.
    Replaced,
    /// More servers are attached than the journal is declared for.
    TooManyServers {
        attached: usize,
        declared: usize,
    },
}

/// An entry as stored.
pub(super) type Row = (u64, Vec<u8>, Vec<u8>);

/// What there is after a position.
#[derive(Debug)]
pub(super) enum Found {
    /// The journal does not have the position; it ends here.
    Elsewhere(Position),
    /// The committed mark names an entry that the journal does not have.
    MarkBeyondEnd { mark: Revision, end: Revision },
    /// The committed mark has another hash than the entry that it names.
    MarkDiffers { entry: Position, mark: Hash },
    /// The server does not write the stream any more that it wrote when the session began.
    Replaced,
    /// These entries, and up to where the journal is committed.
    Entries { committed: Revision, rows: Vec<Row> },
}

/// What a journal says of itself.
#[derive(Debug)]
pub(super) struct JournalState {
    pub(super) tail: Tail,
    /// Redis replicas that must have an entry before it is committed.
    pub(super) wait_replicas: Option<u8>,
    /// Servers that the journal is declared for.
    pub(super) servers: Option<usize>,
    /// The epoch of the last proven takeover, and the stream that the primary wrote then.
    pub(super) taken_over: Option<(u64, String)>,
}

fn bytes(value: Value) -> Result<Vec<u8>, UnexpectedAnswer> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        _ => Err(UnexpectedAnswer),
    }
}

fn text(value: Value) -> Result<String, UnexpectedAnswer> {
    String::from_utf8(bytes(value)?).map_err(|_| UnexpectedAnswer)
}

fn number<T: std::str::FromStr>(value: Value) -> Result<T, UnexpectedAnswer> {
    text(value)?.parse().map_err(|_| UnexpectedAnswer)
}

/// A number, or nothing at all.
fn optional<T: std::str::FromStr>(value: Value) -> Result<Option<T>, UnexpectedAnswer> {
    let text = text(value)?;
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|_| UnexpectedAnswer) }
}

/// One of another length cannot be chained to: it is found out as damage when its entry is read.
fn hash(value: Value) -> Result<Hash, UnexpectedAnswer> {
    Ok(Hash::from_bytes(bytes(value)?.try_into().unwrap_or([0xff; 32])))
}

fn position(revision: Value, hash_there: Value) -> Result<Position, UnexpectedAnswer> {
    Ok(Position { revision: Revision::new(number(revision)?), hash: hash(hash_there)? })
}

/// The word with which a script says what came of it, and what it says besides.
fn word_and_parts(value: Value) -> Result<(Vec<u8>, std::vec::IntoIter<Value>), UnexpectedAnswer> {
    let Value::Array(parts) = value else { return Ok((bytes(value)?, Vec::new().into_iter())) };
    let mut parts = parts.into_iter();
    let word = bytes(parts.next().ok_or(UnexpectedAnswer)?)?;
    Ok((word, parts))
}

impl Appended {
    pub(super) fn parse(value: Value) -> Result<Self, UnexpectedAnswer> {
        let (word, mut rest) = word_and_parts(value)?;
        let mut next = || rest.next().ok_or(UnexpectedAnswer);
        match word.as_slice() {
            b"appended" => Ok(Self::Done),
            b"replaced" => Ok(Self::Replaced),
            b"beyond" => {
                Ok(Self::MarkBeyondEnd { mark: Revision::new(number(next()?)?), end: Revision::new(number(next()?)?) })
            }
            b"conflict" => {
                Ok(Self::Conflict { end: position(next()?, next()?)?, committed: Revision::new(number(next()?)?) })
            }
            b"sealed" => Ok(Self::Sealed(String::from_utf8_lossy(&bytes(next()?)?).into_owned())),
            _ => Err(UnexpectedAnswer),
        }
    }
}

impl Committed {
    pub(super) fn parse(value: Value) -> Result<Self, UnexpectedAnswer> {
        let (word, mut rest) = word_and_parts(value)?;
        let mut next = || number(rest.next().ok_or(UnexpectedAnswer)?);
        match word.as_slice() {
            b"committed" => Ok(Self::Done),
            b"missing" => Ok(Self::Missing),
            b"replaced" => Ok(Self::Replaced),
            b"servers" => Ok(Self::TooManyServers { attached: next()?, declared: next()? }),
            _ => Err(UnexpectedAnswer),
        }
    }
}

impl Found {
    pub(super) fn parse(value: Value) -> Result<Self, UnexpectedAnswer> {
        let (word, mut rest) = word_and_parts(value)?;
        match word.as_slice() {
            b"replaced" => Ok(Self::Replaced),
            b"elsewhere" => {
                let mut next = || rest.next().ok_or(UnexpectedAnswer);
                Ok(Self::Elsewhere(position(next()?, next()?)?))
            }
            b"beyond" => {
                let mut next = || Ok(Revision::new(number(rest.next().ok_or(UnexpectedAnswer)?)?));
                Ok(Self::MarkBeyondEnd { mark: next()?, end: next()? })
            }
            b"mark" => {
                let mut next = || rest.next().ok_or(UnexpectedAnswer);
                let (revision, entry, mark) = (next()?, next()?, next()?);
                Ok(Self::MarkDiffers { entry: position(revision, entry)?, mark: hash(mark)? })
            }
            b"entries" => {
                let committed = Revision::new(number(rest.next().ok_or(UnexpectedAnswer)?)?);
                let mut rows = Vec::with_capacity(rest.len() / 3);
                while let (Some(id), Some(hash), Some(payload)) = (rest.next(), rest.next(), rest.next()) {
                    let id = bytes(id)?;
                    let revision = std::str::from_utf8(&id).ok().and_then(|id| id.strip_suffix("-0")?.parse().ok());
                    rows.push((revision.ok_or(UnexpectedAnswer)?, bytes(hash)?, bytes(payload)?));
                }
                Ok(Self::Entries { committed, rows })
            }
            _ => Err(UnexpectedAnswer),
        }
    }
}

impl JournalState {
    fn parse(answer: Vec<Value>) -> Result<Self, UnexpectedAnswer> {
        let mut answer = answer.into_iter();
        let mut next = || answer.next().ok_or(UnexpectedAnswer);
        let end = position(next()?, next()?)?;
        let committed = position(next()?, next()?)?;
        let (wait_replicas, servers) = (optional(next()?)?, optional(next()?)?);
        let (epoch, stream) = (optional(next()?)?, text(next()?)?);
        let (tail, taken_over) = (Tail { end, committed }, epoch.map(|epoch| (epoch, stream)));
        Ok(Self { tail, wait_replicas, servers, taken_over })
    }
}

const SOURCES: [&str; 5] = [
    include_str!("append.lua"),
    include_str!("commit.lua"),
    include_str!("read.lua"),
    include_str!("state.lua"),
    include_str!("seal.lua"),
];

/// The scripts, and the keys of one journal.
#[derive(Debug, Clone)]
pub(super) struct Scripts {
    pub(super) keys: Keys,
    append: Script,
    commit: Script,
    read: Script,
    state: Script,
    seal: Script,
}

impl Scripts {
    pub(super) fn of(namespace: &str) -> Self {
        let [append, commit, read, state, seal] = SOURCES.map(Script::new);
        Self { keys: Keys::of(namespace), append, commit, read, state, seal }
    }

    /// Makes the server know them.
    pub(super) async fn load(&self, connection: &MultiplexedConnection, limit: Duration) -> Result<(), CallError> {
        for code in SOURCES {
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
    pub(super) fn append(&self, expected: Position, entries: &[(Hash, &[u8])], how: How, stream: &str) -> Cmd {
        let mut command = Self::run(&self.append, &[&self.keys.journal, &self.keys.committed, &self.keys.seal]);
        Self::at(&mut command, expected);
        command.arg(match how {
            How::CommitAtOnce => "commit",
            How::Wait => "wait",
            How::Repair => "repair",
        });
        command.arg(stream);
        for (hash, payload) in entries {
            command.arg(hash.as_bytes().as_slice()).arg(*payload);
        }
        command
    }

    /// Moves the committed mark to a position, and records a proven takeover if there was one.
    pub(super) fn commit(&self, position: Position, stream: &str, takeover: Option<u64>) -> Cmd {
        let mut command = Self::run(&self.commit, &[&self.keys.journal, &self.keys.committed, &self.keys.properties]);
        Self::at(&mut command, position);
        command.arg(stream);
        if let Some(epoch) = takeover {
            command.arg(epoch);
        }
        command
    }

    /// Seals the journal, unless it is.
    pub(super) fn seal(&self, stream: &str, why: &str) -> Cmd {
        let mut command = Self::run(&self.seal, &[&self.keys.seal]);
        command.arg(stream).arg(why);
        command
    }

    /// Reads what is committed after a position.
    pub(super) fn read(&self, after: Position, limit: usize, bytes: usize, stream: &str) -> Cmd {
        let mut command = Self::run(&self.read, &[&self.keys.journal, &self.keys.committed]);
        Self::at(&mut command, after);
        command.arg(limit).arg(bytes).arg(stream);
        command
    }

    /// Waits for something committed after a revision.
    pub(super) fn wait(&self, seen: Revision, block: Duration) -> Cmd {
        let mut command = cmd("XREAD");
        let millis = u64::try_from(block.as_millis()).unwrap_or(1).max(1);
        command.arg("BLOCK").arg(millis).arg("STREAMS").arg(&self.keys.committed).arg(format!("{seen}-0"));
        command
    }

    /// Where the journal ends, and what it says of its servers.
    pub(super) async fn state(&self, session: &Session) -> Result<JournalState, CallError> {
        let keys = [self.keys.journal.as_str(), &self.keys.committed, &self.keys.properties];
        Ok(JournalState::parse(session.ask(&Self::run(&self.state, &keys)).await?)?)
    }
}
