//! Whoever misbehaves is refused, or cut off, and nobody else notices: not by an error, not by a wrong verdict, and the
//! service holds no more memory and no more connections than before.
//!
//! How long others wait meanwhile is told, not judged: `cargo test --test it abuse:: -- --nocapture --test-threads 1`.

mod bystanders;
mod connections;
mod fields;
mod flow;
mod http2;
mod letter;
mod replays;
mod requests;
mod resets;
mod slow;
mod unread;

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
    before: Footprint,
}

/// More than this an attack must not have the service hold, while it goes on or after it.
const MOST_MEBIBYTES: u64 = 160;

/// What a process holds.
#[derive(Debug, Clone, Copy)]
struct Footprint {
    mebibytes: u64,
    /// The most it has been since the process was told to forget.
    peak: u64,
    descriptors: usize,
}

impl Footprint {
    fn of(service: &Service) -> Self {
        let process = format!("/proc/{}", service.pid());
        let status = std::fs::read_to_string(format!("{process}/status")).unwrap();
        let kibibytes = |key: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        let descriptors = std::fs::read_dir(format!("{process}/fd")).unwrap().count();
        Self { mebibytes: kibibytes("VmRSS:") >> 10, peak: kibibytes("VmHWM:") >> 10, descriptors }
    }

    /// From now on, operators having gone.
    async fn begin(service: &Service) -> Self {
        let open = "withheld_connections{listener=\"admin\"}";
        until("operators have gone", async || Scrape::of(service).await.count(open) == 0).await;
        std::fs::write(format!("/proc/{}/clear_refs", service.pid()), "5").unwrap();
        Self::of(service)
    }
}

impl Scene {
    async fn set(flags: &[&str]) -> Self {
        let (dir, journal) = mk_journal();
        let service = Service::start_with(&journal, flags).await;
        let apply = mk_apply(mk_order("o1", &["IN"]), mk_accounts([7]));
        service.orders().await.apply_order(apply).await.unwrap();
        let others = Bystanders::asking(&service.queries).await;
        // Each of them has its connection: one that is made later would be taken for what the attack has left.
        let open = "withheld_connections{listener=\"queries\"}";
        until("the others are there", async || Scrape::of(&service).await.count(open) == bystanders::CONNECTIONS).await;
        let before = Footprint::begin(&service).await;
        Self { _dir: dir, service, others, before }
    }

    /// Memory that the service has now, and connections, without those of the others.
    async fn held(&self) -> (u64, u64) {
        let open = Scrape::of(&self.service).await.count("withheld_connections{listener=\"queries\"}");
        (Footprint::of(&self.service).mebibytes, open - bystanders::CONNECTIONS)
    }

    /// Once the attack is over: nothing is left of it, and the others have been answered as ever.
    async fn over(self, what: &str, outcome: impl std::fmt::Display) {
        until("the connections of the attack are gone", async || self.held().await.1 == 0).await;
        until("its descriptors are", async || Footprint::of(&self.service).descriptors <= self.before.descriptors)
            .await;
        let (before, after) = (self.before, Footprint::of(&self.service));
        let peak = after.peak.saturating_sub(before.mebibytes);
        assert!(peak < MOST_MEBIBYTES, "{what}: {peak} MiB more: {before:?}, {after:?}");
        // Operators go on, too.
        let request = pb::GetOrderRequest { order_id: "o1".to_owned(), consistency: None };
        self.service.orders().await.get_order(request).await.unwrap();
        let waited = self.others.stop().await;
        println!("{what}: {outcome}; {waited}; {} MiB before, {peak} more at most", before.mebibytes);
        let (status, log) = {
            self.service.terminate();
            self.service.ended()
        };
        assert!(status.success(), "{log}");
        assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
    }
}
