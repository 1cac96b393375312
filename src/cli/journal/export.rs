//! `withheld journal export`: the record as lines of JSON with the proofs.

use super::{CheckpointArgs, open};
use crate::audit::export::Exporter;
use crate::audit::log::Line;
use crate::cli::error::CliError;
use crate::cli::output::{Output, progress};
use crate::config::JournalArgs;
use crate::domain::ids::Revision;
use crate::journal::JournalReader;

/// Entries read at a time.
const PART: usize = 1_000;

pub(super) async fn run(
    args: &JournalArgs,
    after: u64,
    kept: &CheckpointArgs,
    out: &mut Output,
) -> Result<(), CliError> {
    let checkpoints = kept.read()?;
    let journal = open(args).await?;
    let mut written = Revision::new(after);
    let exported = entries(&*journal, &mut written, out).await;
    exported.map_err(|error| match error {
        CliError::Runtime { message, reason, fields, hint: None } if written.get() > after => {
            let hint = Some(format!("what was written is good: go on with --after {written} once it is mended"));
            CliError::Runtime { message, reason, fields, hint }
        }
        error => error,
    })?;
    for kept in checkpoints {
        out.bytes(Line { checkpoint: kept.note }.to_text().as_bytes())?;
    }
    Ok(())
}

async fn entries(journal: &dyn JournalReader, written: &mut Revision, out: &mut Output) -> Result<(), CliError> {
    let exporter = Exporter::new().map_err(CliError::runtime)?;
    let end = journal.tail().await.map_err(CliError::runtime)?.committed.revision;
    let Some(mut at) = journal.position(*written).await.map_err(CliError::runtime)? else {
        return Err(CliError::usage(format!("--after `{written}`: the journal ends at revision {end}")));
    };
    let bar = progress(end.get(), "exporting");
    while at.revision < end {
        // Up to where it ended when this began: it may be growing all the time.
        let left = usize::try_from(end.get() - at.revision.get()).unwrap_or(usize::MAX);
        let entries = journal.read(at, left.min(PART)).await.map_err(CliError::runtime)?.entries;
        let Some(last) = entries.last() else { break };
        for entry in &entries {
            out.bytes(exporter.line(entry).map_err(CliError::runtime)?.as_bytes())?;
            *written = entry.position().revision;
        }
        at = last.position();
        bar.set_position(at.revision.get());
    }
    bar.finish_and_clear();
    Ok(())
}
