//! A journal in an SQLite file: one machine, nothing to install.
//!
//! **Acked-is-durable**: write-ahead log, `synchronous=FULL`, committed before the answer. One process writes a file at a
//! time, held by a lock file; readers, such as a verification, may look on.

mod copy;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior, params};
use tokio::sync::watch;

use super::{AppendError, Batch, Damage, Hash, Journal, JournalReader, Position, ReadError, Tail, chained};
use crate::domain::ids::Revision;

pub use copy::{CopyWriter, Replacement};

/// "wthh", in the header of the file: it is a journal of this program.
const APPLICATION_ID: i32 = 0x7774_6868;
const FORMAT: i32 = 1;
/// A read stops after an entry that takes it past this many bytes.
const READ_BYTES: usize = 16 << 20;

/// Why a journal file cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the journal `{path}` is in use by process `{pid}`: stop that process, or give this one another --journal")]
    Locked {
        /// The file.
        path: PathBuf,
        /// Who has it.
        pid: String,
    },
    /// Nothing in it.
    #[error("`{0}` is empty: there is no journal in it; give the file that `withheld serve` writes, or a copy of it")]
    Empty(PathBuf),
    /// Nothing in it, and something in the log beside it.
    #[error(
        "`{0}` is gone or empty, and its write-ahead log `{0}-wal` is not: the journal was deleted or cut short, and nothing was \
         made in its place; restore it from a backup, and keep the log for who looks into it"
    )]
    Truncated(PathBuf),
    /// Not one of ours.
    #[error("`{0}` is an SQLite file of another program: give another --journal")]
    Foreign(PathBuf),
    /// Of a later version.
    #[error("the journal `{path}` has format {found}, this program knows {FORMAT}: use a newer withheld")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i32,
    },
    /// A copy, or what was there before it, cannot be written, named or renamed.
    #[error("`{path}` cannot be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A copy cannot be given to the owner of the journal that it is to replace.
    #[error(
        "`{path}` cannot be given to the user with id {user}, who the journal is of: do this as root, or as that user"
    )]
    Owner {
        /// The file.
        path: PathBuf,
        /// Whose it is to be.
        user: u32,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file system says no.
    #[error("the journal `{path}` cannot be opened")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// SQLite says no.
    #[error("the journal `{path}` cannot be opened")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: rusqlite::Error,
    },
}

/// A journal in an SQLite file.
#[derive(Debug)]
pub struct SqliteJournal {
    writer: Arc<Mutex<Connection>>,
    reader: Arc<Mutex<Connection>>,
    end: watch::Sender<Revision>,
    /// Held for as long as the journal is open.
    _lock: Option<File>,
}

impl SqliteJournal {
    /// Whether there is anything where a journal should be. A file that was cut down to nothing has nothing in it, whatever is
    /// left in the log beside it.
    #[must_use]
    pub fn has_content(path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|file| file.len() > 0)
    }

    /// Opens a journal for writing, making it if it is not there. Blocks.
    ///
    /// # Errors
    /// If another process has it, or it is not a journal; see [`OpenError`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { path: path.to_owned(), source };
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(io)?;
        }
        let lock = lock(path)?;
        if !Self::has_content(path) && log_beside(path).is_some_and(|log| log.len() > 0) {
            // SQLite would take the log for a stale one, and throw away the last that is left of a journal.
            return Err(OpenError::Truncated(path.to_owned()));
        }
        OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(io)?;
        let sqlite = |source| OpenError::Sqlite { path: path.to_owned(), source };
        let writer = Connection::open(path).map_err(sqlite)?;
        prepare(&writer, path)?;
        let reader = Connection::open(path).map_err(sqlite)?;
        Self::over(writer, reader, Some(lock)).map_err(sqlite)
    }

    /// Opens a journal to look at it, also while a process writes it. Blocks.
    ///
    /// # Errors
    /// If it is not a journal; see [`OpenError`].
    pub fn open_read_only(path: &Path) -> Result<Self, OpenError> {
        let sqlite = |source| OpenError::Sqlite { path: path.to_owned(), source };
        let open = || Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(sqlite);
        let writer = open()?;
        if !known_format(&writer, path)? {
            return Err(OpenError::Empty(path.to_owned()));
        }
        Self::over(writer, open()?, None).map_err(sqlite)
    }

    fn over(writer: Connection, reader: Connection, lock: Option<File>) -> rusqlite::Result<Self> {
        let end = watch::Sender::new(end(&writer)?.revision);
        let (writer, reader) = (Arc::new(Mutex::new(writer)), Arc::new(Mutex::new(reader)));
        Ok(Self { writer, reader, end, _lock: lock })
    }
}

/// SQLite's write-ahead log of a file.
fn log_beside(path: &Path) -> Option<fs::Metadata> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    fs::metadata(log).ok()
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let mut file =
        OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(name).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0).map_err(io)?;
            write!(file, "{}", std::process::id()).map_err(io)?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(io)?;
            Err(OpenError::Locked { path: path.to_owned(), pid })
        }
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

/// Whether the file is a journal of this program; a new one is not yet.
fn known_format(db: &Connection, path: &Path) -> Result<bool, OpenError> {
    let sqlite = |source: rusqlite::Error| match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => OpenError::Foreign(path.to_owned()),
        _ => OpenError::Sqlite { path: path.to_owned(), source },
    };
    let pragma = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(sqlite);
    let (application, format) = (pragma("application_id")?, pragma("user_version")?);
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(sqlite)?;
    match (application, format) {
        (APPLICATION_ID, FORMAT) => Ok(true),
        (APPLICATION_ID, found) => Err(OpenError::Newer { path: path.to_owned(), found }),
        (0, 0) if tables == 0 => Ok(false),
        _ => Err(OpenError::Foreign(path.to_owned())),
    }
}

fn prepare(db: &Connection, path: &Path) -> Result<(), OpenError> {
    let known = known_format(db, path)?;
    let sqlite = |source| OpenError::Sqlite { path: path.to_owned(), source };
    db.pragma_update(None, "journal_mode", "WAL").map_err(sqlite)?;
    db.pragma_update(None, "synchronous", "FULL").map_err(sqlite)?;
    if !known {
        create_tables(db).map_err(sqlite)?;
    }
    Ok(())
}

fn create_tables(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(&format!(
        "BEGIN IMMEDIATE;
         CREATE TABLE entries (revision INTEGER PRIMARY KEY, hash BLOB NOT NULL, payload BLOB NOT NULL) STRICT;
         PRAGMA application_id = {APPLICATION_ID};
         PRAGMA user_version = {FORMAT};
         COMMIT;"
    ))
}

fn guard(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

fn end(db: &Connection) -> rusqlite::Result<Position> {
    let last = "SELECT revision, hash FROM entries ORDER BY revision DESC LIMIT 1";
    let end = db.prepare_cached(last)?.query_row([], |row| position(row.get(0)?, row.get(1)?)).optional()?;
    Ok(end.unwrap_or(Position::START))
}

/// A hash of the wrong length cannot be chained to: it is found out as damage when its entry is read.
fn position(revision: u64, hash: Vec<u8>) -> rusqlite::Result<Position> {
    let hash = Hash::from_bytes(hash.try_into().unwrap_or([0xff; 32]));
    Ok(Position { revision: Revision::new(revision), hash })
}

fn append(db: &mut Connection, expected: Position, payloads: &[Vec<u8>]) -> Result<Position, AppendError> {
    let unavailable = refused;
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(unavailable)?;
    let actual = end(&transaction).map_err(unavailable)?;
    if actual != expected {
        return Err(AppendError::Conflict { actual });
    }
    let mut at = expected;
    {
        let insert = "INSERT INTO entries (revision, hash, payload) VALUES (?1, ?2, ?3)";
        let mut insert = transaction.prepare_cached(insert).map_err(unavailable)?;
        for payload in payloads {
            at = at.after(payload);
            insert.execute(params![at.revision.get(), at.hash.as_bytes(), payload]).map_err(unavailable)?;
        }
    }
    // Until here nothing can have been written: dropping the transaction rolls it back.
    match transaction.commit() {
        Ok(()) => Ok(at),
        Err(error) => match end(db) {
            Ok(end) if end == expected && db.is_autocommit() => Err(unavailable(error)),
            Ok(_) | Err(_) => Err(AppendError::Indeterminate(error.into())),
        },
    }
}

/// Nothing was written, and why; a full disk is not mended by trying again.
fn refused(error: rusqlite::Error) -> AppendError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => {
            AppendError::NotDurable("the disk that the journal is on is full: make room".to_owned())
        }
        Some(_) | None => AppendError::Unavailable(error.into()),
    }
}

fn read(db: &Connection, after: Position, limit: usize) -> Result<Batch, ReadError> {
    let unavailable = |error| read_error(error, after.revision);
    if after != Position::START {
        let known = "SELECT hash FROM entries WHERE revision = ?1";
        let mut known = db.prepare_cached(known).map_err(unavailable)?;
        let hash = known.query_row([after.revision.get()], |row| row.get::<_, Vec<u8>>(0)).optional();
        if hash.map_err(unavailable)?.as_deref() != Some(after.hash.as_bytes()) {
            let end = end(db).map_err(unavailable)?.revision;
            return Err(ReadError::Diverged { revision: after.revision, end });
        }
    }
    let select = "SELECT revision, hash, payload FROM entries WHERE revision > ?1 ORDER BY revision LIMIT ?2";
    let mut select = db.prepare_cached(select).map_err(unavailable)?;
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut found = select.query(params![after.revision.get(), most]).map_err(unavailable)?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    let (mut broken, mut exhausted) = (None, false);
    while bytes <= READ_BYTES {
        match found.next().and_then(|row| row.map(columns).transpose()) {
            Ok(Some(row)) => {
                bytes += row.2.len();
                rows.push(row);
            }
            Ok(None) => {
                exhausted = rows.len() < limit;
                break;
            }
            Err(error) => {
                broken = Some(error);
                break;
            }
        }
    }
    // What is wrong with an entry before that one is the first that is wrong.
    let entries = chained(after, rows)?;
    match broken {
        Some(error) => Err(read_error(error, entries.last().map_or(after.revision, |last| last.position().revision))),
        None => Ok(Batch { entries, level: exhausted.then_some(Duration::ZERO) }),
    }
}

fn columns(row: &rusqlite::Row<'_>) -> rusqlite::Result<(u64, Vec<u8>, Vec<u8>)> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

/// What reading on after a revision came to: whether the file is damaged, or only out of reach.
fn read_error(error: rusqlite::Error, after: Revision) -> ReadError {
    use rusqlite::{Error, ErrorCode};
    let damaged = match &error {
        // A table or column that is not there any more, a value of another type.
        Error::SqlInputError { .. }
        | Error::InvalidColumnType(..)
        | Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::Utf8Error(..) => true,
        Error::SqliteFailure(failure, _) => matches!(
            failure.code,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::TypeMismatch | ErrorCode::Unknown
        ),
        _ => false,
    };
    if damaged {
        tracing::debug!(%error, %after, "the file of the journal is damaged");
        ReadError::Corrupt { revision: after.next(), damage: Damage::Storage }
    } else {
        ReadError::Unavailable(error.into())
    }
}

/// SQLite's own check of its pages: that each part of each is used once, and none is left over.
fn examine(db: &Connection) -> Result<(), ReadError> {
    let end = end(db).map_err(|error| read_error(error, Revision::START))?.revision;
    let check = db.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match check.map_err(|error| read_error(error, end))?.as_str() {
        "ok" => Ok(()),
        said => {
            tracing::debug!(said, "the file of the journal is damaged");
            Err(ReadError::Corrupt { revision: end.next(), damage: Damage::Storage })
        }
    }
}

#[async_trait]
impl Journal for SqliteJournal {
    async fn append(&self, expected: Position, payloads: Vec<Vec<u8>>) -> Result<Position, AppendError> {
        let (writer, end) = (Arc::clone(&self.writer), self.end.clone());
        let appending = tokio::task::spawn_blocking(move || {
            let appended = append(&mut guard(&writer), expected, &payloads)?;
            end.send_replace(appended.revision);
            Ok(appended)
        });
        appending.await.unwrap_or_else(|error| Err(AppendError::Indeterminate(error.into())))
    }
}

#[async_trait]
impl JournalReader for SqliteJournal {
    async fn read(&self, after: Position, limit: usize) -> Result<Batch, ReadError> {
        let reader = Arc::clone(&self.reader);
        let reading = tokio::task::spawn_blocking(move || read(&guard(&reader), after, limit));
        reading.await.unwrap_or_else(|error| Err(ReadError::Unavailable(error.into())))
    }

    async fn tail(&self) -> Result<Tail, ReadError> {
        let reader = Arc::clone(&self.reader);
        let reading = tokio::task::spawn_blocking(move || end(&guard(&reader)));
        match reading.await {
            Ok(end) => end.map(Tail::at).map_err(|error| read_error(error, Revision::START)),
            Err(error) => Err(ReadError::Unavailable(error.into())),
        }
    }

    async fn position(&self, revision: Revision) -> Result<Option<Position>, ReadError> {
        if revision == Revision::START {
            return Ok(Some(Position::START));
        }
        // No SQLite table has so many rows.
        let Ok(row) = i64::try_from(revision.get()) else { return Ok(None) };
        let reader = Arc::clone(&self.reader);
        let reading = tokio::task::spawn_blocking(move || {
            let known = "SELECT revision, hash FROM entries WHERE revision = ?1";
            let db = guard(&reader);
            let mut known = db.prepare_cached(known)?;
            known.query_row([row], |row| position(row.get(0)?, row.get(1)?)).optional()
        });
        match reading.await {
            Ok(found) => found.map_err(|error| read_error(error, Revision::START)),
            Err(error) => Err(ReadError::Unavailable(error.into())),
        }
    }

    async fn examine(&self) -> Result<(), ReadError> {
        let reader = Arc::clone(&self.reader);
        let examining = tokio::task::spawn_blocking(move || examine(&guard(&reader)));
        examining.await.unwrap_or_else(|error| Err(ReadError::Unavailable(error.into())))
    }

    async fn wait_for_append(&self, seen: Revision) {
        // The sender is this journal's own, so waiting cannot fail.
        let _ = self.end.subscribe().wait_for(|end| *end > seen).await;
    }
}
