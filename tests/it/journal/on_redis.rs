//! The suite's backends on Redis: the same cases, with real servers behind the journal.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::cmd;
use tokio::sync::OnceCell;
use withheld::domain::ids::Revision;
use withheld::journal::redis::{Credentials, RedisJournal, RedisOptions};
use withheld::journal::{AppendError, Batch, Hash, Journal, JournalReader, Position, ReadError, Tail};

use super::{Backend, Damage, cut, flipped};
use crate::redis::acl::{SERVICE, ServiceUser};
use crate::redis::cluster::Cluster;
use crate::redis::eventually;
use crate::redis::program::ServerProgram;
use crate::redis::sentinel::SentinelGroup;
use crate::redis::servers::RedisServer;
use crate::redis::setup::Setup;

/// Servers that keep journals, each under a namespace of its own.
#[async_trait(?Send)]
pub trait Servers: Send + Sync + 'static {
    async fn mk(program: ServerProgram) -> Arc<Self>;
    /// The URL for a user who has the shipped rights in a namespace.
    async fn url_in(&self, namespace: &str) -> String;
    /// A connection with all rights to the server that takes the journal's writes.
    async fn primary(&self, key: &str) -> MultiplexedConnection;
}

#[async_trait(?Send)]
impl Servers for RedisServer {
    async fn mk(program: ServerProgram) -> Arc<Self> {
        Arc::new(Self::start_as(&Setup { program, ..Setup::default() }).await)
    }

    async fn url_in(&self, namespace: &str) -> String {
        self.url_as(&ServiceUser::in_namespace(namespace)).await
    }

    async fn primary(&self, _key: &str) -> MultiplexedConnection {
        self.connection().await.unwrap()
    }
}

/// One of each program serves the whole suite: a group takes a while to come about.
type Shared<S> = [OnceCell<Arc<S>>; ServerProgram::ALL.len()];

static GROUPS: Shared<SentinelGroup> = [const { OnceCell::const_new() }; _];

#[async_trait(?Send)]
impl Servers for SentinelGroup {
    async fn mk(program: ServerProgram) -> Arc<Self> {
        let started = async || Arc::new(Self::start_as(&Setup { program, ..Setup::default() }).await);
        Arc::clone(GROUPS[program as usize].get_or_init(started).await)
    }

    async fn url_in(&self, namespace: &str) -> String {
        self.url_as(&ServiceUser::in_namespace(namespace)).await
    }

    async fn primary(&self, _key: &str) -> MultiplexedConnection {
        self.server(Self::primary(self).await).connection().await.unwrap()
    }
}

static CLUSTERS: Shared<Cluster> = [const { OnceCell::const_new() }; _];

#[async_trait(?Send)]
impl Servers for Cluster {
    async fn mk(program: ServerProgram) -> Arc<Self> {
        let started = async || Arc::new(Self::start_as(&Setup { program, ..Setup::default() }).await);
        Arc::clone(CLUSTERS[program as usize].get_or_init(started).await)
    }

    async fn url_in(&self, namespace: &str) -> String {
        self.url_as(&ServiceUser::in_namespace(namespace).on_cluster()).await
    }

    async fn primary(&self, key: &str) -> MultiplexedConnection {
        self.node(self.owner_of_key(key).await).connection().await.unwrap()
    }
}

/// Which program the servers of a backend run.
pub trait Program: Send + Sync + 'static {
    const PROGRAM: ServerProgram;
}

pub struct DebianRedis;
pub struct Redis74;
pub struct Valkey9;

impl Program for DebianRedis {
    const PROGRAM: ServerProgram = ServerProgram::DebianRedis;
}

impl Program for Redis74 {
    const PROGRAM: ServerProgram = ServerProgram::Redis74;
}

impl Program for Valkey9 {
    const PROGRAM: ServerProgram = ServerProgram::Valkey9;
}

/// Appends once the primary is in touch with its replicas. While other tests keep the disk busy, a replica may not be heard of
/// for longer than two seconds; then nothing is written, and that is said.
struct Patient(RedisJournal);

#[async_trait]
impl Journal for Patient {
    async fn append(&self, expected: Position, payloads: Vec<Vec<u8>>) -> Result<Position, AppendError> {
        eventually("the replicas are in touch", async || match self.0.append(expected, payloads.clone()).await {
            Err(AppendError::TooFewReplicas(_)) => None,
            outcome => Some(outcome),
        })
        .await
    }
}

#[async_trait]
impl JournalReader for Patient {
    async fn read(&self, after: Position, limit: usize) -> Result<Batch, ReadError> {
        self.0.read(after, limit).await
    }

    async fn tail(&self) -> Result<Tail, ReadError> {
        self.0.tail().await
    }

    async fn position(&self, revision: Revision) -> Result<Option<Position>, ReadError> {
        self.0.position(revision).await
    }

    async fn examine(&self) -> Result<(), ReadError> {
        self.0.examine().await
    }

    async fn wait_for_append(&self, seen: Revision) {
        self.0.wait_for_append(seen).await;
    }
}

pub type OneServer<P> = OnRedis<RedisServer, P>;
pub type UnderSentinels<P> = OnRedis<SentinelGroup, P>;
pub type InCluster<P> = OnRedis<Cluster, P>;

/// A journal on such servers.
pub struct OnRedis<S, P> {
    servers: Arc<S>,
    namespace: String,
    url: String,
    program: PhantomData<P>,
}

/// How the journals of the tests are set up: patient, because many tests share a machine.
pub fn mk_options(url: &str, namespace: &str) -> RedisOptions {
    RedisOptions {
        namespace: namespace.to_owned(),
        timeout: Duration::from_secs(20),
        sentinel_credentials: Credentials {
            user: Some(SERVICE.name.to_owned()),
            password: Some(SERVICE.password.to_owned()),
        },
        ..RedisOptions::new(url.parse().unwrap())
    }
}

#[async_trait(?Send)]
impl<S: Servers, P: Program> Backend for OnRedis<S, P> {
    async fn mk() -> Self {
        static NAMES: AtomicU64 = AtomicU64::new(0);
        let namespace = format!("suite-{}", NAMES.fetch_add(1, Ordering::Relaxed));
        let servers = S::mk(P::PROGRAM).await;
        let url = servers.url_in(&namespace).await;
        Self { servers, namespace, url, program: PhantomData }
    }

    async fn open(&self) -> Arc<dyn Journal> {
        let journal = RedisJournal::open(mk_options(&self.url, &self.namespace)).unwrap();
        journal.connected().await;
        Arc::new(Patient(journal))
    }

    async fn damage(&self, damage: Damage) {
        let key = format!("{{{}}}:journal", self.namespace);
        let mut redis = self.servers.primary(&key).await;
        let entries: Vec<(String, Vec<Vec<u8>>)> =
            cmd("XRANGE").arg(&key).arg("-").arg("+").query_async(&mut redis).await.unwrap();
        let mut rows: Vec<(String, Vec<u8>, Vec<u8>)> = Vec::new();
        for (id, fields) in entries {
            rows.push((id, fields[1].clone(), fields[3].clone()));
        }
        let at = |revision: u64| usize::try_from(revision - 1).unwrap();
        match damage {
            Damage::PayloadBit(n) => rows[at(n)].2 = flipped(rows[at(n)].2.clone()),
            Damage::HashBit(n) => rows[at(n)].1 = flipped(rows[at(n)].1.clone()),
            Damage::PayloadCut(n) => rows[at(n)].2 = cut(rows[at(n)].2.clone()),
            Damage::Missing(n) => drop(rows.remove(at(n))),
            Damage::Swapped(n) => {
                let (one, other) = (rows[at(n)].clone(), rows[at(n + 1)].clone());
                rows[at(n)] = (one.0, other.1, other.2);
                rows[at(n + 1)] = (other.0, one.1, one.2);
            }
            Damage::Replaced(n) => {
                let before = Hash::from_bytes(rows[at(n - 1)].1.clone().try_into().unwrap());
                rows[at(n)] = (rows[at(n)].0.clone(), before.chain(b"forged").as_bytes().to_vec(), b"forged".to_vec());
            }
        }
        let mut rewrite = redis::pipe();
        rewrite.atomic().cmd("DEL").arg(&key);
        for (id, hash, payload) in rows {
            rewrite.cmd("XADD").arg(&key).arg(id).arg("h").arg(hash).arg("p").arg(payload);
        }
        rewrite.exec_async(&mut redis).await.unwrap();
    }
}
