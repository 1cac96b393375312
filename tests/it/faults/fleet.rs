//! A fleet: replicas of the service, each a real process, on one journal.
//!
//! Each is killed and started again under the eyes of clients that go on asking: a client is given the process there is
//! now, and can tell afterwards whether it was still that one.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tonic::transport::Channel;
use withheld::pb::v1::order_service_client::OrderServiceClient;
use withheld::pb::v1::protection_service_client::ProtectionServiceClient;
use withheld::pb::v1::visibility_service_client::VisibilityServiceClient;

use crate::harness::{Service, get, mk_batch, serve_on};
use crate::redis::acl::log_in_to_sentinels;
use crate::redis::{eventually, until};
use crate::scrape;
use crate::shared::create_journal;

/// The replicas; killed when dropped.
pub struct Fleet {
    replicas: Vec<Replica>,
    flags: Vec<String>,
    /// Of their snapshots.
    dir: TempDir,
}

/// One of them, over all its lives.
struct Replica {
    journal: String,
    life: Mutex<Life>,
}

#[derive(Default)]
struct Life {
    number: u32,
    /// Gone while it is down.
    running: Option<(Service, Reach)>,
    /// What it had logged before.
    logged: String,
}

/// How a process is reached.
#[derive(Clone)]
pub struct Reach {
    pub replica: usize,
    /// Which of the replica's processes, from 1.
    pub life: u32,
    pub queries: VisibilityServiceClient<Channel>,
    pub orders: OrderServiceClient<Channel>,
    http: String,
}

impl Fleet {
    /// Starts a replica for each URL, which all lead to the same journal, and waits until all are serving.
    pub async fn start(journals: impl IntoIterator<Item = String>, flags: &[&str]) -> Arc<Self> {
        let replicas: Vec<Replica> =
            journals.into_iter().map(|journal| Replica { journal, life: Mutex::default() }).collect();
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        let fleet = Self { replicas, flags, dir: TempDir::new().unwrap() };
        tokio::task::block_in_place(|| create_journal(&fleet.replicas[0].journal, &[]));
        for replica in 0..fleet.size() {
            fleet.restart(replica).await;
        }
        Arc::new(fleet)
    }

    pub const fn size(&self) -> usize {
        self.replicas.len()
    }

    /// The file of a replica's own snapshots.
    fn snapshot(&self, replica: usize) -> PathBuf {
        self.dir.path().join(format!("replica-{replica}.snapshot"))
    }

    /// The process that a replica is now; `None` while it is down.
    pub fn reach(&self, replica: usize) -> Option<Reach> {
        self.replicas[replica].life.lock().unwrap().running.as_ref().map(|(_, reach)| reach.clone())
    }

    /// A client for the protected list of a replica that is up.
    pub async fn protections(&self, replica: usize) -> ProtectionServiceClient<Channel> {
        let admin = self.replicas[replica].life.lock().unwrap().running.as_ref().unwrap().0.admin.clone();
        ProtectionServiceClient::connect(admin).await.unwrap()
    }

    /// Whether a process is still there. One that has been told to end is not: its errors are nobody's fault.
    pub fn is_up(&self, reach: &Reach) -> bool {
        self.reach(reach.replica).is_some_and(|now| now.life == reach.life)
    }

    /// The replicas that are up.
    pub fn up(&self) -> Vec<Reach> {
        (0..self.size()).filter_map(|replica| self.reach(replica)).collect()
    }

    /// kill -9, and gone when this returns.
    pub fn kill(&self, replica: usize) {
        let mut life = self.replicas[replica].life.lock().unwrap();
        let (service, _) = life.running.take().unwrap_or_else(|| panic!("replica {replica} is down already"));
        life.logged.push_str(&service.log());
        drop(life);
        service.kill();
    }

    /// Starts a replica that is down, and waits until it is serving.
    pub async fn restart(&self, replica: usize) {
        let seat = &self.replicas[replica];
        let mut command = serve_on(&seat.journal);
        command.arg("--snapshot").arg(self.snapshot(replica)).args(&self.flags);
        log_in_to_sentinels(&mut command);
        let service = Service::of(command);
        service.serving().await;
        let (queries, orders, http) = (service.visibility().await, service.orders().await, service.http.clone());
        let mut life = seat.life.lock().unwrap();
        assert!(life.running.is_none(), "replica {replica} is up already");
        life.number += 1;
        let reach = Reach { replica, life: life.number, queries, orders, http };
        life.running = Some((service, reach));
    }

    /// What a replica has logged, over all its lives.
    pub fn log(&self, replica: usize) -> String {
        let life = self.replicas[replica].life.lock().unwrap();
        life.logged.clone() + &life.running.as_ref().map(|(service, _)| service.log()).unwrap_or_default()
    }

    /// Waits until every replica that is up has reached a revision.
    pub async fn await_level(&self, revision: u64) {
        for reach in self.up() {
            until(format!("replica {} has reached revision {revision}", reach.replica), async || {
                reach.digest().await.0 >= revision
            })
            .await;
        }
    }

    /// All replicas that are up come to stand at the same revision, with the same digest of their state, and answer the
    /// same about these accounts. Nobody may be writing. Gives the revision.
    pub async fn assert_identical(&self, accounts: &[u64], countries: &[&str]) -> u64 {
        let up = self.up();
        let level = eventually("all replicas are at the same revision", async || {
            let mut digests = Vec::new();
            for reach in &up {
                digests.push(reach.digest().await);
            }
            let revision = digests.first()?.0;
            digests.iter().all(|digest| digest.0 == revision).then_some(digests)
        });
        let digests = level.await;
        assert!(digests.iter().all(|digest| *digest == digests[0]), "the replicas differ: {digests:?}");
        let revision = digests[0].0;
        for country in countries {
            let mut answers = Vec::new();
            for reach in &up {
                let asked = mk_batch(country, accounts.iter().copied());
                let mut answer = reach.queries.clone().batch_check(asked).await.unwrap().into_inner();
                assert_eq!(answer.freshness.take().unwrap().revision, revision, "somebody is writing");
                answers.push(answer);
            }
            for (reach, answer) in up.iter().zip(&answers) {
                assert_eq!(answer, &answers[0], "replicas {} and {} differ in {country}", reach.replica, up[0].replica);
            }
        }
        revision
    }
}

impl Reach {
    /// The revision and the digest of the state there, from one scrape.
    pub async fn digest(&self) -> (u64, u64) {
        let (status, text) = get(&self.http, "/metrics").await;
        assert_eq!(status, 200, "{text}");
        scrape::parse(&text).digest()
    }
}
