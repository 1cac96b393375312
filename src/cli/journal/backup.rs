//! `withheld journal backup`: all that is committed, in one file, checked before it gets its name.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::open;
use super::verify::nothing_there;
use crate::cli::error::CliError;
use crate::cli::output::{Output, progress};
use crate::clock::{Clock, random_id};
use crate::config::JournalArgs;
use crate::journal::sqlite::{CopyWriter, SqliteJournal};
use crate::journal::{JournalName, JournalReader, Position, StoredEntry, verify, walk};

/// Tells one copy from another, and what is set aside now from what was before: when, and something at random.
pub(super) fn mark() -> String {
    let random: String = random_id().iter().take(3).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{random}", Clock::system().now().strftime("%Y%m%dT%H%M%SZ"))
}

pub(super) async fn run(args: &JournalArgs, file: &Path, out: &mut Output) -> Result<(), CliError> {
    let mark = mark();
    let target = if file.is_dir() { file.join(format!("journal-{mark}.db")) } else { file.to_owned() };
    if target.symlink_metadata().is_ok() {
        return Err(taken(&target));
    }
    let journal = open(args).await?;
    if journal.tail().await.map_err(|error| CliError::runtime(error).of(args))?.committed == Position::START {
        return Err(nothing_there(args));
    }
    let mut copy = CopyWriter::begin(&target, &mark).map_err(CliError::runtime)?;
    let end = fill(&mut copy, &*journal, "copying").await.map_err(|error| error.of(args))?;
    let name = check(&mut copy, end).await?;
    let target = copy.publish().map_err(|error| match target.exists() {
        true => taken(&target),
        false => CliError::runtime(error),
    })?;
    tell(name, end, &target, out)
}

fn taken(target: &Path) -> CliError {
    CliError::usage(format!("`{}` is there already, and nothing is written over: name another file", target.display()))
}

fn tell(name: JournalName, end: Position, target: &Path, out: &mut Output) -> Result<(), CliError> {
    let Position { revision, hash } = end;
    if out.is_json() {
        let (journal, revision, hash) = (name.to_string(), revision.to_string(), hash.to_string());
        return out.json(&json!({"file": target, "journal": journal, "revision": revision, "hash": hash}));
    }
    out.line(format!("`{}` has journal {name}: {revision} entries, the last has hash {hash}", target.display()))
}

/// Copies all that is committed, each entry's hash checked, and gives where that ends.
pub(super) async fn fill(
    copy: &mut CopyWriter,
    journal: &dyn JournalReader,
    doing: &'static str,
) -> Result<Position, CliError> {
    let bar = progress(0, doing);
    let mut written = Ok(());
    let end = walk(journal, |entries: &[StoredEntry], end| {
        if written.is_ok() {
            written = copy.add(entries);
        }
        if let Some(last) = entries.last() {
            bar.set_length(end.get());
            bar.set_position(last.position().revision.get());
        }
    });
    let end = end.await.map_err(CliError::runtime)?;
    bar.finish_and_clear();
    written.map_err(CliError::runtime)?;
    Ok(end)
}

/// Reads a copy as it is on the disk, and fails unless it is whole and ends where it should.
pub(super) async fn check(copy: &mut CopyWriter, end: Position) -> Result<JournalName, CliError> {
    let file: PathBuf = copy.sync().map_err(CliError::runtime)?.to_owned();
    let written = SqliteJournal::open_read_only(&file).map_err(CliError::runtime)?;
    let found = verify(&written, |_, _| {}).await.map_err(CliError::runtime)?;
    match written.name().await.map_err(CliError::runtime)? {
        Some(name) if found == end => Ok(name),
        Some(_) | None => Err(CliError::failed(format!(
            "the copy ends at revision {}, and {} entries were read: is the disk damaged?",
            found.revision, end.revision
        ))),
    }
}
