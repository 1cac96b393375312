//! Flags, then the environment, then the file, then defaults.
//!
//! The command line's parser knows three of the four already. The file's values are put in the place of the defaults,
//! so that nobody else has to know which source outranks which.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgMatches, Command};

use super::file::{self, FileError, Values};
use super::settings::{Settings, is_setting};
use super::{Contradiction, is_reloadable};
use crate::journal::redis::redacted;

/// The settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not what can be said at the command line, or in the environment; or only help was asked for.
    #[error(transparent)]
    Usage(clap::Error),
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// Two settings do not go together.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
}

impl From<clap::Error> for ConfigError {
    /// A URL that is refused may have a password in it.
    fn from(mut error: clap::Error) -> Self {
        if let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue) {
            let value = ContextValue::String(redacted(value));
            error.insert(ContextKind::InvalidValue, value);
        }
        Self::Usage(error)
    }
}

/// What was given to a program, with the file that it names beneath. The file may have all settings of the subcommand
/// that is called `all`; another one takes from it what it knows.
///
/// # Errors
/// If flags, the environment or the file are not what they should be.
pub fn layered(
    command: Command,
    all: &str,
    given: impl Iterator<Item = OsString>,
) -> Result<(ArgMatches, Settings), ConfigError> {
    let command = saying_what_is_reloadable(logging_as_others_do(command), all);
    let given = given.collect::<Vec<_>>();
    let matches = command.clone().try_get_matches_from(&given)?;
    let (names, leaf) = subcommand(&matches);
    let Some(path) = leaf.try_get_one::<PathBuf>("config").ok().flatten() else {
        let settings = Settings::of(named(&command, &names), leaf, None);
        return Ok((matches, settings));
    };
    let flags: Vec<&Arg> = named(&command, &[all.to_owned()]).get_arguments().collect();
    let values = file::read(path, &flags)?;
    let command = beneath(command, &names, &values);
    let matches = command.clone().try_get_matches_from(&given)?;
    let (_, leaf) = subcommand(&matches);
    let settings = Settings::of(named(&command, &names), leaf, Some((path.clone(), &values)));
    Ok((matches, settings))
}

/// `RUST_LOG`, which many programs read, is a second name of `WITHHELD_LOG_LEVEL`.
fn logging_as_others_do(command: Command) -> Command {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if set("WITHHELD_LOG_LEVEL") || !set("RUST_LOG") {
        return command;
    }
    let named = |arg: Arg| if arg.get_long() == Some("log-level") { arg.env("RUST_LOG") } else { arg };
    command.mut_subcommands(|command| command.mut_args(named))
}

/// The help of a setting says whether it takes effect without a restart.
fn saying_what_is_reloadable(command: Command, all: &str) -> Command {
    let said = |arg: Arg| match (arg.get_long().is_some_and(is_reloadable), arg.get_help().cloned()) {
        (true, Some(help)) => arg.help(format!("{help} (reload)")),
        _ => arg,
    };
    command.mut_subcommand(all, |command| command.mut_args(said))
}

/// The innermost subcommand that was given: its names from the outside in, and what was given to it.
fn subcommand(matches: &ArgMatches) -> (Vec<String>, &ArgMatches) {
    let (mut names, mut leaf) = (Vec::new(), matches);
    while let Some((name, inner)) = leaf.subcommand() {
        names.push(name.to_owned());
        leaf = inner;
    }
    (names, leaf)
}

fn named<'a>(command: &'a Command, names: &[String]) -> &'a Command {
    names.iter().fold(command, |command, name| command.find_subcommand(name).unwrap_or(command))
}

/// The command, with values in the place of its defaults.
fn beneath(command: Command, names: &[String], values: &Values) -> Command {
    if let Some((name, names)) = names.split_first() {
        return command.mut_subcommand(name, |command| beneath(command, names, values));
    }
    command.mut_args(|arg| match arg.get_long().and_then(|name| values.get(name)) {
        Some(value) if is_setting(&arg) => arg.default_value(value.clone()),
        Some(_) | None => arg,
    })
}
