//! `withheld journal seal` and `unseal`: histories of a journal on Redis that have diverged.

use serde_json::json;

use super::{redis, redis_reader};
use crate::cli::error::CliError;
use crate::cli::output::{Output, confirm, say};
use crate::config::JournalArgs;

pub(super) async fn show(journal: &JournalArgs, out: &mut Output) -> Result<(), CliError> {
    let why = redis_reader(journal).await?.seal().await.map_err(CliError::runtime)?;
    if out.is_json() {
        return out.json(&json!({"sealed": why.is_some(), "why": why}));
    }
    out.line(why.unwrap_or_else(|| "the journal is not sealed: entries are appended".to_owned()))
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
