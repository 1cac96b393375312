//! `withheld journal seal` and `unseal`: histories of a journal on Redis that have diverged.

use serde_json::json;

use super::{redis, redis_reader};
use crate::cli::error::CliError;
use crate::cli::output::{Output, confirm, say};
use crate::config::{EvidenceArgs, JournalArgs};
use crate::journal::{FIRST_RULE, JournalReader as _};
use crate::replica::lineage::verify_lineage;

/// A seal is a key in Redis. That there is none says nothing of the replicas: one that has followed what the journal lacks writes
/// nothing, and need not have been able to seal it.
pub(super) async fn show(args: &JournalArgs, evidence: &EvidenceArgs, out: &mut Output) -> Result<(), CliError> {
    let reader = redis_reader(args).await?;
    let why = reader.seal().await.map_err(CliError::runtime)?;
    let end = reader.tail().await.map_err(CliError::runtime)?.committed.revision;
    let known = evidence.lineage(args).known().map_err(CliError::runtime)?;
    let foreign = verify_lineage(&known, &reader).await.map_err(CliError::runtime)?.map(|foreign| foreign.to_string());
    if out.is_json() {
        let revision = end.to_string();
        return out.json(&json!({"sealed": why.is_some(), "why": why, "revision": revision, "known": foreign}));
    }
    out.line(why.map_or_else(
        || {
            format!(
                "the journal is not sealed: no replica has put a seal into Redis; it is committed up to revision {end}. A replica \
                 with a higher `withheld_revision` follows it no further all the same: {FIRST_RULE}"
            )
        },
        |why| format!("the journal is sealed: {why}; it is committed up to revision {end}"),
    ))?;
    match foreign {
        Some(foreign) => out.line(foreign),
        None => Ok(()),
    }
}

pub(super) async fn lift(journal: &JournalArgs, yes: bool, out: &mut Output) -> Result<(), CliError> {
    let redis = redis(journal).await?;
    let Some(why) = redis.reader().seal().await.map_err(CliError::runtime)? else {
        return Err(CliError::failed("the journal is not sealed"));
    };
    say(&why);
    say(
        "The history that the journal has now will be the one that holds. A replica that followed the other one may be the",
    );
    say(
        "last that has what was lost: export that before anything else (`withheld journal export`). It seals the journal again",
    );
    say(
        "for as long as it runs: stop it, say this, start it with `withheld journal accept`, and apply again what is missing.",
    );
    if !confirm("Append to it again?", yes)? {
        say("nothing was changed");
        return Ok(());
    }
    redis.lift_seal().await.map_err(CliError::runtime)?;
    if out.is_json() {
        return out.json(&json!({"sealed": false}));
    }
    out.line("entries are appended again")
}
