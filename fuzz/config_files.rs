//! The file of settings: what it is refused for is named, and a secret is not repeated.

use std::io::Write as _;

use clap::{Args as _, Command};

use super::{FileError, Values, read};
use crate::config::ServeArgs;

crate::fuzz::target!(config_files, check);

const SECRET: &str = "hunter-77c1";

fn read_text(text: &str) -> Result<Values, FileError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let command = ServeArgs::augment_args(Command::new("serve"));
    read(file.path(), &command.get_arguments().collect::<Vec<_>>())
}

fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match read_text(text) {
        Ok(values) => {
            let given = values.iter().map(|(name, value)| format!("--{name}={value}"));
            let command = ServeArgs::augment_args(Command::new("serve").no_binary_name(true));
            let taken = command.try_get_matches_from(given);
            assert!(taken.is_ok(), "{text}: {taken:?}");
        }
        Err(FileError::Unreadable { .. }) => panic!("it is there"),
        Err(FileError::NotToml { line, why, .. }) => {
            assert!(!why.is_empty() && (1..=text.split('\n').count()).contains(&line), "{line}: {text}");
        }
        Err(FileError::Bad { problems, .. }) => {
            assert!(!problems.is_empty() && problems.iter().all(|(_, why)| !why.is_empty()));
        }
    }
    let one_line = text.replace(['\'', '\n', '\r'], "");
    if text.contains(SECRET) || one_line.contains(SECRET) {
        return;
    }
    for text in [
        format!("redis-password = '{SECRET}'\n{text}"),
        format!("journal = 'redis://user:{SECRET}@{one_line}'"),
        format!("journal = 'redis://user:{SECRET}@host'\n{text}"),
    ] {
        if let Err(error) = read_text(&text) {
            assert!(!error.to_string().contains(SECRET), "{error}");
        }
    }
}
