//! The export, and that it is verified without this program.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use withheld::journal::{JournalReader as _, Position, sqlite::SqliteJournal};

use super::{ENTRIES, Ended, Record, auditor, ended, withheld};
use crate::harness::nth;

impl Record {
    fn export(&self, flags: &[&str]) -> Ended {
        withheld(&[&["journal", "export", "--journal", &self.url()], flags].concat())
    }

    /// All of it with its checkpoints, in a file.
    pub(super) fn exported(&self) -> std::path::PathBuf {
        let checkpoints = self.checkpoints();
        let (code, out, err) = self.export(&["--checkpoints", checkpoints.to_str().unwrap(), "--trust", &self.trust]);
        assert_eq!(code, 0, "{err}");
        std::fs::write(self.path("export.jsonl"), out).unwrap();
        self.path("export.jsonl")
    }
}

fn audit(files: &[&Path], flags: &[&str]) -> Ended {
    ended(Command::new("python3").arg(auditor()).args(files).args(flags))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_export_has_the_stored_bytes_and_is_verified_with_python_alone() {
    let record = Record::written().await;
    let export = record.exported();
    let text = std::fs::read_to_string(&export).unwrap();
    let stored =
        SqliteJournal::open_read_only(&record.journal()).unwrap().read(Position::START, 100).await.unwrap().entries;
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (line, entry) in lines.iter().zip(&stored) {
        assert_eq!(line["revision"], entry.position().revision.to_string());
        assert_eq!(line["hash"], entry.position().hash.to_string());
    }
    let line = |entry: u64| &lines[usize::try_from(nth(entry)).unwrap() - 1];
    assert_eq!(line(2)["entry"]["order_applied"]["items"]["ids"], serde_json::json!(["7", "0", "8", "0"]));
    assert_eq!(line(6)["entry"]["order_proposed"]["proposal"]["grounds"], serde_json::json!([1]));
    assert_eq!(line(5)["entry"]["correspondence_recorded"]["at"], "2021-02-02T10:00:00.120Z");
    let trust = ["--trust", record.trust.as_str()];
    let (code, out, err) = audit(&[&export], &trust);
    let holds = format!("hold; the last entry has hash {}\n", stored.last().unwrap().position().hash);
    assert!(code == 0 && out.starts_with(&format!("{ENTRIES} entries and ")) && out.ends_with(&holds), "{out}{err}");

    // In parts, each going on where the one before ended.
    let (_, all, _) = record.export(&[]);
    let head: String = all.split_inclusive('\n').take(4).collect();
    let (code, tail, _) = record.export(&["--after", "4"]);
    assert_eq!((code, format!("{head}{tail}") == all), (0, true));
    let [one, two] = [("one", &head), ("two", &tail)].map(|(name, text)| {
        std::fs::write(record.path(name), text).unwrap();
        record.path(name)
    });
    assert!(audit(&[&one, &two], &[]).1.starts_with(&format!("{ENTRIES} entries and 0 checkpoints hold")));
    let (code, _, err) = audit(&[&two], &[]);
    assert_eq!((code, err.contains("entry 1 should be here, and this is entry 5")), (1, true), "{err}");
    assert_eq!(record.export(&["--after", &ENTRIES.to_string()]), (0, String::new(), String::new()));
    let (code, out, err) = record.export(&["--after", &(ENTRIES + 1).to_string()]);
    assert_eq!((code, out.as_str(), err.contains(&format!("ends at revision {ENTRIES}"))), (2, "", true), "{err}");

    // What is missing, or signed by nobody who is trusted, is found.
    let last = format!("\"revision\":\"{ENTRIES}\"");
    let shorter: String = text.split_inclusive('\n').filter(|line| !line.contains(&last)).collect();
    std::fs::write(record.path("shorter"), shorter).unwrap();
    let (code, _, err) = audit(&[&record.path("shorter")], &trust);
    assert_eq!((code, err.contains(&format!("there is no entry: they end at {}", ENTRIES - 1))), (1, true), "{err}");
    let (code, _, err) = audit(&[&export], &[]);
    assert_eq!((code, err.contains("no --trust VKEY")), (1, true), "{err}");
    let other = super::new_key(&record.path("other"));
    let (code, _, err) = audit(&[&export], &["--trust", &other]);
    assert_eq!((code, err.contains("not signed by a key that is trusted")), (1, true), "{err}");
    // The readable form is held against the bytes.
    std::fs::write(record.path("bent"), text.replace("they met", "they mat")).unwrap();
    let (code, _, err) = audit(&[&record.path("bent")], &trust);
    let met = nth(5);
    let says = format!("line {met} (after entry {}): entry {met}: its readable form", met - 1);
    assert_eq!((code, err.contains(&says)), (1, true), "{err}");
}

/// Damage in the middle ends an export there, and says from where to go on.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_ends_before_what_is_damaged() {
    let record = Record::written().await;
    let db = rusqlite::Connection::open(record.journal()).unwrap();
    db.execute("UPDATE entries SET payload = zeroblob(9) WHERE revision = 6", []).unwrap();
    let (code, out, err) = record.export(&[]);
    assert_eq!((code, out.as_str(), err.contains("entry `6` of the journal is damaged")), (1, "", true), "{err}");
}

/// Every kind of entry, with every field: the golden ones.
#[test]
fn the_readable_form_is_made_anew_from_the_bytes_of_every_kind_of_entry() {
    use withheld::journal::memory::MemoryJournal;
    let golden = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/journal/golden.txt")).unwrap();
    let payload = |line: &str| {
        let hex = line.split(' ').nth(1).unwrap();
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect::<Vec<u8>>()
    };
    let mut position = Position::START;
    let rows = golden.lines().map(|line| {
        position = position.after(&payload(line));
        (position.hash, payload(line))
    });
    let journal = MemoryJournal::from_rows(rows.collect());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let entries = runtime.block_on(journal.read(Position::START, 100)).unwrap().entries;
    let exporter = withheld::audit::export::Exporter::new().unwrap();
    let text: String = entries.iter().map(|entry| exporter.line(entry).unwrap()).collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("golden.jsonl");
    std::fs::write(&file, text).unwrap();
    let (code, out, err) = audit(&[&file], &[]);
    assert!(code == 0 && out.starts_with("20 entries and 0 checkpoints hold"), "{out}{err}");
}
