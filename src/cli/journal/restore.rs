//! `withheld journal restore`: a copy takes the place of a journal that nothing uses, and what was there is kept aside.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::backup::{check, fill, mark};
use super::{LINK, redis};
use crate::cli::error::CliError;
use crate::cli::output::{Output, progress, say};
use crate::clock::Clock;
use crate::config::{EvidenceArgs, JournalArgs, JournalUrl};
use crate::journal::redis::RedisJournal;
use crate::journal::sqlite::{Replacement, SqliteJournal};
use crate::journal::{
    AppendError, FIRST_RULE, Journal as _, JournalName, JournalReader, Position, StoredEntry, verify,
};

use crate::replica::lineage::verify_lineage;

/// How soon it is tried again where servers have only just found each other.
const AGAIN: Duration = Duration::from_millis(200);
/// Entries read at a time, and the most bytes that are appended at once.
const PART: usize = 1_000;
const APPEND_BYTES: usize = 1 << 20;

/// A copy that was checked.
struct Checked {
    journal: SqliteJournal,
    name: JournalName,
    end: Position,
}

pub(super) async fn run(
    args: &JournalArgs,
    evidence: &EvidenceArgs,
    file: &Path,
    set_aside: bool,
    servers: Option<u8>,
    out: &mut Output,
) -> Result<(), CliError> {
    let copy = checked(file).await?;
    let aside = match &args.journal {
        JournalUrl::Memory => return Err(CliError::usage("a journal in memory ends with its process: name a file")),
        JournalUrl::Sqlite(path) => over_file(path, &copy).await?,
        JournalUrl::Redis(_) => into_redis(args, &copy, set_aside, servers).await?,
    };
    let next = next_step(args, evidence, &copy).await?;
    let Checked { name, end, .. } = copy;
    if out.is_json() {
        let (journal, revision, hash) = (name.to_string(), end.revision.to_string(), end.hash.to_string());
        return out.json(&json!({
            "journal": journal, "revision": revision, "hash": hash, "set_aside": aside, "accept": next
        }));
    }
    for kept in aside {
        say(format!("what was there is kept as `{kept}`"));
    }
    out.line(format!(
        "`{args}` has journal {name} from the copy: {} entries, the last has hash {}",
        end.revision, end.hash
    ))?;
    match next {
        Some(next) => out.line(next),
        None => Ok(()),
    }
}

/// A copy is checked as a whole before anything is touched.
async fn checked(file: &Path) -> Result<Checked, CliError> {
    if !file.exists() {
        return Err(CliError::usage(format!("there is no copy `{}`", file.display())));
    }
    let journal = SqliteJournal::open_read_only(file).map_err(CliError::runtime)?;
    let bar = progress(0, "checking the copy");
    let end = verify(&journal, |at, of| {
        bar.set_length(of.get());
        bar.set_position(at.get());
    });
    let end = end.await.map_err(|error| CliError::runtime(error).of(file.display()))?;
    bar.finish_and_clear();
    match journal.name().await.map_err(CliError::runtime)? {
        Some(name) => Ok(Checked { journal, name, end }),
        None => {
            Err(CliError::failed(format!("there is no entry in the copy `{}`: nothing was changed", file.display())))
        }
    }
}

async fn over_file(path: &Path, copy: &Checked) -> Result<Vec<String>, CliError> {
    let mut replacement = Replacement::begin(path, &mark()).map_err(|error| {
        CliError::runtime(error).hint("nothing was changed: stop the service that uses it, then restore again")
    })?;
    let end = fill(&mut replacement.copy, &copy.journal, "restoring").await?;
    if end != copy.end {
        return Err(CliError::failed("the copy has changed while it was read: nothing was restored"));
    }
    check(&mut replacement.copy, end).await?;
    let aside: Vec<PathBuf> = replacement.finish().map_err(CliError::runtime)?;
    Ok(aside.iter().map(|path| path.display().to_string()).collect())
}

async fn into_redis(
    args: &JournalArgs,
    copy: &Checked,
    set_aside: bool,
    servers: Option<u8>,
) -> Result<Vec<String>, CliError> {
    let journal = redis(args).await?;
    let tail = journal.tail().await.map_err(CliError::runtime)?;
    let sealed = journal.reader().seal().await.map_err(CliError::runtime)?.is_some();
    let is_empty = tail.end == Position::START && tail.committed == Position::START && !sealed;
    let aside = match (is_empty, set_aside) {
        (true, _) => Vec::new(),
        (false, false) => return Err(not_empty(args, &journal, tail.end).await),
        (false, true) => {
            let aside = journal.set_aside(&mark()).await;
            aside.map_err(|error| {
                CliError::runtime(error).hint(
                    "nothing was changed. It takes a user who may call RENAMENX, such as `keeper` of deploy/redis/users.acl: \
                     WITHHELD_REDIS_USER and WITHHELD_REDIS_PASSWORD",
                )
            })?
        }
    };
    // A session knows what was there when it began.
    drop(journal);
    let journal = redis(args).await?;
    if let Some(servers) = servers {
        journal.configure(Some(servers), None).await.map_err(CliError::runtime)?;
    }
    append_all(&journal, copy).await?;
    let end = verify(&journal, |_, _| {}).await.map_err(|error| CliError::runtime(error).of(args))?;
    if end == copy.end {
        return Ok(aside);
    }
    Err(somebody_else(end))
}

async fn not_empty(args: &JournalArgs, journal: &RedisJournal, end: Position) -> CliError {
    let name = journal.name().await.ok().flatten();
    let name = name.map_or_else(|| "an unknown journal".to_owned(), |name| format!("journal {name}"));
    CliError::failed(format!(
        "there is a journal under `{}` at `{args}` already, {name} up to revision {}: nothing was changed",
        args.namespace().unwrap_or_default(),
        end.revision
    ))
    .hint(format!(
        "{FIRST_RULE}. Take a copy of what is there (`withheld journal backup`), stop every replica of the service, then say \
         `withheld journal restore --set-aside`, which renames its keys"
    ))
}

fn somebody_else(end: Position) -> CliError {
    CliError::failed(format!(
        "somebody else appends to this journal, which is at revision {} now: the copy is not what it has",
        end.revision
    ))
    .hint("a replica that followed later entries puts them back: stop every one, then restore again with --set-aside")
}

/// Appends all of a copy, in groups.
async fn append_all(journal: &RedisJournal, copy: &Checked) -> Result<(), CliError> {
    let bar = progress(copy.end.revision.get(), "restoring");
    let mut at = Position::START;
    while at != copy.end {
        let entries = copy.journal.read(at, PART).await.map_err(CliError::runtime)?.entries;
        let mut rest = entries.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|entry| {
                let fits = bytes < APPEND_BYTES;
                bytes += entry.payload().len();
                fits
            });
            let (group, others) = rest.split_at(fits.count());
            at = append(journal, at, group).await?;
            rest = others;
            bar.set_position(at.revision.get());
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// Appends a group and returns once it is committed. Servers that were just started take a moment until they know each other.
async fn append(journal: &RedisJournal, at: Position, group: &[StoredEntry]) -> Result<Position, CliError> {
    let end = group.last().map_or(at, StoredEntry::position);
    let payloads: Vec<Vec<u8>> = group.iter().map(|entry| entry.payload().to_vec()).collect();
    let began = Clock::system();
    loop {
        match journal.append(at, payloads.clone()).await {
            Ok(_) => return Ok(end),
            // No answer had come, and it was written; what comes next waits until it is committed.
            Err(AppendError::Conflict { actual }) if actual == end => {
                let committed = journal.tail().await.map_err(CliError::runtime)?.committed;
                if committed == end {
                    return Ok(end);
                }
                if began.monotonic() > LINK {
                    return Err(CliError::failed(format!("the entries up to {} are not committed", end.revision)));
                }
            }
            Err(AppendError::Conflict { actual }) => return Err(somebody_else(actual)),
            Err(error @ (AppendError::ClockOff(_) | AppendError::Sealed(_))) => return Err(CliError::runtime(error)),
            Err(error) if began.monotonic() > LINK => return Err(CliError::runtime(error)),
            Err(_) => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// What has to be said to the service on this machine, if it knows what the copy does not have.
async fn next_step(args: &JournalArgs, evidence: &EvidenceArgs, copy: &Checked) -> Result<Option<String>, CliError> {
    let known = evidence.lineage(args).known().map_err(CliError::runtime)?;
    let foreign = verify_lineage(&known, &copy.journal).await.map_err(CliError::runtime)?;
    Ok(foreign.map(|foreign| {
        format!(
            "the service on this machine knows {}: what the copy does not have of that is given up once you say `withheld journal \
             accept`, which says what names to give it; look first who else has it",
            foreign.known
        )
    }))
}
