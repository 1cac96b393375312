//! The file of settings: TOML, whose keys are the long names of flags, in any case of kebab or snake.
//!
//! Knows no setting by name: which there are, and what their values may be, the flags tell.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command};
use toml::Value;

use super::settings::{is_setting, nearest, shown};

/// A file of settings that cannot be used. What it says repeats no secret.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("the configuration file `{path}` cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// It is not TOML.
    #[error("the configuration file `{path}` is not TOML: line {line}: {why}")]
    NotToml {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
        /// Why.
        why: String,
    },
    /// Some of its settings are wrong.
    #[error("the configuration file `{path}` cannot be used: {}", listed(problems))]
    Bad {
        /// The file.
        path: PathBuf,
        /// Each of them, and what is wrong with it.
        problems: Vec<(String, String)>,
    },
}

fn listed(problems: &[(String, String)]) -> String {
    problems.iter().map(|(key, why)| format!("`{key}` {why}")).collect::<Vec<_>>().join("; ")
}

/// What a file says: values by the names of their flags.
pub(super) type Values = BTreeMap<String, String>;

/// Reads a file whose keys are these flags.
///
/// # Errors
/// If it cannot be read, or naming everything that is wrong with it.
pub(super) fn read(path: &Path, flags: &[&Arg]) -> Result<Values, FileError> {
    let path = || path.to_owned();
    let text = std::fs::read_to_string(path()).map_err(|source| FileError::Unreadable { path: path(), source })?;
    // The line itself is not shown, as the parser would: a password may be in it.
    let not_toml = |error: toml::de::Error| FileError::NotToml {
        path: path(),
        line: 1 + error.span().map_or(0, |at| text.chars().take(at.start).filter(|c| *c == '\n').count()),
        why: error.message().to_owned(),
    };
    let table: toml::Table = text.parse().map_err(not_toml)?;
    let (mut values, mut problems) = (Values::new(), Vec::new());
    for (key, value) in &table {
        let name = key.replace('_', "-");
        let taken = match flags.iter().find(|flag| is_setting(flag) && flag.get_long() == Some(&name)) {
            Some(_) if values.contains_key(&name) => Err(format!("is there twice, as `{name}` too")),
            Some(flag) => taken(flag, value),
            None => Err(unknown(key, value, flags)),
        };
        match taken {
            Ok(value) => drop(values.insert(name, value)),
            Err(why) => problems.push((key.clone(), why)),
        }
    }
    if problems.is_empty() { Ok(values) } else { Err(FileError::Bad { path: path(), problems }) }
}

/// A value as its flag takes it.
fn taken(flag: &Arg, value: &Value) -> Result<String, String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Boolean(yes) => yes.to_string(),
        Value::Float(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
            return Err(format!("is of type {}: write a string, an integer, true or false", value.type_str()));
        }
    };
    match refusal(flag, &text) {
        Some(why) => Err(format!("cannot be `{}`: {why}", shown(flag, &text))),
        None => Ok(text),
    }
}

/// Why the flag would not take a value, if so.
fn refusal(flag: &Arg, value: &str) -> Option<String> {
    let name = flag.get_long()?;
    let alone = Command::new("withheld").no_binary_name(true).disable_help_flag(true).arg(flag.clone());
    let error = alone.try_get_matches_from([format!("--{name}={value}")]).err()?;
    Some(match (error.source(), error.get(ContextKind::ValidValue)) {
        _ if value.is_empty() => "it is empty: leave the setting out if it is not to be set".to_owned(),
        (Some(source), _) => source.to_string(),
        (None, Some(ContextValue::Strings(valid))) => format!("write one of {}", valid.join(", ")),
        (None, _) => error.kind().to_string(),
    })
}

fn unknown(key: &str, value: &Value, flags: &[&Arg]) -> String {
    let names = || flags.iter().filter(|flag| is_setting(flag)).filter_map(|flag| flag.get_long());
    // Whoever groups `redis-user` as `user` in a table `redis` is told so.
    let (name, among) = match value.as_table().and_then(|table| table.keys().next()) {
        Some(inner) => (format!("{key}-{inner}"), " (settings stand in no tables)"),
        None => (key.to_owned(), ""),
    };
    let hint = match nearest(&name.replace('_', "-"), names()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`withheld serve --help` lists them: a key is a flag without its dashes".to_owned(),
    };
    format!("is not a setting{among}: {hint}")
}

#[cfg(test)]
#[path = "../../fuzz/config_files.rs"]
mod fuzz;
