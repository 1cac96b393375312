//! A cluster of three primaries with a replica each.
//!
//! It is put together by hand, as `redis-cli --cluster create` does, which sleeps in between.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;

use redis::Value;

use self::migration::SlotMove;
use super::acl::ServiceUser;
use super::ports::Port;
use super::proxy::Proxy;
use super::servers::RedisServer;
use super::setup::Setup;
use super::{eventually, loopback, until};

const PRIMARIES: usize = 3;
const NODES: usize = 6;
const SLOTS: usize = 16_384;

/// After how many milliseconds a silent node is replaced. Shorter, and a busy machine is taken for a failure.
const NODE_TIMEOUT: u16 = 1_500;

/// The cluster; killed when dropped.
pub struct Cluster {
    nodes: Vec<RedisServer>,
    /// The nodes' names for themselves.
    ids: Vec<String>,
    /// Where the nodes talk among themselves.
    buses: Vec<Port>,
    /// In front of each node and of its talk, or none.
    proxies: Vec<NodeProxies>,
    scheme: &'static str,
}

struct NodeProxies {
    node: Proxy,
    bus: Proxy,
}

/// How a node sees one of the cluster.
struct Seen {
    flags: BTreeSet<String>,
    slots: Vec<(usize, usize)>,
}

impl Cluster {
    /// Starts one, ready and level: nodes 0 to 2 are primaries, node `i + 3` the replica of node `i`.
    pub async fn start() -> Self {
        Self::start_as(&Setup::default()).await
    }

    /// The same with more lines in the nodes' configuration.
    pub async fn start_with(lines: &[&str]) -> Self {
        Self::start_as(&Setup { lines, ..Setup::default() }).await
    }

    /// The same of any kind.
    pub async fn start_as(setup: &Setup<'_>) -> Self {
        Self::mk(false, setup).await
    }

    /// The same; clients and nodes reach each node through its proxies.
    pub async fn start_proxied() -> Self {
        Self::mk(true, &Setup::default()).await
    }

    async fn mk(proxied: bool, setup: &Setup<'_>) -> Self {
        let scheme = if setup.tls.is_some() { "rediss" } else { "redis" };
        let mut cluster = Self { nodes: Vec::new(), ids: Vec::new(), buses: Vec::new(), proxies: Vec::new(), scheme };
        for i in 0..NODES {
            let (port, bus) = (Port::reserve(), Port::reserve());
            let mut lines = setup.all_lines(&port);
            if setup.tls.is_some() {
                lines.push("tls-cluster yes".to_owned());
            }
            lines.extend([
                "cluster-enabled yes".to_owned(),
                format!("cluster-port {}", bus.number()),
                format!("cluster-node-timeout {NODE_TIMEOUT}"),
                // However long it was behind, there is no better one.
                "cluster-replica-validity-factor 0".to_owned(),
                // Each stays the replica of whom it was told.
                "cluster-allow-replica-migration no".to_owned(),
                format!("bind-source-addr {}", source(i)),
                // Else it is looked for where it speaks from.
                "cluster-announce-ip 127.0.0.1".to_owned(),
            ]);
            if proxied {
                let proxies = NodeProxies { node: Proxy::start(port.number()), bus: Proxy::start(bus.number()) };
                lines.push(format!("cluster-announce-port {}", proxies.node.port()));
                lines.push(format!("cluster-announce-bus-port {}", proxies.bus.port()));
                cluster.proxies.push(proxies);
            }
            let node = RedisServer::start_on(port, setup, ServiceUser::shipped().on_cluster(), &lines).await;
            cluster.ids.push(node.ask(&["CLUSTER", "MYID"]).await);
            cluster.nodes.push(node);
            cluster.buses.push(bus);
        }
        cluster.put_together().await;
        cluster.ready().await;
        cluster
    }

    async fn put_together(&self) {
        for (i, primary) in self.nodes[..PRIMARIES].iter().enumerate() {
            let (first, last) = (SLOTS * i / PRIMARIES, SLOTS * (i + 1) / PRIMARIES - 1);
            primary.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(i + 1).to_string()]).await;
            primary.command(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await;
        }
        // Everybody meets everybody: left to gossip, it takes seconds.
        for (i, node) in self.nodes.iter().enumerate() {
            for other in i + 1..NODES {
                let (port, bus) = self.announced(other);
                node.command(&["CLUSTER", "MEET", "127.0.0.1", &port.to_string(), &bus.to_string()]).await;
            }
        }
        for (i, node) in self.nodes.iter().enumerate() {
            let knows_all = async || self.seen_by(i).await.is_some_and(|seen| seen.len() == NODES);
            until(format!("node {i} knows the others"), knows_all).await;
            if let Some(primary) = i.checked_sub(PRIMARIES) {
                node.command(&["CLUSTER", "REPLICATE", &self.ids[primary]]).await;
            }
        }
    }

    /// The ports by which the others know a node: its own, and that of its talk.
    fn announced(&self, i: usize) -> (u16, u16) {
        let own = || (self.nodes[i].port(), self.buses[i].number());
        self.proxies.get(i).map_or_else(own, |proxies| (proxies.node.port(), proxies.bus.port()))
    }

    /// Waits until every node that is up finds the cluster in order, nobody is thought to fail but those that are down,
    /// and each replica is level with its primary.
    pub async fn ready(&self) {
        let up: Vec<usize> = (0..NODES).filter(|&i| self.nodes[i].is_up()).collect();
        for &i in &up {
            until(format!("node {i} finds the cluster in order"), async || self.finds_order(i, &up).await).await;
        }
    }

    async fn finds_order(&self, i: usize, up: &[usize]) -> bool {
        let state: String = self.nodes[i].ask(&["CLUSTER", "INFO"]).await;
        let Some(seen) = self.seen_by(i).await else { return false };
        let well = |n: &usize| {
            seen.get(n)
                .is_some_and(|node| !["fail", "fail?", "handshake"].iter().any(|flag| node.flags.contains(*flag)))
        };
        if !state.contains("cluster_state:ok") || !up.iter().all(well) {
            return false;
        }
        let info = self.nodes[i].info("replication").await;
        // The replicas say whether they are linked; the primaries, whether they know of theirs.
        let linked = info["role"] == "slave" && info["master_link_status"] == "up";
        let replica = (i + PRIMARIES) % NODES;
        linked || info["role"] == "master" && (!up.contains(&replica) || info["connected_slaves"] == "1")
    }

    /// How a node sees the cluster, by node; `None` if it does not answer.
    async fn seen_by(&self, i: usize) -> Option<HashMap<usize, Seen>> {
        let text: String = self.nodes[i].ask_soon(&["CLUSTER", "NODES"]).await?;
        // <id> <address> <flags> <primary> <ping> <pong> <epoch> <link> <slot or range or [migration]>…
        let line = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            let node = self.ids.iter().position(|id| id == words[0])?;
            let range = |word: &&str| {
                let (first, last) = word.split_once('-').unwrap_or((word, word));
                Some((first.parse().ok()?, last.parse().ok()?))
            };
            let slots = words[8..].iter().filter_map(range).collect();
            Some((node, Seen { flags: words[2].split(',').map(str::to_owned).collect(), slots }))
        };
        Some(text.lines().filter_map(line).collect())
    }

    /// Where the service finds it.
    pub fn url(&self) -> String {
        self.url_by(&ServiceUser::shipped())
    }

    /// The URL for another user, who is there from now on.
    pub async fn url_as(&self, service: &ServiceUser) -> String {
        for node in &self.nodes {
            node.add_user(service).await;
        }
        self.url_by(service)
    }

    fn url_by(&self, service: &ServiceUser) -> String {
        let nodes: Vec<String> = (0..NODES).map(|i| format!("127.0.0.1:{}", self.announced(i).0)).collect();
        format!("{}+cluster://{}{}", self.scheme, service.login(), nodes.join(","))
    }

    pub fn node(&self, i: usize) -> &RedisServer {
        &self.nodes[i]
    }

    /// The proxy in front of a node, in a cluster that was started with them.
    pub fn proxy(&self, i: usize) -> &Proxy {
        &self.proxies[i].node
    }

    /// Cuts a node off from the other nodes, in a cluster with proxies. Clients still reach it: a primary goes on
    /// acknowledging for a while what its heir never hears of.
    pub fn isolate(&self, i: usize) {
        for other in (0..NODES).filter(|&other| other != i) {
            for (walled, from) in [(i, other), (other, i)] {
                let NodeProxies { node, bus } = &self.proxies[walled];
                node.wall_off(source(from));
                bus.wall_off(source(from));
            }
        }
    }

    /// Takes back everything that was done to the proxies.
    pub fn heal(&self) {
        for NodeProxies { node, bus } in &self.proxies {
            node.heal();
            bus.heal();
        }
    }

    /// The slot of a key, by the tag in its braces if it has one.
    pub async fn slot_of(&self, key: &str) -> usize {
        let up = self.nodes.iter().find(|node| node.is_up()).unwrap();
        up.ask(&["CLUSTER", "KEYSLOT", key]).await
    }

    /// The node that owns a key's slot, up or not, as more than half of the nodes see it.
    pub async fn owner_of_key(&self, key: &str) -> usize {
        let slot = self.slot_of(key).await;
        eventually(format!("the nodes agree who owns slot {slot}"), async || self.owner_of_slot(slot).await).await
    }

    async fn owner_of_slot(&self, slot: usize) -> Option<usize> {
        let mut votes = HashMap::<usize, usize>::new();
        for (i, node) in self.nodes.iter().enumerate() {
            let Some(seen) = (if node.is_up() { self.seen_by(i).await } else { None }) else { continue };
            let owns = |seen: &Seen| seen.slots.iter().any(|&(first, last)| (first..=last).contains(&slot));
            if let Some((owner, _)) = seen.into_iter().find(|(_, seen)| owns(seen)) {
                *votes.entry(owner).or_default() += 1;
            }
        }
        votes.into_iter().find(|&(_, votes)| votes > NODES / 2).map(|(owner, _)| owner)
    }

    /// Kills the owner of a key, and tells which it was.
    pub async fn kill_owner(&self, key: &str) -> usize {
        let owner = self.owner_of_key(key).await;
        self.nodes[owner].kill();
        owner
    }

    /// Waits until another node owns a key and answers for it, and tells which.
    pub async fn await_new_owner(&self, key: &str, from: usize) -> usize {
        let slot = self.slot_of(key).await;
        eventually(format!("another owner than node {from}"), async || {
            let owner = self.owner_of_slot(slot).await.filter(|&owner| owner != from)?;
            // It says that the cluster is down until it has heard from most of the others.
            self.nodes[owner].ask_soon::<Value>(&["EXISTS", key]).await.map(|_| owner)
        })
        .await
    }

    /// Waits until the owner's replica, if it is up, has all that the owner of a key has written until now.
    pub async fn replicas_in_sync(&self, key: &str) {
        let owner = self.owner_of_key(key).await;
        for replica in [owner % PRIMARIES, owner % PRIMARIES + PRIMARIES].into_iter().filter(|&i| i != owner) {
            if self.nodes[replica].is_up() {
                self.nodes[replica].catch_up_with(&self.nodes[owner]).await;
            }
        }
    }

    /// Starts a node again, and waits until the cluster is in order.
    pub async fn restart(&self, i: usize) {
        self.nodes[i].restart().await;
        self.ready().await;
    }

    /// Moves a key's slot, and all that is in it, to another primary.
    pub async fn move_slot(&self, key: &str, to: usize) {
        let migration = self.begin_move(key, to).await;
        migration.move_keys(usize::MAX).await;
        migration.finish().await;
    }

    /// The first step of it, for a look at what is between: the old owner sends on whoever asks for what it has not
    /// (ASK), and a script whose keys are on both sides is told to try again (TRYAGAIN).
    pub async fn begin_move(&self, key: &str, to: usize) -> SlotMove<'_> {
        let (slot, from) = (self.slot_of(key).await.to_string(), self.owner_of_key(key).await);
        self.nodes[to].command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &self.ids[from]]).await;
        self.nodes[from].command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &self.ids[to]]).await;
        SlotMove { cluster: self, slot, from, to }
    }
}

/// The address from which a node connects to the others.
const fn source(i: usize) -> Ipv4Addr {
    loopback(30, i)
}

mod migration;
mod tests;
