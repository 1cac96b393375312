//! What a service knows from before about its journal, held against the journal that it finds.
//!
//! **One-history**: a journal that was emptied, replaced by another or cut short looks like any other to who has never seen
//! it, and says that nobody is withheld. Beside a journal there is evidence of what it was: the history file, which this
//! module keeps, the snapshot, the checkpoints. Each names a place in a history. A journal that does not have one of these
//! places is not followed until a person has said, by name, that it is to be.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::domain::ids::Revision;
use crate::journal::{FIRST_RULE, JournalName, JournalReader, Position, ReadError};
use crate::record::snapshot::SnapshotFile;

/// The file that says which history a service has followed, and how far.
#[derive(Debug, Clone)]
pub struct HistoryFile(PathBuf);

/// Its contents.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    name: String,
    revision: u64,
    hash: String,
}

const HEAD: &str = "# Which journal this service has followed, and how far: kept by the service, so that it notices if the\n\
                    # journal is lost or replaced. `withheld journal accept` changes it.\n";

/// Why evidence cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LineageError {
    /// A file cannot be read or written.
    #[error("`{path}`, which tells what this service has followed, cannot be {doing}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Read or written.
        doing: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It is not what was written.
    #[error(
        "the history file `{0}` is damaged: look which journal this service had, and take the file away once that is clear"
    )]
    Damaged(PathBuf),
}

impl HistoryFile {
    /// A history file at this place.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// What it says; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read, or is damaged.
    pub fn read(&self) -> Result<Option<(JournalName, Position)>, LineageError> {
        let text = match fs::read_to_string(&self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LineageError::Io { path: self.0.clone(), doing: "read", source }),
        };
        let parsed = || {
            let contents: Contents = toml::from_str(&text).ok()?;
            let position = Position { revision: Revision::new(contents.revision), hash: contents.hash.parse().ok()? };
            Some((contents.name.parse().ok()?, position))
        };
        parsed().map(Some).ok_or_else(|| LineageError::Damaged(self.0.clone()))
    }

    /// Replaces what it says, durably: there is always one that is whole.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, name: JournalName, at: Position) -> Result<(), LineageError> {
        let io = |source| LineageError::Io { path: self.0.clone(), doing: "written", source };
        let parent = self.0.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(io)?;
        let contents = Contents { name: name.to_string(), revision: at.revision.get(), hash: at.hash.to_string() };
        let text = toml::to_string(&contents).map_err(|error| io(io::Error::other(error)))?;
        let fresh = self.0.with_extension("history.new");
        let mut file = OpenOptions::new();
        let mut file = file.write(true).create(true).truncate(true).mode(0o600).open(&fresh).map_err(io)?;
        file.write_all(HEAD.as_bytes()).and_then(|()| file.write_all(text.as_bytes())).map_err(io)?;
        file.sync_all().map_err(io)?;
        fs::rename(&fresh, &self.0).map_err(io)?;
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(io)
    }
}

/// A place in a history that this service knows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The journal's name, where that is told.
    pub name: Option<JournalName>,
    /// The place.
    pub position: Position,
    /// What tells of it.
    pub evidence: PathBuf,
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => write!(f, "journal {name}")?,
            None => f.write_str("a journal without a name")?,
        }
        write!(f, ", followed to revision {} (by `{}`)", self.position.revision, self.evidence.display())
    }
}

/// A journal that is not the one that is known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// What is known.
    pub known: Known,
    /// What the journal found is called, and where it is committed; `None` if it has no entry.
    pub found: Option<(JournalName, Position)>,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let went_back = self.found.is_none_or(|(_, end)| end.revision < self.known.position.revision);
        if went_back {
            f.write_str("revision went back: ")?;
        }
        write!(f, "this service knows {}, and ", self.known)?;
        match self.found {
            None => f.write_str("finds a journal without any entry")?,
            Some((name, end)) if self.known.name == Some(name) => {
                write!(f, "finds only the beginning of it, or another end: its last revision is {}", end.revision)?;
            }
            Some((name, end)) => write!(f, "finds journal {name} at revision {}", end.revision)?,
        }
        f.write_str(
            ": it does not follow that until a person says so. If entries were lost, restore them; if this is the journal \
             that is to hold, say `withheld journal accept`, which names both",
        )?;
        if went_back { write!(f, "; first of all: {FIRST_RULE}") } else { Ok(()) }
    }
}

/// Evidence that others keep: a file, and how to read the last place in a history that it names.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The file.
    pub path: PathBuf,
    /// Reads it; a file that is not there names none.
    pub last_position: fn(&Path) -> io::Result<Option<Position>>,
}

/// What is known of a journal from before, and where that is kept.
#[derive(Debug, Clone, Default)]
pub struct Lineage {
    history: Option<HistoryFile>,
    snapshot: Option<SnapshotFile>,
    checkpoints: Option<Evidence>,
    /// Whether a journal without any entry is one to be made by a person first.
    must_exist: bool,
}

impl Lineage {
    /// By these files, as far as they are there.
    #[must_use]
    pub const fn of(
        history: Option<HistoryFile>,
        snapshot: Option<SnapshotFile>,
        checkpoints: Option<Evidence>,
    ) -> Self {
        Self { history, snapshot, checkpoints, must_exist: false }
    }

    /// The same for a journal that a person makes, once: without an entry there is none.
    #[must_use]
    pub fn of_existing(self) -> Self {
        Self { must_exist: true, ..self }
    }

    /// Whether a journal without any entry is none.
    #[must_use]
    pub const fn must_exist(&self) -> bool {
        self.must_exist
    }

    /// All that is known.
    ///
    /// # Errors
    /// If evidence is there and cannot be read.
    pub fn known(&self) -> Result<Vec<Known>, LineageError> {
        let mut known = Vec::new();
        if let Some(file) = &self.history
            && let Some((name, position)) = file.read()?
        {
            known.push(Known { name: Some(name), position, evidence: file.0.clone() });
        }
        // One that is damaged is told when it is to be used.
        if let Some(file) = &self.snapshot
            && let Ok(Some((name, position))) = file.lineage()
        {
            known.push(Known { name, position, evidence: file.path().to_owned() });
        }
        if let Some(Evidence { path, last_position }) = &self.checkpoints {
            let io = |source| LineageError::Io { path: path.clone(), doing: "read", source };
            let last = last_position(path).map_err(io)?;
            known.extend(last.map(|position| Known { name: None, position, evidence: path.clone() }));
        }
        known.retain(|one| one.position.revision > Revision::START);
        Ok(known)
    }

    /// Keeps how far the journal has been followed.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn keep(&self, name: JournalName, at: Position) -> Result<(), LineageError> {
        match &self.history {
            Some(file) => file.write(name, at),
            None => Ok(()),
        }
    }

    /// Sets aside what is known, under names of its own, for who wants to look at it later; gives the new names.
    ///
    /// # Errors
    /// If a file cannot be renamed.
    pub fn set_aside(&self, mark: &str) -> Result<Vec<PathBuf>, LineageError> {
        let files = [
            self.history.as_ref().map(|file| file.0.as_path()),
            self.snapshot.as_ref().map(SnapshotFile::path),
            self.checkpoints.as_ref().map(|evidence| evidence.path.as_path()),
        ];
        let mut renamed = Vec::new();
        for path in files.into_iter().flatten().filter(|path| path.exists()) {
            let mut aside = path.as_os_str().to_owned();
            aside.push(format!(".before-{mark}"));
            let aside = PathBuf::from(aside);
            let renaming = fs::rename(path, &aside);
            renaming.map_err(|source| LineageError::Io { path: path.to_owned(), doing: "set aside", source })?;
            renamed.push(aside);
        }
        Ok(renamed)
    }
}

/// Holds what is known against a journal.
///
/// # Errors
/// If the journal cannot be read now.
pub async fn verify_lineage(known: &[Known], journal: &dyn JournalReader) -> Result<Option<Foreign>, ReadError> {
    for one in known {
        let there = journal.position(one.position.revision).await?;
        if there == Some(one.position) {
            continue;
        }
        let found = match journal.name().await? {
            Some(name) => Some((name, journal.tail().await?.committed)),
            None => None,
        };
        return Ok(Some(Foreign { known: one.clone(), found }));
    }
    Ok(None)
}
