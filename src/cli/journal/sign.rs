//! `withheld journal checkpoint` and `key`: what the journal has reached, signed, and the keys for that.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde_json::json;

use crate::audit::keep::read_key;
use crate::audit::note::{SigningKey, VerifierKey};
use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::output::{Output, say};
use crate::cli::show::time;
use crate::pb::v1 as pb;

pub(super) async fn checkpoint(client: &Client, out: &mut Output) -> Result<(), CliError> {
    let made = client.audit().await?.get_checkpoint(client.request(pb::GetCheckpointRequest {})).await?.into_inner();
    if out.is_json() {
        let hash: String = made.hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let (revision, at) = (made.revision.to_string(), time(made.at.as_ref()));
        return out.json(&json!({"note": made.note, "revision": revision, "hash": hash, "at": at}));
    }
    out.bytes(made.note.as_bytes())
}

pub(super) fn new_key(name: &str, file: &Path, out: &mut Output) -> Result<(), CliError> {
    let key = SigningKey::generate(name).map_err(|error| CliError::usage(error.to_string()))?;
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let written = opened.and_then(|mut file| {
        file.write_all(format!("{}\n", key.secret()).as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => CliError::usage(format!(
            "`{}` is there already: name another file with --out; a key that has signed is needed as long as it is trusted",
            file.display()
        )),
        _ => CliError::failed(format!("the key `{}` cannot be written: {error}", file.display())),
    })?;
    say(format!("the key is in `{}`: keep it secret; this verifies what it signs:", file.display()));
    show(key.verifier(), file, out)
}

pub(super) fn show_key(file: &Path, out: &mut Output) -> Result<(), CliError> {
    show(read_key(file).map_err(CliError::runtime)?.verifier(), file, out)
}

fn show(key: &VerifierKey, file: &Path, out: &mut Output) -> Result<(), CliError> {
    if out.is_json() {
        return out.json(&json!({"verifier_key": key.to_string(), "file": file}));
    }
    out.line(key)
}
