//! A primary and two replicas under the eyes of three Sentinels.
//!
//! Every process speaks from a loopback address of its own, and optionally is reached through a proxy, so that any of
//! them can be partitioned from any other while clients, at 127.0.0.1, still reach it.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::ops::Range;

use redis::Value;

use super::acl::ServiceUser;
use super::ports::Port;
use super::proxy::Proxy;
use super::servers::RedisServer;
use super::setup::Setup;
use super::{eventually, loopback, until};

/// What the group is called, in deploy/redis/sentinel.conf too.
pub const NAME: &str = "withheld";

const SERVERS: Range<usize> = 0..3;
const SENTINELS: Range<usize> = 0..3;
/// How many Sentinels it takes to agree.
const QUORUM: usize = 2;

/// How many milliseconds a primary must be silent for each of the Sentinels. Shorter, and a busy disk is taken for a
/// failure. The same for all three, and each votes for itself, so that nobody is elected and all wait to try again.
const DOWN_AFTER: [u16; 3] = [600, 750, 1_000];

/// Sentinel looks around every ten, two and one seconds. So often, it learns of everything at once; what it does about
/// it stays the same. Pings no more often than this: a replica that was not heard of for five of them is not promoted,
/// and while the primary is down Sentinel asks it no more than once a second.
const LOOK_OFTEN: &[&str] = &[
    "info-period",
    "200",
    "ask-period",
    "100",
    "ping-period",
    "400",
    "publish-period",
    "200",
    "election-timeout",
    "2000",
];

/// The group; killed when dropped.
pub struct SentinelGroup {
    sentinels: Vec<RedisServer>,
    servers: Vec<RedisServer>,
    /// One for each server, or none.
    proxies: Vec<Proxy>,
    scheme: &'static str,
}

impl SentinelGroup {
    /// Starts one, in which server 0 is the primary, and waits until everybody knows everybody.
    pub async fn start() -> Self {
        Self::start_as(&Setup::default()).await
    }

    /// The same with more lines in the servers' configuration.
    pub async fn start_with(lines: &[&str]) -> Self {
        Self::start_as(&Setup { lines, ..Setup::default() }).await
    }

    /// The same of any kind.
    pub async fn start_as(setup: &Setup<'_>) -> Self {
        Self::mk(false, setup).await
    }

    /// The same; clients, Sentinels and replicas reach each server through its proxy.
    pub async fn start_proxied() -> Self {
        Self::mk(true, &Setup::default()).await
    }

    async fn mk(proxied: bool, setup: &Setup<'_>) -> Self {
        let scheme = if setup.tls.is_some() { "rediss" } else { "redis" };
        let mut group = Self { sentinels: Vec::new(), servers: Vec::new(), proxies: Vec::new(), scheme };
        for i in SERVERS {
            let port = Port::reserve();
            let mut lines = setup.all_lines(&port);
            lines.push(format!("bind-source-addr {}", group.source(i)));
            // Else it is looked for where it speaks from.
            lines.push("replica-announce-ip 127.0.0.1".to_owned());
            if proxied {
                let proxy = Proxy::start(port.number());
                lines.push(format!("replica-announce-port {}", proxy.port()));
                group.proxies.push(proxy);
            }
            group.servers.push(RedisServer::start_on(port, setup, ServiceUser::shipped(), &lines).await);
        }
        let primary = group.announced(0).to_string();
        for replica in &group.servers[1..] {
            replica.command(&["REPLICAOF", "127.0.0.1", &primary]).await;
        }
        for replica in &group.servers[1..] {
            replica.catch_up_with(&group.servers[0]).await;
        }
        for i in SENTINELS {
            let lines = [
                format!("bind-source-addr {}", group.sentinel_source(i)),
                "sentinel announce-ip 127.0.0.1".to_owned(),
                format!("sentinel monitor {NAME} 127.0.0.1 {primary} {QUORUM}"),
                format!("sentinel down-after-milliseconds {NAME} {}", DOWN_AFTER[i]),
                format!("sentinel failover-timeout {NAME} 1000"),
                format!("sentinel parallel-syncs {NAME} 2"),
            ];
            let sentinel = RedisServer::start_sentinel(setup, &lines).await;
            look_often(&sentinel).await;
            group.sentinels.push(sentinel);
        }
        group.settled().await;
        group
    }

    /// Where the service finds it.
    pub fn url(&self) -> String {
        self.url_by(&ServiceUser::shipped())
    }

    /// The URL for another user, who is there from now on. To the Sentinels the service is who it always is.
    pub async fn url_as(&self, service: &ServiceUser) -> String {
        for server in &self.servers {
            server.add_user(service).await;
        }
        self.url_by(service)
    }

    fn url_by(&self, service: &ServiceUser) -> String {
        let sentinels: Vec<String> = self.sentinels.iter().map(|one| format!("127.0.0.1:{}", one.port())).collect();
        format!("{}+sentinel://{}{}/{NAME}", self.scheme, service.login(), sentinels.join(","))
    }

    pub fn server(&self, i: usize) -> &RedisServer {
        &self.servers[i]
    }

    pub fn sentinel(&self, i: usize) -> &RedisServer {
        &self.sentinels[i]
    }

    /// The proxy in front of a server, in a group that was started with them.
    pub fn proxy(&self, i: usize) -> &Proxy {
        &self.proxies[i]
    }

    /// The port by which Sentinel knows a server.
    fn announced(&self, i: usize) -> u16 {
        self.proxies.get(i).map_or_else(|| self.servers[i].port(), Proxy::port)
    }

    /// The address from which a server connects to the others.
    pub fn source(&self, i: usize) -> Ipv4Addr {
        loopback(10, i)
    }

    /// The address from which a Sentinel connects to the others.
    pub fn sentinel_source(&self, i: usize) -> Ipv4Addr {
        loopback(20, i)
    }

    /// The primary by the word of the Sentinels: most of those that answer, and no fewer than it takes to agree.
    pub async fn primary(&self) -> usize {
        eventually("the Sentinels agree on the primary", async || self.named_primary().await).await
    }

    async fn named_primary(&self) -> Option<usize> {
        let mut votes = HashMap::<usize, usize>::new();
        for sentinel in &self.sentinels {
            let named = sentinel.ask_soon::<Vec<String>>(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]);
            // One that is down or paused has no vote.
            let Some(address) = named.await else { continue };
            let named = { SERVERS }.find(|&i| address[1] == self.announced(i).to_string());
            *votes.entry(named.unwrap()).or_default() += 1;
        }
        votes.into_iter().find(|&(_, votes)| votes >= QUORUM).map(|(named, _)| named)
    }

    /// Kills the primary, and tells which it was.
    pub async fn kill_primary(&self) -> usize {
        let primary = self.primary().await;
        self.servers[primary].kill();
        primary
    }

    /// Waits until another server is the primary by the word of the Sentinels and its own, and tells which.
    pub async fn await_failover(&self, from: usize) -> usize {
        eventually(format!("another primary than server {from}"), async || {
            let named = self.named_primary().await.filter(|&named| named != from)?;
            let role: Vec<Value> = self.servers[named].ask_soon(&["ROLE"]).await?;
            (role.first() == Some(&Value::BulkString(b"master".into()))).then_some(named)
        })
        .await
    }

    /// Starts a server again, and waits until the Sentinels have made it a replica (or it is the primary still).
    pub async fn restart(&self, i: usize) {
        self.servers[i].restart().await;
        self.replicas_in_sync().await;
    }

    /// Starts a Sentinel again.
    pub async fn restart_sentinel(&self, i: usize) {
        self.sentinels[i].restart().await;
        look_often(&self.sentinels[i]).await;
        self.settled().await;
    }

    /// Waits until each server that is up, but the primary, has all that the primary has written until now.
    pub async fn replicas_in_sync(&self) {
        let primary = self.primary().await;
        for replica in SERVERS.filter(|&i| i != primary && self.servers[i].is_up()) {
            self.servers[replica].catch_up_with(&self.servers[primary]).await;
        }
    }

    /// Waits until every Sentinel knows the others and both replicas, and finds all of them well.
    async fn settled(&self) {
        for sentinel in &self.sentinels {
            until("a Sentinel knows the others and the replicas", async || {
                let known: HashMap<String, String> = sentinel.ask(&["SENTINEL", "MASTER", NAME]).await;
                let replicas: Vec<HashMap<String, String>> = sentinel.ask(&["SENTINEL", "REPLICAS", NAME]).await;
                known["flags"] == "master"
                    && known["num-other-sentinels"] == "2"
                    && known["num-slaves"] == "2"
                    && replicas.iter().all(|one| one["flags"] == "slave" && one["master-link-status"] == "ok")
            })
            .await;
        }
    }

    /// Cuts a server off from the other servers and the Sentinels, in a group with proxies. Clients still reach it: a
    /// primary goes on acknowledging what the next primary never hears of.
    pub fn isolate(&self, i: usize) {
        for other in SERVERS.filter(|&other| other != i) {
            self.proxies[i].wall_off(self.source(other));
            self.proxies[other].wall_off(self.source(i));
        }
        SENTINELS.for_each(|sentinel| self.proxies[i].wall_off(self.sentinel_source(sentinel)));
    }

    /// Takes back everything that was done to the proxies.
    pub fn heal(&self) {
        self.proxies.iter().for_each(Proxy::heal);
    }
}

async fn look_often(sentinel: &RedisServer) {
    sentinel.command(&[&["SENTINEL", "DEBUG"], LOOK_OFTEN].concat()).await;
}

mod tests;
