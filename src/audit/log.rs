//! The file of checkpoints: a line of JSON each, `{"checkpoint":"…the signed note…"}`, only ever added to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::note::{Note, VerifierKey};
use crate::journal::Position;

/// More than a line with a hundred signatures.
const LINE: u64 = 64 << 10;

/// A line of the file, and of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The signed note.
    pub checkpoint: String,
}

impl Line {
    /// As it is written, with its end.
    #[must_use]
    pub fn to_text(&self) -> String {
        // A text is always JSON.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Not in its form.
    #[error(r#"it is no line {{"checkpoint":"…"}}"#)]
    Malformed,
    /// The note in it.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// Why a file of checkpoints cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file system says no.
    #[error("the checkpoints `{path}` cannot be {doing}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Read or written.
        doing: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A line is no checkpoint.
    #[error("`{path}`, line {line}: {why}")]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// Why.
        why: LineError,
    },
    /// There is nothing in it.
    #[error("`{0}` has no checkpoint in it")]
    Empty(PathBuf),
}

/// Where the service leaves its checkpoints.
#[derive(Debug, Clone)]
pub struct CheckpointLog(PathBuf);

impl CheckpointLog {
    /// In this file.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Adds a checkpoint, durably. A line that a crash left in part was acknowledged to nobody, and is taken away.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn append(&self, note: &str) -> Result<(), LogError> {
        let io = |source| LogError::Io { path: self.0.clone(), doing: "written", source };
        let parent = self.0.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(io)?;
        let mut options = OpenOptions::new();
        let mut file =
            options.create(true).truncate(false).read(true).write(true).mode(0o600).open(&self.0).map_err(io)?;
        let (_, whole) = last_line(&mut file).map_err(io)?;
        file.set_len(whole).map_err(io)?;
        file.seek(SeekFrom::Start(whole)).map_err(io)?;
        file.write_all(Line { checkpoint: note.to_owned() }.to_text().as_bytes()).map_err(io)?;
        file.sync_all().map_err(io)?;
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(io)
    }

    /// The last one, by a trusted key.
    ///
    /// # Errors
    /// If it cannot be read, or is none.
    pub fn last(&self, trusted: &[VerifierKey]) -> Result<Option<Checkpoint>, LogError> {
        let io = |source| LogError::Io { path: self.0.clone(), doing: "read", source };
        let line = match File::open(&self.0) {
            Ok(mut file) => last_line(&mut file).map_err(io)?.0,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io(error)),
        };
        let Some(line) = line else { return Ok(None) };
        let opened = note_of(&line).and_then(|note| Ok(Checkpoint::open(&note, trusted)?));
        opened.map(Some).map_err(|why| LogError::Line {
            path: self.0.clone(),
            line: fs::read(&self.0).map_or(0, |all| all.split_inclusive(|byte| *byte == b'\n').count()),
            why,
        })
    }
}

/// What the last checkpoint of a file says, whoever signed it: enough to notice that the journal is another one, not to
/// prove what it was. A line that is no checkpoint says nothing.
///
/// # Errors
/// If the file is there and cannot be read.
pub fn last_position(path: &Path) -> io::Result<Option<Position>> {
    let line = match File::open(path) {
        Ok(mut file) => last_line(&mut file)?.0,
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let note = line.and_then(|line| note_of(&line).ok()).and_then(|note| note.parse::<Note>().ok());
    Ok(note.and_then(|note| note.text().parse::<Checkpoint>().ok()).map(|checkpoint| checkpoint.position))
}

/// The last whole line, and where it ends.
fn last_line(file: &mut File) -> io::Result<(Option<String>, u64)> {
    let length = file.metadata()?.len();
    let from = length.saturating_sub(2 * LINE);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(2 * LINE).read_to_end(&mut bytes)?;
    let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else { return Ok((None, 0)) };
    let line = bytes.get(..end).unwrap_or_default().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok((Some(String::from_utf8_lossy(line).into_owned()), from + end as u64 + 1))
}

fn note_of(line: &str) -> Result<String, LineError> {
    let line: Line = serde_json::from_str(line).map_err(|_| LineError::Malformed)?;
    Ok(line.checkpoint)
}

/// A checkpoint that somebody kept, and where it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// As it is signed.
    pub note: String,
    /// What it says.
    pub checkpoint: Checkpoint,
    /// The file and line.
    pub from: String,
}

/// The checkpoints of a file, which is either lines as the service writes them, or one signed note; each by a trusted key.
///
/// # Errors
/// If the file cannot be read, or has something else in it: the first line that has is named.
pub fn read(path: &Path, trusted: &[VerifierKey]) -> Result<Vec<Kept>, LogError> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|source| LogError::Io { path: path.to_owned(), doing: "read", source })?;
    let open = |note: String, line: usize| {
        let checkpoint = Checkpoint::open(&note, trusted);
        let bad = |why| LogError::Line { path: path.to_owned(), line, why: LineError::Checkpoint(why) };
        let from = format!("`{}`, line {line}", path.display());
        checkpoint.map_err(bad).map(|checkpoint| Kept { note, checkpoint, from })
    };
    if text.is_empty() {
        return Err(LogError::Empty(path.to_owned()));
    }
    if !text.starts_with('{') {
        return open(text, 1).map(|kept| vec![kept]);
    }
    let lines = (1..).zip(text.lines());
    let note = |(line, text)| match note_of(text) {
        Ok(note) => open(note, line),
        Err(why) => Err(LogError::Line { path: path.to_owned(), line, why }),
    };
    lines.map(note).collect()
}
