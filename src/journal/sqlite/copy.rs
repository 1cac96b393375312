//! Copies of a journal as one file, and how such a file takes the place of a journal.
//!
//! A copy is written beside where it is to be, checked and synced there by whoever writes it, and gets its name only then: what
//! has the name is whole. Nothing that was there before is written over. Knows nothing of which journal was copied.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use super::{OpenError, create_tables, lock};
use crate::journal::{Position, StoredEntry};

/// Files that SQLite keeps beside a journal. They belong to that very file: beside another one they would damage it.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// A file beside another one, by what its name has more at its end.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(parent(path)).and_then(|directory| directory.sync_all())
}

/// A copy being written; removed if it is dropped before it has got its name.
#[derive(Debug)]
pub struct CopyWriter {
    db: Option<Connection>,
    file: PathBuf,
    target: PathBuf,
}

impl CopyWriter {
    /// Begins a copy that is to be at `target`, for its owner alone. `mark` is part of the name that it has until then.
    ///
    /// # Errors
    /// If a file cannot be made there.
    pub fn begin(target: &Path, mark: &str) -> Result<Self, OpenError> {
        let file = with_suffix(target, &format!(".new-{mark}"));
        let io = |source| OpenError::Write { path: file.clone(), source };
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file).map_err(io)?;
        let mut writer = Self { db: None, target: target.to_owned(), file };
        let db = Connection::open(&writer.file).map_err(|source| writer.sqlite(source))?;
        // Until it is whole it is nobody's, and it is synced once, at the end.
        db.pragma_update(None, "journal_mode", "OFF").map_err(|source| writer.sqlite(source))?;
        db.pragma_update(None, "synchronous", "OFF").map_err(|source| writer.sqlite(source))?;
        create_tables(&db).map_err(|source| writer.sqlite(source))?;
        db.execute_batch("BEGIN").map_err(|source| writer.sqlite(source))?;
        writer.db = Some(db);
        Ok(writer)
    }

    fn sqlite(&self, source: rusqlite::Error) -> OpenError {
        OpenError::Sqlite { path: self.file.clone(), source }
    }

    fn io(&self, source: io::Error) -> OpenError {
        OpenError::Write { path: self.file.clone(), source }
    }

    /// Adds entries, which come one after another.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn add(&mut self, entries: &[StoredEntry]) -> Result<(), OpenError> {
        let Some(db) = &self.db else { return Ok(()) };
        let mut insert = db
            .prepare_cached("INSERT INTO entries (revision, hash, payload) VALUES (?1, ?2, ?3)")
            .map_err(|source| self.sqlite(source))?;
        for entry in entries {
            let Position { revision, hash } = entry.position();
            let row = params![revision.get(), hash.as_bytes(), entry.payload()];
            insert.execute(row).map_err(|source| self.sqlite(source))?;
        }
        Ok(())
    }

    /// Writes the last of it to the disk. It does not have its name yet; this is the file to be checked.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn sync(&mut self) -> Result<&Path, OpenError> {
        if let Some(db) = self.db.take() {
            db.execute_batch("COMMIT").map_err(|source| self.sqlite(source))?;
            db.close().map_err(|(_, source)| self.sqlite(source))?;
        }
        File::open(&self.file).and_then(|file| file.sync_all()).map_err(|source| self.io(source))?;
        Ok(&self.file)
    }

    /// Gives it its name. Nothing that has the name is replaced.
    ///
    /// # Errors
    /// If something has the name.
    pub fn publish(self) -> Result<PathBuf, OpenError> {
        // A link, for a rename would write over what is there.
        let io = |source| OpenError::Write { path: self.target.clone(), source };
        fs::hard_link(&self.file, &self.target).map_err(io)?;
        sync_directory(&self.target).map_err(io)?;
        Ok(self.target.clone())
    }
}

impl Drop for CopyWriter {
    fn drop(&mut self) {
        drop(self.db.take());
        // It may have its name already, or never have been made.
        let _ = fs::remove_file(&self.file);
    }
}

/// A journal being replaced by a copy. It is locked meanwhile, so that no service can begin to write it.
#[derive(Debug)]
pub struct Replacement {
    path: PathBuf,
    mark: String,
    _lock: File,
    /// The copy, which takes the place at the end.
    pub copy: CopyWriter,
}

impl Replacement {
    /// Begins one; `mark` tells apart what is set aside now from what was before.
    ///
    /// # Errors
    /// If a process uses the journal, or nothing can be written beside it.
    pub fn begin(path: &Path, mark: &str) -> Result<Self, OpenError> {
        let locked = lock(path)?;
        let copy = CopyWriter::begin(path, mark)?;
        Ok(Self { path: path.to_owned(), mark: mark.to_owned(), _lock: locked, copy })
    }

    /// Sets aside what is there, and puts the copy in its place, with the owner and the mode that the journal had: else those of
    /// the directory's owner, and nobody else's to read. Gives what was set aside.
    ///
    /// Stopped in between, there is no journal, and a service that knows of one does not begin another: never one with the
    /// write-ahead log of another one beside it.
    ///
    /// # Errors
    /// If a file cannot be renamed, or given to its owner.
    pub fn finish(mut self) -> Result<Vec<PathBuf>, OpenError> {
        let fresh = self.copy.sync()?.to_owned();
        let io = |source| OpenError::Write { path: self.path.clone(), source };
        let before = fs::metadata(&self.path);
        let owner = before.as_ref().map(|file| (file.uid(), file.gid()));
        let owner =
            owner.or_else(|_| fs::metadata(parent(&self.path)).map(|dir| (dir.uid(), dir.gid()))).map_err(io)?;
        let mode = before.map_or(0o600, |file| file.permissions().mode() & 0o777);
        for file in [&fresh, &with_suffix(&self.path, ".lock")] {
            give(file, owner)?;
        }
        fs::set_permissions(&fresh, fs::Permissions::from_mode(mode)).map_err(io)?;
        let aside = with_suffix(&self.path, &format!(".before-{}", self.mark));
        let mut set_aside = Vec::new();
        // SQLite finds the log of a file by the file's name, also where that is set aside.
        for suffix in [""].into_iter().chain(COMPANIONS) {
            let (from, to) = (with_suffix(&self.path, suffix), with_suffix(&aside, suffix));
            match fs::rename(&from, &to) {
                Ok(()) => set_aside.push(to),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(OpenError::Write { path: from, source }),
            }
        }
        sync_directory(&self.path).map_err(io)?;
        self.copy.publish()?;
        Ok(set_aside)
    }
}

/// Gives a file to an owner, if it is not theirs.
fn give(file: &Path, (user, group): (u32, u32)) -> Result<(), OpenError> {
    let is = fs::metadata(file).map_err(|source| OpenError::Write { path: file.to_owned(), source })?;
    if (is.uid(), is.gid()) == (user, group) {
        return Ok(());
    }
    chown(file, Some(user), Some(group)).map_err(|source| OpenError::Owner { path: file.to_owned(), user, source })
}
