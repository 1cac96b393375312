//! The record: what auditors are shown, what is signed, what others can verify, and that no bit of it can be flipped unseen.

mod checkpoints;
mod entries;
mod export;
mod flips;
mod notes;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use withheld::pb::v1 as pb;

use crate::harness::{
    BINARY, Service, approve, mk_accounts, mk_apply, mk_context, mk_items, mk_order, mk_worldwide, nth,
};
use crate::redis::until;

/// A small real record: a journal, and what belongs to it.
struct Record {
    dir: TempDir,
    /// Its key's public half.
    trust: String,
}

/// How many entries it has: the one that created it, and those that [`Record::write`] writes.
const ENTRIES: u64 = nth(9);

impl Record {
    /// A directory with a key, and no journal yet.
    fn empty() -> Self {
        let dir = TempDir::new().unwrap();
        let trust = new_key(&dir.path().join("key"));
        Self { dir, trust }
    }

    /// One that a service has written, and signed a checkpoint of; it has ended.
    async fn written() -> Self {
        let record = Self::empty();
        let service = record.serve(&["key"]).await;
        record.write(&service).await;
        record.checkpointed(ENTRIES).await;
        assert!(service.stop().success());
        record
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn journal(&self) -> PathBuf {
        self.path("journal.db")
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.journal().display())
    }

    fn checkpoints(&self) -> PathBuf {
        self.path("journal.db.checkpoints")
    }

    /// A service that signs with these keys, once it is serving.
    async fn serve(&self, keys: &[&str]) -> Service {
        let service = self.spawn(keys);
        service.serving().await;
        service
    }

    /// The same once it listens.
    fn spawn(&self, keys: &[&str]) -> Service {
        let keys: Vec<String> = keys.iter().map(|key| self.path(key).display().to_string()).collect();
        let log = ["--log-level", "info,withheld::audit=debug"];
        let sign = ["--checkpoint-key", &keys.join(","), "--checkpoint-every", "1s"];
        Service::spawn(&self.journal(), &[sign.as_slice(), &log].concat())
    }

    /// Waits for a checkpoint of a revision.
    async fn checkpointed(&self, revision: u64) {
        until(format!("a checkpoint of revision {revision}"), || async {
            let text = std::fs::read_to_string(self.checkpoints()).unwrap_or_default();
            text.lines().last().is_some_and(|line| line.contains(&format!("\\n{revision}\\n")))
        })
        .await;
    }

    /// Entries of most kinds.
    async fn write(&self, service: &Service) {
        let (mut orders, mut protections) = (service.orders().await, service.protections().await);
        let category = pb::ProtectionCategory::Journalist.into();
        let accounts = vec![pb::ProtectedAccount { account_id: u64::MAX, category, since: None }];
        protections
            .protect_accounts(pb::ProtectAccountsRequest { accounts, context: mk_context("", "") })
            .await
            .unwrap();
        let items = mk_items([("account_id", "7"), ("handle", "@x"), ("post_id", "8"), ("hashtag", "#é\u{1f}\u{7f}")]);
        let spec =
            pb::OrderSpec { confidential_reason: "as \"told\"\n".to_owned(), ..mk_order("order", &["IN", "BR"]) };
        orders.apply_order(mk_apply(spec, items)).await.unwrap();
        let order_id = || "order".to_owned();
        let context = || mk_context("a review", "");
        orders
            .stay_order(pb::StayOrderRequest { order_id: order_id(), context: context(), validate_only: false })
            .await
            .unwrap();
        orders
            .resume_order(pb::ResumeOrderRequest { order_id: order_id(), context: context(), validate_only: false })
            .await
            .unwrap();
        let at = Some(prost_types::Timestamp { seconds: 1_612_260_000, nanos: 120_000_000 });
        let kind = pb::CorrespondenceKind::Meeting.into();
        let correspondence = Some(pb::Correspondence { kind, at, text: "they met".to_owned(), ..Default::default() });
        let note = pb::RecordCorrespondenceRequest { order_id: order_id(), correspondence, context: context() };
        orders.record_correspondence(note).await.unwrap();
        orders.apply_order(mk_apply(mk_worldwide("two"), mk_accounts([9, 10]))).await.unwrap();
        approve(&mut orders, "two").await.unwrap();
        let lift = pb::LiftOrderRequest { order_id: order_id(), context: context(), validate_only: false };
        orders.lift_order(lift).await.unwrap();
        let context = mk_context("retired", "");
        protections
            .unprotect_accounts(pb::UnprotectAccountsRequest { account_ids: vec![u64::MAX], context })
            .await
            .unwrap();
    }

    /// What `withheld journal verify` says of it with more flags.
    fn verify(&self, flags: &[&str]) -> Ended {
        withheld(&[&["journal", "verify", "--journal", &self.url()], flags].concat())
    }

    /// What `withheld journal accept` says, with these flags.
    fn accept(&self, flags: &[&str]) -> Ended {
        withheld(&[&["journal", "accept", "--journal", &self.url()], flags].concat())
    }

    /// What `withheld journal verify` says of it with its checkpoints.
    fn verify_against(&self, checkpoints: &Path) -> Ended {
        self.verify(&["--checkpoints", checkpoints.to_str().unwrap(), "--trust", &self.trust])
    }
}

/// How a command ended: exit code, standard output, standard error.
type Ended = (i32, String, String);

fn ended(command: &mut Command) -> Ended {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn withheld(args: &[&str]) -> Ended {
    ended(Command::new(BINARY).args(args))
}

/// Makes a key, and gives its public half.
fn new_key(file: &Path) -> String {
    let (code, out, err) =
        withheld(&["journal", "key", "new", "withheld.example.org", "--out", file.to_str().unwrap()]);
    assert_eq!(code, 0, "{err}");
    out.trim().to_owned()
}

/// The program that auditors are given.
fn auditor() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/auditor/verify.py")
}
