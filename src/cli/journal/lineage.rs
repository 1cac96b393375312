//! `withheld journal accept`: a person says, by name, that the journal found is the one to follow.

use serde_json::json;

use super::{open, redis};
use crate::cli::error::CliError;
use crate::cli::output::{Output, say};
use crate::clock::Clock;
use crate::config::{EvidenceArgs, JournalArgs, JournalUrl};
use crate::journal::sqlite::SqliteJournal;
use crate::journal::{JournalName, Position};
use crate::replica::lineage::{Foreign, Lineage, verify_lineage};

/// What stands for "there is none".
const NONE: &str = "none";

pub(super) async fn accept(
    args: &JournalArgs,
    evidence: &EvidenceArgs,
    known: Option<&str>,
    found: Option<&str>,
    out: &mut Output,
) -> Result<(), CliError> {
    let lineage = evidence.lineage(args);
    match foreign(args, &lineage).await? {
        Some(foreign) => accept_history(&lineage, &foreign, known, found, out),
        None if matches!(args.journal, JournalUrl::Redis(_)) => accept_primary(args, known, found, out).await,
        None => Err(CliError::failed("the journal is the one that is known here: there is nothing to accept")),
    }
}

/// What is known and not so.
async fn foreign(args: &JournalArgs, lineage: &Lineage) -> Result<Option<Foreign>, CliError> {
    let known = lineage.known().map_err(CliError::runtime)?;
    let missing = matches!(&args.journal, JournalUrl::Sqlite(path) if !SqliteJournal::has_content(path));
    if missing {
        return Ok(known.into_iter().next().map(|known| Foreign { known, found: None }));
    }
    let journal = open(args).await?;
    verify_lineage(&known, &*journal).await.map_err(CliError::runtime)
}

/// Names the two, and does nothing unless both were named.
fn named(wanted: [(&str, String, Option<&str>); 2]) -> Result<(), CliError> {
    if wanted.iter().all(|(_, name, said)| *said == Some(name.as_str())) {
        return Ok(());
    }
    let wrong =
        wanted.iter().find_map(|(flag, name, said)| Some((flag, name, (*said)?)).filter(|(.., said)| said != name));
    let flags: Vec<String> = wanted.iter().map(|(flag, name, _)| format!("--{flag} {name}")).collect();
    let flags = flags.join(" ");
    Err(match wrong {
        Some((flag, name, said)) => {
            CliError::failed(format!("--{flag} is `{said}`, and it is `{name}`: if that is meant, say {flags}"))
        }
        None => CliError::failed(format!("nothing was changed: if that is what is to hold, say it by name: {flags}")),
    })
}

fn name_of(found: Option<(JournalName, Position)>) -> String {
    found.map_or_else(|| NONE.to_owned(), |(name, _)| name.to_string())
}

fn accept_history(
    lineage: &Lineage,
    foreign: &Foreign,
    known: Option<&str>,
    found: Option<&str>,
    out: &mut Output,
) -> Result<(), CliError> {
    say(foreign);
    let gives_up = foreign.known.name.map_or_else(|| NONE.to_owned(), |name| name.to_string());
    named([("known", gives_up.clone(), known), ("found", name_of(foreign.found), found)])?;
    let mark = Clock::system().now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let aside = lineage.set_aside(&mark).map_err(CliError::runtime)?;
    if let Some((name, at)) = foreign.found {
        lineage.keep(name, at).map_err(CliError::runtime)?;
    }
    if out.is_json() {
        return out.json(&json!({"given_up": gives_up, "found": name_of(foreign.found), "set_aside": aside}));
    }
    for path in aside {
        say(format!("what was known is kept as `{}`", path.display()));
    }
    out.line(match foreign.found {
        Some((name, at)) => format!("journal {name} is followed from now on, at revision {}", at.revision),
        None => "a new journal may begin here: the next start, or `withheld journal create`, makes it".to_owned(),
    })
}

async fn accept_primary(
    args: &JournalArgs,
    known: Option<&str>,
    found: Option<&str>,
    out: &mut Output,
) -> Result<(), CliError> {
    use crate::journal::JournalReader as _;
    let journal = redis(args).await?;
    let Some(doubt) = journal.doubt().await.map_err(CliError::runtime)? else {
        return Err(CliError::failed(
            "the journal is the one that is known here, and not in doubt: there is nothing to accept",
        ));
    };
    say(doubt);
    let name =
        journal.name().await.map_err(CliError::runtime)?.map_or_else(|| NONE.to_owned(), |name| name.to_string());
    let tail = journal.tail().await.map_err(CliError::runtime)?;
    say(format!("the primary has journal {name} up to revision {}", tail.end.revision));
    named([("known", NONE.to_owned(), known), ("found", name.clone(), found)])?;
    journal.accept().await.map_err(CliError::runtime)?;
    if out.is_json() {
        return out.json(&json!({"found": name, "revision": tail.end.revision.get()}));
    }
    out.line(format!("what the primary has is what counts: journal {name} up to revision {}", tail.end.revision))
}
