//! `withheld token`: bearer tokens, in the file that the access file names. The service sees a change within seconds.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan as _, ZonedDateTime};
use serde_json::json;

use super::error::CliError;
use super::output::{Output, counted, say};
use crate::access::{AccessFile, StoredToken, TokenFile};
use crate::clock::Clock;
use crate::config::settings::nearest;
use crate::telemetry::causes;

/// A token that lives longer is one that nobody remembers.
const LONGEST_DAYS: i64 = 366;

/// See the module.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token, and print it: it is nowhere to be read again
    Create {
        /// Whose it is: a name in the access file
        name: String,
        /// How long it holds, like 90d or 12h
        #[arg(long, default_value = "90d", value_name = "DURATION")]
        expires: Span,
        #[command(flatten)]
        file: TokenArgs,
    },
    /// Print the tokens there are, not the secrets
    List {
        #[command(flatten)]
        file: TokenArgs,
    },
    /// End a token
    Revoke {
        /// Its id, as `withheld token list` shows it
        id: String,
        #[command(flatten)]
        file: TokenArgs,
    },
}

/// Where the tokens are.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// The access file of the service, which names the file of tokens
    #[arg(long, env = "WITHHELD_ACCESS", value_name = "FILE")]
    access: PathBuf,
}

impl TokenArgs {
    fn read(&self) -> Result<(AccessFile, PathBuf), CliError> {
        let access = AccessFile::read(&self.access).map_err(CliError::runtime)?;
        let Some(path) = access.tokens_file().map(Path::to_owned) else {
            let path = self.access.display();
            return Err(CliError::failed(format!(
                "`{path}` names no file of tokens: write `tokens = \"tokens.toml\"` in it"
            )));
        };
        Ok((access, path))
    }
}

fn minute(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M").to_string()
}

/// When a token of this length ends.
fn end(now: Timestamp, length: Span) -> Result<Timestamp, CliError> {
    let zoned = ZonedDateTime::new(now, TimeZone::UTC);
    let end = zoned.checked_add(length).map_err(|error| CliError::usage(format!("--expires `{length:#}`: {error}")))?;
    if end <= zoned {
        return Err(CliError::usage(format!("--expires `{length:#}`: a token holds for longer than nothing")));
    }
    if zoned.checked_add(LONGEST_DAYS.days()).is_ok_and(|latest| end > latest) {
        return Err(CliError::usage(format!("--expires `{length:#}`: {LONGEST_DAYS} days at most")));
    }
    Ok(end.timestamp())
}

pub(super) fn run(command: TokenCommand, out: &mut Output) -> Result<(), CliError> {
    let now = Clock::system().now();
    match command {
        TokenCommand::Create { name, expires, file } => create(&name, end(now, expires)?, &file, now, out),
        TokenCommand::List { file } => list(&file, now, out),
        TokenCommand::Revoke { id, file } => {
            let (_, path) = file.read()?;
            TokenFile::change(&path, |tokens| tokens.revoke(&id, now)).map_err(CliError::runtime)?;
            if out.is_json() {
                return out.json(&json!({"id": id, "revoked": true}));
            }
            out.line(format!("token {id} is revoked: running services turn it away within seconds"))
        }
    }
}

fn create(name: &str, expires: Timestamp, file: &TokenArgs, now: Timestamp, out: &mut Output) -> Result<(), CliError> {
    let (access, path) = file.read()?;
    let Some(person) = access.by_name(name) else {
        let known = nearest(name, access.names());
        let path = file.access.display();
        let meant = known.map(|known| format!(": did you mean `{known}`?")).unwrap_or_default();
        return Err(CliError::failed(format!("`{name}` is nobody in `{path}`{meant}")));
    };
    let made = TokenFile::change(&path, |tokens| tokens.create(name, now, expires)).map_err(CliError::runtime)?;
    if out.is_json() {
        let (id, token) = (&made.id, &made.token);
        return out.json(&json!({"id": id, "name": name, "expires": expires.to_string(), "token": token}));
    }
    say(format!("token {} of {name} ({}), until {}; it is not shown again:", made.id, person.roles, minute(expires)));
    out.line(made.token)
}

fn list(file: &TokenArgs, now: Timestamp, out: &mut Output) -> Result<(), CliError> {
    let (access, path) = file.read()?;
    let tokens = TokenFile::read_or_new(&path).map_err(|error| CliError::failed(causes(&error)))?;
    let standing = |token: &StoredToken| match token.fault(now) {
        Some(fault) => fault,
        None if access.by_name(&token.name).is_none() => "of nobody",
        None => "holds",
    };
    if out.is_json() {
        let row = |(id, token): (&str, &StoredToken)| {
            json!({
                "id": id, "name": token.name, "created": token.created.to_string(),
                "expires": token.expires.to_string(), "revoked": token.revoked.map(|at| at.to_string()),
                "standing": standing(token),
            })
        };
        return out.json(&json!({"tokens": tokens.iter().map(row).collect::<Vec<_>>()}));
    }
    let row = |(id, token): (&str, &StoredToken)| {
        let [created, expires] = [token.created, token.expires].map(minute);
        vec![id.to_owned(), token.name.clone(), created, expires, standing(token).to_owned()]
    };
    let rows: Vec<_> = tokens.iter().map(row).collect();
    let count = rows.len();
    if count > 0 {
        out.table(&["id", "name", "created", "expires", ""], rows)?;
    }
    out.line(counted(count as u64, "token"))
}
