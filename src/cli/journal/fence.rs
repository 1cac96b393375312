//! `withheld journal fence` and `unfence`: histories of a journal on Redis that have diverged.

use serde_json::json;

use super::redis;
use crate::cli::error::CliError;
use crate::cli::output::{Output, confirm, say};
use crate::config::JournalArgs;

pub(super) async fn show(journal: &JournalArgs, out: &mut Output) -> Result<(), CliError> {
    let why = redis(journal).await?.fence().await.map_err(CliError::runtime)?;
    if out.is_json() {
        return out.json(&json!({"fenced": why.is_some(), "why": why}));
    }
    out.line(why.unwrap_or_else(|| "the journal is not fenced: entries are appended".to_owned()))
}

pub(super) async fn lift(journal: &JournalArgs, yes: bool, out: &mut Output) -> Result<(), CliError> {
    let redis = redis(journal).await?;
    let Some(why) = redis.fence().await.map_err(CliError::runtime)? else {
        return Err(CliError::failed("the journal is not fenced"));
    };
    say(&why);
    say("The history that the journal has now will be the one that holds. Replicas that followed the other one say");
    say("so in their log: restart them, and apply again what is missing.");
    if !confirm("Append to it again?", yes)? {
        say("nothing was changed");
        return Ok(());
    }
    redis.lift_fence().await.map_err(CliError::runtime)?;
    if out.is_json() {
        return out.json(&json!({"fenced": false}));
    }
    out.line("entries are appended again")
}
