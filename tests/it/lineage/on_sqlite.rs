//! Every way to lose an SQLite journal, with each kind of evidence of what it was.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use withheld::pb::v1 as pb;

use super::{apply, check, journal, name_in, not_ready};
use crate::harness::{Service, mk_journal, serve};

/// What is left beside the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Evidence {
    History,
    Snapshot,
    Checkpoints,
    All,
}

/// What became of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Removed,
    Truncated,
    /// Another service's journal lies in its place.
    Replaced,
    /// An earlier copy of it does.
    Restored,
}

fn beside(journal: &Path, kind: &str) -> PathBuf {
    PathBuf::from(format!("{}.{kind}", journal.display()))
}

fn without(journal: &Path, kinds: &[&str]) {
    for kind in kinds {
        let _ = fs::remove_file(beside(journal, kind));
    }
}

fn forget(path: &Path, evidence: Evidence) {
    match evidence {
        Evidence::All => {}
        Evidence::History => without(path, &["snapshot", "checkpoints"]),
        Evidence::Snapshot => without(path, &["history", "checkpoints"]),
        Evidence::Checkpoints => without(path, &["history", "snapshot"]),
    }
}

fn key(dir: &Path) -> String {
    let key = dir.join("checkpoint.key").display().to_string();
    let (code, said) = journal(&["key", "new", "withheld.example.org", "--out", &key]);
    assert_eq!(code, Some(0), "{said}");
    key
}

/// A journal with two orders, stopped; a copy of it after the first.
async fn written(path: &Path, key: &str) -> PathBuf {
    let flags = ["--checkpoint-key", key, "--checkpoint-every", "1s"];
    let service = Service::start_with(path, &flags).await;
    apply(&service, "one", 1).await.unwrap();
    assert!(service.stop().success());
    let copy = path.with_extension("copy");
    fs::copy(path, &copy).unwrap();
    let service = Service::start_with(path, &flags).await;
    apply(&service, "two", 2).await.unwrap();
    let checkpoints = beside(path, "checkpoints");
    let signed = || fs::read_to_string(&checkpoints).is_ok_and(|text| text.contains("\\n3\\n"));
    while !signed() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(service.stop().success());
    copy
}

/// Another service's journal, which is as long.
async fn another(dir: &Path) -> PathBuf {
    let path = dir.join("another.db");
    let service = Service::start(&path).await;
    for (order, account) in [("other-1", 11), ("other-2", 12)] {
        apply(&service, order, account).await.unwrap();
    }
    assert!(service.stop().success());
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_journal_is_never_served_as_an_empty_one_whatever_is_left_of_it() {
    for evidence in [Evidence::All, Evidence::History, Evidence::Snapshot, Evidence::Checkpoints] {
        let (dir, path) = mk_journal();
        let key = key(dir.path());
        let copy = written(&path, &key).await;
        let name = name_in(&beside(&path, "history"));
        let other = another(dir.path()).await;
        forget(&path, evidence);
        let kept = fs::read(&path).unwrap();
        for loss in [Loss::Removed, Loss::Truncated, Loss::Replaced, Loss::Restored] {
            let what = format!("{loss:?}, by {evidence:?}");
            without(&path, &["db-wal", "db-shm"]);
            match loss {
                Loss::Removed => fs::remove_file(&path).unwrap(),
                Loss::Truncated => fs::write(&path, b"").unwrap(),
                Loss::Replaced => drop(fs::copy(&other, &path).unwrap()),
                Loss::Restored => drop(fs::copy(&copy, &path).unwrap()),
            }
            let names_it = if evidence == Evidence::Checkpoints { "revision 3".to_owned() } else { name.clone() };
            match loss {
                Loss::Removed | Loss::Truncated => {
                    let ended = serve(&path).stdin(Stdio::null()).output().unwrap();
                    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
                    assert_eq!(ended.status.code(), Some(1), "{what}: {said}");
                    assert!(said.contains(&names_it) && said.contains("journal accept"), "{what}: {said}");
                    assert!(
                        fs::metadata(&path).map_or(0, |file| file.len()) == 0,
                        "{what}: nothing was made in its place"
                    );
                }
                Loss::Replaced | Loss::Restored => {
                    let service = Service::spawn(&path, &[]);
                    let said = not_ready(&service, &names_it).await;
                    assert!(said.contains("journal accept"), "{what}: {said}");
                    assert_eq!(check(&service, 1).await.unwrap_err().code(), tonic::Code::Unavailable, "{what}");
                    let refused = apply(&service, "three", 3).await.unwrap_err();
                    assert_eq!(crate::harness::refusal(&refused).1, "JOURNAL_UNKNOWN", "{what}");
                    assert!(service.stop().success());
                }
            }
            // What proves it is as it was.
            for kind in ["history", "snapshot", "checkpoints"] {
                let expected = match evidence {
                    Evidence::All => true,
                    Evidence::History => kind == "history",
                    Evidence::Snapshot => kind == "snapshot",
                    Evidence::Checkpoints => kind == "checkpoints",
                };
                assert_eq!(beside(&path, kind).exists(), expected, "{what}: {kind}");
            }
            fs::write(&path, &kept).unwrap();
        }
        // Put back, it is the one that is known.
        let service = Service::start(&path).await;
        assert!(check(&service, 2).await.unwrap().0, "{evidence:?}");
        assert!(service.stop().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_journal_is_followed_once_a_person_names_both() {
    let (dir, path) = mk_journal();
    let key = key(dir.path());
    written(&path, &key).await;
    let other = another(dir.path()).await;
    let (name, others) = (name_in(&beside(&path, "history")), name_in(&beside(&other, "history")));
    fs::copy(&other, &path).unwrap();
    let url = format!("sqlite:{}", path.display());
    let accept = |flags: &[&str]| journal(&[&["accept", "--journal", &url], flags].concat());
    // Everything but the right names changes nothing.
    for wrong in
        [&[][..], &["--known", &name], &["--known", &others, "--found", &name], &["--known", &name, "--found", "none"]]
    {
        let (code, said) = accept(wrong);
        assert_eq!(code, Some(1), "{wrong:?}: {said}");
        assert!(said.contains(&format!("--known {name} --found {others}")), "{said}");
        assert!(beside(&path, "history").exists());
    }
    let service = Service::spawn(&path, &[]);
    not_ready(&service, &others).await;
    let (code, said) = accept(&["--known", &name, "--found", &others]);
    assert_eq!(code, Some(0), "{said}");
    // The service that stands still goes on by itself.
    service.serving().await;
    assert!(check(&service, 11).await.unwrap().0 && !check(&service, 1).await.unwrap().0);
    assert!(service.stop().success());
    let kept = fs::read_dir(dir.path())
        .unwrap()
        .filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().contains(".before-"));
    assert_eq!(kept.count(), 3, "history, snapshot and checkpoints are kept");
    let (code, said) = accept(&["--known", &name, "--found", &others]);
    assert!(code == Some(1) && said.contains("nothing to accept"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_journal_begins_where_a_lost_one_was_given_up_by_name() {
    let (dir, path) = mk_journal();
    let key = key(dir.path());
    written(&path, &key).await;
    let name = name_in(&beside(&path, "history"));
    fs::remove_file(&path).unwrap();
    let url = format!("sqlite:{}", path.display());
    let (code, said) = journal(&["create", "--journal", &url]);
    assert!(code == Some(1) && said.contains(&name), "{said}");
    let (code, said) = journal(&["accept", "--journal", &url, "--known", &name, "--found", "none"]);
    assert_eq!(code, Some(0), "{said}");
    let service = Service::start(&path).await;
    assert_eq!(apply(&service, "one", 1).await.unwrap(), 2);
    assert!(service.stop().success());
    assert_ne!(name_in(&beside(&path, "history")), name);
}

/// SQLite would throw away what is left of a journal whose file was cut down to nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_cut_to_nothing_keeps_the_log_that_lies_beside_it() {
    let (_dir, path) = mk_journal();
    let service = Service::start(&path).await;
    apply(&service, "one", 1).await.unwrap();
    service.kill();
    let log = path.with_extension("db-wal");
    let left = fs::read(&log).unwrap();
    assert!(!left.is_empty());
    fs::write(&path, b"").unwrap();
    without(&path, &["history", "snapshot"]);
    let ended = serve(&path).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.code() == Some(1) && said.contains("write-ahead log"), "{said}");
    assert_eq!(fs::read(&log).unwrap(), left);
}

/// A position is of one history: a reader who comes back to a journal that lost entries, and got others in their place, is
/// told so, and begins anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_of_another_history_is_told_to_begin_anew() {
    let (_dir, path) = mk_journal();
    let service = Service::start(&path).await;
    apply(&service, "one", 1).await.unwrap();
    assert!(service.stop().success());
    let copy = path.with_extension("copy");
    fs::copy(&path, &copy).unwrap();
    let service = Service::start(&path).await;
    apply(&service, "two", 2).await.unwrap();
    let watch = async |service: &Service, resume_position: String| {
        let request = pb::WatchWithholdingsRequest { resume_position, ..Default::default() };
        let mut changes = service.visibility().await.watch_withholdings(request).await?.into_inner();
        changes.message().await.map(|message| message.unwrap())
    };
    let told = watch(&service, String::new()).await.unwrap();
    assert_eq!(told.changes.len(), 2);
    let again = watch(&service, told.resume_position.clone()).await.unwrap();
    assert!(again.changes.is_empty() && again.resume_position == told.resume_position, "nothing since");
    assert!(service.stop().success());
    // Restarted, it knows the position by asking the journal.
    let service = Service::start(&path).await;
    assert!(watch(&service, told.resume_position.clone()).await.unwrap().changes.is_empty());
    assert!(service.stop().success());

    let name = name_in(&beside(&path, "history"));
    without(&path, &["db-wal", "db-shm"]);
    fs::copy(&copy, &path).unwrap();
    let url = format!("sqlite:{}", path.display());
    let (code, said) = journal(&["accept", "--journal", &url, "--known", &name, "--found", &name]);
    assert_eq!(code, Some(0), "{said}");
    let service = Service::start(&path).await;
    // Shorter than the position, as long, and longer.
    for order in ["three", "four", "five"] {
        let refused = watch(&service, told.resume_position.clone()).await.unwrap_err();
        assert_eq!(crate::harness::refusal(&refused).1, "FOREIGN_POSITION", "{refused}");
        apply(&service, order, 3).await.unwrap();
    }
    let foreign = told.resume_position.replace(&name, "0123456789abcdef0123456789abcdef");
    for (position, reason) in [(foreign.as_str(), "FOREIGN_POSITION"), ("7", "INVALID_FIELDS")] {
        let refused = watch(&service, position.to_owned()).await.unwrap_err();
        let said = crate::harness::refusal(&refused);
        assert!(said.1 == reason || said.2 == ["resume_position"], "{said:?}");
    }
    let (code, said) = journal(&["verify", "--journal", &url]);
    assert_eq!(code, Some(0), "{said}");
}
