//! Whoever misbehaves is refused, or cut off, and nobody else notices: not by an error, not by a wrong verdict, and the
//! service holds no more memory and no more connections than before.
//!
//! How long others wait meanwhile is told, not judged: `cargo test --test it abuse:: -- --nocapture --test-threads 1`.

mod bystanders;
mod connections;
mod http2;
mod requests;

use tempfile::TempDir;
use withheld::pb::v1 as pb;

use crate::harness::{Service, mk_accounts, mk_apply, mk_journal, mk_order};
use crate::redis::until;
use crate::scrape::Scrape;
use bystanders::Bystanders;

/// A service with an order in force, and others who ask it.
struct Scene {
    _dir: TempDir,
    service: Service,
    others: Bystanders,
}

impl Scene {
    async fn set(flags: &[&str]) -> Self {
        let (dir, journal) = mk_journal();
        let service = Service::start_with(&journal, flags).await;
        let apply = mk_apply(mk_order("o1", &["IN"]), mk_accounts([7]));
        service.orders().await.apply_order(apply).await.unwrap();
        let others = Bystanders::asking(&service.queries).await;
        Self { _dir: dir, service, others }
    }

    /// Memory that the service has now, and connections, without those of the others.
    async fn held(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.service.pid())).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kibibytes: u64 = resident.split_whitespace().next().unwrap().parse().unwrap();
        let open = Scrape::of(&self.service).await.count("withheld_connections{listener=\"queries\"}");
        (kibibytes >> 10, open - bystanders::CONNECTIONS)
    }

    /// Once the attack is over: nothing is left of it, and the others have been answered as ever.
    async fn over(self, what: &str, outcome: impl std::fmt::Display) {
        until("the connections of the attack are gone", async || self.held().await.1 == 0).await;
        let (mebibytes, _) = self.held().await;
        assert!(mebibytes < 400, "{what}: {mebibytes} MiB");
        // Operators go on, too.
        let request = pb::GetOrderRequest { order_id: "o1".to_owned(), consistency: None };
        self.service.orders().await.get_order(request).await.unwrap();
        let waited = self.others.stop().await;
        println!("{what}: {outcome}; {waited}; {mebibytes} MiB afterwards");
        let (status, log) = {
            self.service.terminate();
            self.service.ended()
        };
        assert!(status.success(), "{log}");
        assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
    }
}
