//! The settings in force: each one's value and where it is from, as they may be shown.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use super::file::Values;
use crate::journal::redis::redacted;

/// Where a value is from; what stands first outranks what stands after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag,
    /// The environment.
    Environment,
    /// The configuration file.
    File,
    /// It is not set.
    Default,
}

impl Source {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::File => "file",
            Self::Default => "default",
        }
    }
}

/// One of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Setting {
    /// The long name of its flag, and its key in the file.
    pub name: String,
    /// Where its value is from.
    pub source: Source,
    /// As it may be shown; `None`: not set, and without a default that is the same everywhere.
    pub shown: Option<String>,
    /// As it is: never to be shown, only to be compared.
    raw: Option<String>,
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.shown.as_deref().unwrap_or_default();
        let quote = if value.is_empty() || value.contains(char::is_whitespace) { "\"" } else { "" };
        write!(f, "{}={quote}{value}{quote}", self.name)?;
        if self.source == Source::Default { Ok(()) } else { write!(f, " ({})", self.source.as_str()) }
    }
}

/// A setting that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub name: String,
    /// What it was, as it may be shown.
    pub from: String,
    /// What it is.
    pub to: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, from, to } = self;
        // Two secrets look alike.
        if from == to { write!(f, "{name}: another one") } else { write!(f, "{name}: {from} -> {to}") }
    }
}

/// All settings of a command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The file that was read, if one was.
    pub file: Option<PathBuf>,
    /// Each, in the order of the command's help.
    pub all: Vec<Setting>,
}

impl Settings {
    /// Those of a command that was given, with what the file said.
    pub(super) fn of(command: &Command, given: &ArgMatches, file: Option<(PathBuf, &Values)>) -> Self {
        let in_file = |name: &str| file.as_ref().is_some_and(|(_, values)| values.contains_key(name));
        let setting = |arg: &Arg| {
            let name = arg.get_long()?;
            let raw = given.try_get_raw(arg.get_id().as_str()).ok().flatten();
            let raw = raw.map(|values| values.map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(","));
            let source = match given.value_source(arg.get_id().as_str()) {
                Some(ValueSource::CommandLine) => Source::Flag,
                Some(ValueSource::EnvVariable) => Source::Environment,
                _ if in_file(name) => Source::File,
                _ => Source::Default,
            };
            let shown = raw.as_deref().map(|raw| shown(arg, raw));
            Some(Setting { name: name.to_owned(), source, shown, raw })
        };
        let all = command.get_arguments().filter(|arg| is_setting(arg)).filter_map(setting).collect();
        Self { file: file.map(|(path, _)| path), all }
    }

    /// What is another one in `new`.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Vec<Change> {
        let differ = self.all.iter().zip(&new.all).filter(|(old, new)| old.raw != new.raw);
        let shown = |setting: &Setting| setting.shown.clone().unwrap_or_else(|| "not set".to_owned());
        differ.map(|(old, new)| Change { name: old.name.clone(), from: shown(old), to: shown(new) }).collect()
    }

    /// Takes these settings over from `new`.
    pub fn take(&mut self, names: &[&str], new: &Self) {
        for (old, new) in self.all.iter_mut().zip(&new.all).filter(|(old, _)| names.contains(&old.name.as_str())) {
            *old = new.clone();
        }
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, setting) in self.all.iter().filter(|setting| setting.shown.is_some()).enumerate() {
            write!(f, "{}{setting}", if at > 0 { " " } else { "" })?;
        }
        Ok(())
    }
}

/// What has a variable in the environment is a setting; but for what is everywhere at the command line, and the name of
/// the file itself.
pub(super) fn is_setting(arg: &Arg) -> bool {
    arg.get_env().is_some() && !arg.is_global_set() && arg.get_long() != Some("config")
}

/// A value as it may be shown: what is hidden in help is secret, and so is what a URL says of a user.
pub(super) fn shown(arg: &Arg, value: &str) -> String {
    if arg.is_hide_env_values_set() { "***".to_owned() } else { redacted(value) }
}

/// The name that was probably meant.
pub(crate) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = names.map(|known| (strsim::jaro_winkler(name, known), known)).filter(|(alike, _)| *alike > 0.8);
    near.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}

/// Variables that look like the program's and are read by none of its commands, each with what was probably meant.
#[must_use]
pub fn unknown_variables(command: &Command, set: impl Iterator<Item = String>) -> Vec<(String, Option<String>)> {
    fn collect(command: &Command, known: &mut BTreeSet<String>) {
        let name = |name: &OsStr| name.to_string_lossy().into_owned();
        known.extend(command.get_arguments().filter_map(Arg::get_env).map(name));
        command.get_subcommands().for_each(|command| collect(command, known));
    }
    let mut known = BTreeSet::new();
    collect(command, &mut known);
    let unknown = set.filter(|name| name.starts_with("WITHHELD_") && !known.contains(name));
    let meant = |name: &str| nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
    let mut unknown: Vec<_> = unknown.map(|name| (name.clone(), meant(&name))).collect();
    unknown.sort();
    unknown
}
