//! `withheld journal verify`: the whole chain, and the checkpoints that were kept of it.

use serde_json::json;

use super::compare::{Against, compare};
use super::{CheckpointArgs, open};
use crate::audit::verify::{VerifyError, verify};
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::output::{Output, counted, progress};
use crate::config::JournalArgs;
use crate::domain::ids::Revision;
use crate::journal::{Hash, JournalName, JournalReader, Position, ReadError};
use crate::pb::v1 as pb;
use crate::record::decode;

pub(super) async fn here(
    args: &JournalArgs,
    kept: &CheckpointArgs,
    against: Option<&Against>,
    client: &Client,
    out: &mut Output,
) -> Result<(), CliError> {
    let checkpoints = kept.read()?;
    let journal = open(args).await?;
    let bar = progress(0, "verifying");
    let count = checkpoints.len();
    let end = verify(&*journal, checkpoints, |at, of| {
        bar.set_length(of.get());
        bar.set_position(at.get());
    });
    let end = end.await.map_err(|error| match error {
        // The cause alone does not say of which file.
        VerifyError::Journal(error @ ReadError::Unavailable(_)) => CliError::runtime(error).of(args),
        error => CliError::runtime(error),
    })?;
    bar.finish_and_clear();
    if end == Position::START {
        return Err(nothing_there(args));
    }
    readable(&*journal, end).await?;
    let name = journal.name().await.map_err(CliError::runtime)?;
    let live = match against {
        Some(against) => Some(compare(args, client, end, against).await?),
        None => None,
    };
    whole(name, end, count, live, out)
}

/// Nothing is not whole: the URL, the namespace or the file is another one than was meant.
pub(super) fn nothing_there(args: &JournalArgs) -> CliError {
    let at = match args.namespace() {
        Some(namespace) => format!("under `{namespace}` at `{args}`"),
        None => format!("in `{args}`"),
    };
    CliError::failed(format!("there is no journal {at}: nothing is committed there")).hint(match args.namespace() {
        Some(_) => "is it the right Redis, and --redis-namespace (WITHHELD_REDIS_NAMESPACE) the service's?",
        None => "is it the right file?",
    })
}

/// The last entry is one this program can read: a newer one's journal is told apart from a damaged one.
async fn readable(journal: &dyn JournalReader, end: Position) -> Result<(), CliError> {
    let before = journal.position(Revision::new(end.revision.get().saturating_sub(1))).await;
    let Some(before) = before.map_err(CliError::runtime)? else { return Ok(()) };
    for last in journal.read(before, 1).await.map_err(CliError::runtime)?.entries {
        decode(last.payload()).map_err(CliError::runtime)?;
    }
    Ok(())
}

/// Says that all is whole. `withheld journal accept` asks for the name; it is told where the journal itself was read.
fn whole(
    name: Option<JournalName>,
    end: Position,
    checkpoints: usize,
    live: Option<Revision>,
    out: &mut Output,
) -> Result<(), CliError> {
    let Position { revision, hash } = end;
    if out.is_json() {
        let (revision, hash) = (revision.to_string(), hash.to_string());
        let journal = name.map(|name| name.to_string());
        return out.json(&json!({
            "valid": true, "journal": journal, "revision": revision, "hash": hash, "checkpoints": checkpoints,
            "live_revision": live.map(|live| live.to_string())
        }));
    }
    let hold = match checkpoints {
        0 => String::new(),
        1 => "; 1 checkpoint holds".to_owned(),
        _ => format!("; {} hold", counted(checkpoints as u64, "checkpoint")),
    };
    let live = match live {
        Some(live) if live == revision => "; the live journal has the same".to_owned(),
        Some(live) => format!("; the live journal has them, too, and goes on to revision {live}"),
        None => String::new(),
    };
    let of = name.map_or_else(String::new, |name| format!(" of journal {name}"));
    out.line(format!("the chain{of} is whole: {revision} entries, the last has hash {hash}{hold}{live}"))
}

pub(super) async fn remote(client: &Client, out: &mut Output) -> Result<(), CliError> {
    let mut audit = client.audit().await?;
    let mut steps = audit.verify_journal(client.request(pb::VerifyJournalRequest {})).await?.into_inner();
    let bar = progress(0, "verifying");
    let result = loop {
        match steps.message().await?.and_then(|message| message.step) {
            Some(pb::verify_journal_response::Step::Progress(progress)) => {
                bar.set_length(progress.end_revision);
                bar.set_position(progress.revision);
            }
            Some(pb::verify_journal_response::Step::Result(result)) => break result,
            None => return Err(CliError::failed("the service did not say what it found")),
        }
    };
    bar.finish_and_clear();
    if let Some(bad) = result.first_bad {
        return Err(CliError::failed(format!("entry `{}` of the journal is damaged: {}", bad.revision, bad.what)));
    }
    if result.revision == 0 {
        return Err(CliError::failed("the service's journal has no entry: nothing is committed there"));
    }
    let hash = result.hash.try_into().map_err(|_| CliError::failed("the service answered with half a hash"))?;
    whole(None, Position { revision: Revision::new(result.revision), hash: Hash::from_bytes(hash) }, 0, None, out)
}
