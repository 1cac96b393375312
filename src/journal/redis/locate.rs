//! Finds the one server that takes writes, the primary, and asks whether it still is the one.
//!
//! Sentinels are all asked, and the answer of the latest configuration counts: one that was cut off still names the old
//! primary. In a cluster it is the node that has the slot of the journal's keys, as the nodes of the latest epoch say.
//! Whoever could make another server the primary is a *voter*: only what a majority of voters says is certain.
//! The driver's own Sentinel and cluster clients are not used: they do not follow a failover, or send WAIT to everybody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::task::JoinSet;

use super::connection::{CallError, Connector, call_all};
use super::options::{Credentials, Node, RedisOptions, Topology};
use crate::journal::error::{Peer, UnreachableCause, UnreachableKind};
use crate::telemetry::causes;

/// How long a voter may take to answer.
const LIMIT: Duration = Duration::from_millis(500);

/// The primary, as far as anybody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Located {
    /// Where it is.
    pub(super) node: Node,
    /// Whether a majority of the voters says so.
    pub(super) majority: bool,
    /// The configuration in which it became the primary: each failover makes a later one.
    pub(super) epoch: u64,
    /// How many servers there are, the primary and its replicas, if those asked know.
    pub(super) servers: Option<usize>,
}

/// Why there is no primary to be found.
#[derive(Debug, thiserror::Error)]
pub(super) enum LocateError {
    #[error("none of the {asked} Sentinels answers{}", said(.last))]
    NoSentinel { asked: usize, last: Option<Silent> },
    #[error(
        "`{named}` of the {known} Sentinels are named in the URL: name all, for only a majority can say which server is the primary"
    )]
    TooFewNamed { named: usize, known: usize },
    #[error("no Sentinel knows a primary called `{0}`")]
    UnknownName(String),
    #[error("none of the {asked} cluster nodes known knows who has the journal's slot{}", said(.last))]
    NoNode { asked: usize, last: Option<Silent> },
}

/// Why one of those asked did not answer.
#[derive(Debug)]
pub(super) struct Silent {
    kind: UnreachableKind,
    why: String,
}

fn said(last: &Option<Silent>) -> String {
    last.as_ref().map(|last| format!(": {}", last.why)).unwrap_or_default()
}

impl LocateError {
    /// What kind of cause it is, and on whose side.
    pub(super) fn cause(&self) -> UnreachableCause {
        let kind = |last: &Option<Silent>| last.as_ref().map_or(UnreachableKind::Other, |last| last.kind);
        let (peer, kind) = match self {
            Self::NoSentinel { last, .. } => (Peer::Sentinel, kind(last)),
            Self::NoNode { last, .. } => (Peer::ClusterNode, kind(last)),
            Self::TooFewNamed { .. } => (Peer::Sentinel, UnreachableKind::TooFewNamed),
            Self::UnknownName(_) => (Peer::Sentinel, UnreachableKind::UnknownPrimary),
        };
        UnreachableCause { peer, kind }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Locator {
    topology: Topology,
    connector: Connector,
    /// Who the service is to those it asks.
    who: Credentials,
    /// A key of the journal: it says which slot is meant.
    key: String,
    /// Connections to those it asks, kept from one time to the next.
    connections: Arc<Connections>,
    /// Cluster nodes that others have told of, and which of them vote.
    told: Mutex<Told>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Told {
    nodes: BTreeSet<Node>,
    voters: BTreeSet<Node>,
}

/// What one of those asked says.
struct Answer {
    /// By which the latest answer is told.
    version: u64,
    primary: Node,
    /// In which the primary became it, if the one asked knows.
    epoch: Option<u64>,
    servers: usize,
    /// How many voters there are, if those asked are Sentinels.
    sentinels: usize,
    told: Told,
}

/// What came of asking one of them.
type Asked = (Node, Result<Option<Answer>, CallError>);

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        Value::VerbatimString { text, .. } => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The pairs of an answer that is a list of names and values; what is no text is left out.
pub(super) fn fields(value: &Value) -> BTreeMap<String, String> {
    match value {
        Value::Array(list) => {
            list.chunks_exact(2).filter_map(|pair| Some((text(pair.first()?)?, text(pair.last()?)?))).collect()
        }
        Value::Map(pairs) => pairs.iter().filter_map(|(key, value)| Some((text(key)?, text(value)?))).collect(),
        _ => BTreeMap::new(),
    }
}

/// A line `key:value` of an INFO-like text.
pub(super) fn info_field<'a>(info: &'a str, key: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

fn info_number<T: std::str::FromStr>(info: &str, key: &str) -> Option<T> {
    info_field(info, key)?.parse().ok()
}

async fn ask_sentinel(connection: MultiplexedConnection, name: String) -> Result<Option<Answer>, CallError> {
    let mut questions = redis::pipe();
    questions.cmd("SENTINEL").arg("MASTER").arg(&name);
    // Not read off the above: who leads a failover shows the old primary there, under the new epoch, until all replicas
    // follow the new one.
    questions.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&name);
    let mut answers = call_all(&connection, &mut questions, LIMIT).await?.into_iter();
    let known = match answers.next() {
        Some(Ok(known)) => fields(&known),
        // It answers, and does not know the name.
        Some(Err(CallError::Refused(error))) if error.code() == Some("ERR") => return Ok(None),
        Some(Err(error)) => return Err(error),
        None => return Ok(None),
    };
    let Some(Value::Array(address)) = answers.next().transpose()? else { return Ok(None) };
    let [host, port] = address.as_slice() else { return Ok(None) };
    let Some(primary) = text(host).zip(text(port).and_then(|port| port.parse().ok())) else { return Ok(None) };
    let number = |key| known.get(key).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    let count = |key| usize::try_from(number(key)).unwrap_or(usize::MAX).saturating_add(1);
    Ok(Some(Answer {
        version: number("config-epoch"),
        primary,
        epoch: Some(number("config-epoch")),
        servers: count("num-slaves"),
        sentinels: count("num-other-sentinels"),
        told: Told::default(),
    }))
}

async fn ask_node(connection: MultiplexedConnection, asked: Node, key: String) -> Result<Option<Answer>, CallError> {
    let mut questions = redis::pipe();
    questions.cmd("CLUSTER").arg("INFO");
    questions.cmd("CLUSTER").arg("KEYSLOT").arg(&key);
    questions.cmd("CLUSTER").arg("SLOTS");
    let answers = call_all(&connection, &mut questions, LIMIT).await?;
    let answers = answers.into_iter().collect::<Result<Vec<Value>, CallError>>()?;
    let [info, Value::Int(slot), Value::Array(slots)] = answers.as_slice() else { return Ok(None) };
    let info = text(info).unwrap_or_default();
    if info_field(&info, "cluster_state") != Some("ok") {
        return Ok(None);
    }
    let node = |value: &Value| {
        let Value::Array(parts) = value else { return None };
        let port = u16::try_from(text(parts.get(1)?)?.parse::<u32>().ok()?).ok()?;
        // A node that does not know its own address leaves it out.
        let host = parts.first().and_then(text).filter(|host| !host.is_empty()).unwrap_or_else(|| asked.0.clone());
        Some((host, port))
    };
    let (mut primary, mut servers, mut told) = (None, 0, Told::default());
    for range in slots {
        let Value::Array(range) = range else { continue };
        let [Value::Int(from), Value::Int(to), holders @ ..] = range.as_slice() else { continue };
        let holders: Vec<Node> = holders.iter().filter_map(node).collect();
        if (*from..=*to).contains(slot) {
            (primary, servers) = (holders.first().cloned(), holders.len());
        }
        told.voters.extend(holders.first().cloned());
        told.nodes.extend(holders);
    }
    // Only the primary itself tells the epoch of its own configuration.
    let own = primary.as_ref() == Some(&asked);
    let epoch = own.then(|| info_number(&info, "cluster_my_epoch")).flatten();
    let version = info_number(&info, "cluster_current_epoch").unwrap_or_default();
    Ok(primary.map(|primary| Answer { version, primary, epoch, servers, sentinels: 0, told }))
}

impl Locator {
    pub(super) fn new(options: &RedisOptions, connector: Connector, key: String) -> Self {
        let who = match options.url.topology {
            Topology::Single(_) | Topology::Cluster(_) => options.url.credentials.clone(),
            Topology::Sentinel { .. } => options.sentinel_credentials.clone(),
        };
        let topology = options.url.topology.clone();
        Self { topology, connector, who, key, connections: Arc::default(), told: Mutex::default() }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the primary is now.
    pub(super) async fn locate(&self) -> Result<Located, LocateError> {
        match &self.topology {
            Topology::Single(node) => Ok(Located { node: node.clone(), majority: true, epoch: 0, servers: Some(1) }),
            Topology::Sentinel { sentinels, name } => self.by_sentinels(sentinels, name).await,
            Topology::Cluster(seeds) => self.by_nodes(seeds).await,
        }
    }

    async fn by_sentinels(&self, sentinels: &[Node], name: &str) -> Result<Located, LocateError> {
        let (answers, last) = self.ask_all(sentinels.iter().cloned()).await;
        if answers.is_empty() {
            return Err(LocateError::NoSentinel { asked: sentinels.len(), last });
        }
        let known: Vec<Answer> = answers.into_iter().filter_map(|(_, answer)| answer).collect();
        let Some(latest) = known.iter().max_by_key(|answer| answer.version) else {
            return Err(LocateError::UnknownName(name.to_owned()));
        };
        let agree = known.iter().filter(|one| one.primary == latest.primary && one.version == latest.version).count();
        let voters = known.iter().map(|answer| answer.sentinels).max().unwrap_or_default().max(sentinels.len());
        if sentinels.len() * 2 <= voters {
            return Err(LocateError::TooFewNamed { named: sentinels.len(), known: voters });
        }
        let servers = known.iter().map(|answer| answer.servers).max();
        let (node, epoch) = (latest.primary.clone(), latest.version);
        Ok(Located { node, majority: agree * 2 > voters, epoch, servers })
    }

    async fn by_nodes(&self, seeds: &[Node]) -> Result<Located, LocateError> {
        loop {
            let before = self.told().clone();
            let nodes: BTreeSet<Node> = seeds.iter().cloned().chain(before.nodes.iter().cloned()).collect();
            let asked = nodes.len();
            let (answers, last) = self.ask_all(nodes).await;
            let known: Vec<(Node, Answer)> = answers.into_iter().filter_map(|(node, a)| Some((node, a?))).collect();
            let latest = known.iter().map(|(_, answer)| answer).max_by_key(|answer| answer.version);
            let Some(latest) = latest else { return Err(LocateError::NoNode { asked, last }) };
            *self.told() = latest.told.clone();
            // Those just told of have not been asked yet.
            if !latest.told.nodes.is_subset(&before.nodes) {
                continue;
            }
            let voters = &latest.told.voters;
            let agree = known.iter().filter(|(node, one)| voters.contains(node) && one.primary == latest.primary);
            let epoch = known.iter().find_map(|(_, one)| one.epoch.filter(|_| one.primary == latest.primary));
            return Ok(Located {
                node: latest.primary.clone(),
                majority: epoch.is_some() && agree.count() * 2 > voters.len(),
                epoch: epoch.unwrap_or_default(),
                servers: Some(latest.servers),
            });
        }
    }

    /// Whether a majority of the voters says, from now on, that a server is the primary since an epoch. Comes back as soon
    /// as so many have said so: one that is silent holds nobody up.
    pub(super) async fn confirms(&self, primary: &Node, epoch: u64) -> bool {
        let (nodes, voters) = match &self.topology {
            Topology::Single(_) => return true,
            Topology::Sentinel { sentinels, .. } => {
                (sentinels.iter().cloned().collect::<BTreeSet<_>>(), sentinels.len())
            }
            Topology::Cluster(_) => {
                let told = self.told().clone();
                (told.voters.clone(), told.voters.len())
            }
        };
        let mut asking = self.begin_asking(nodes);
        let (mut agree, mut voters, mut itself) = (0, voters, matches!(self.topology, Topology::Sentinel { .. }));
        while let Some(asked) = asking.join_next().await {
            let Ok((_, Ok(Some(answer)))) = asked else { continue };
            voters = voters.max(answer.sentinels);
            if answer.primary == *primary && answer.epoch.is_none_or(|its| its == epoch) {
                agree += 1;
                itself |= answer.epoch.is_some();
            }
            if itself && agree * 2 > voters {
                return true;
            }
        }
        false
    }

    /// Asks all of them at once; gives what those said who answered, and of those who did not, why, of the one whose cause
    /// tells the most.
    async fn ask_all(&self, nodes: impl IntoIterator<Item = Node>) -> (Vec<(Node, Option<Answer>)>, Option<Silent>) {
        let (mut answers, mut last) = (Vec::new(), None::<Silent>);
        let mut asking = self.begin_asking(nodes);
        while let Some(asked) = asking.join_next().await {
            match asked {
                Ok((node, Ok(answer))) => answers.push((node, answer)),
                Ok((node, Err(error))) => {
                    let why = format!("`{}:{}`: {}", node.0, node.1, causes(&error));
                    tracing::debug!(why, "one of those who may know the primary does not answer");
                    let kind = error.kind(self.connector.has_tls_without_certificate());
                    if last.as_ref().is_none_or(|last| last.kind <= kind) {
                        last = Some(Silent { kind, why });
                    }
                }
                Err(error) => tracing::debug!(%error, "asking for the primary broke off"),
            }
        }
        (answers, last)
    }

    /// Asks all of them at once. Connections are kept for the next time.
    fn begin_asking(&self, nodes: impl IntoIterator<Item = Node>) -> JoinSet<Asked> {
        let mut asking = JoinSet::new();
        for node in nodes {
            let (connector, who, key) = (self.connector.clone(), self.who.clone(), self.key.clone());
            let (topology, connections) = (self.topology.clone(), Arc::clone(&self.connections));
            asking.spawn(async move {
                let ask = async {
                    let found = kept(&connections).get(&node).cloned();
                    let connection = match found {
                        Some(connection) => connection,
                        None => {
                            let connection = connector.connect(&node, &who, 0).await?;
                            kept(&connections).insert(node.clone(), connection.clone());
                            connection
                        }
                    };
                    match topology {
                        Topology::Sentinel { name, .. } => ask_sentinel(connection, name).await,
                        Topology::Single(_) | Topology::Cluster(_) => ask_node(connection, node.clone(), key).await,
                    }
                };
                let answer = ask.await;
                if answer.as_ref().is_err_and(CallError::ends_session) {
                    kept(&connections).remove(&node);
                }
                (node, answer)
            });
        }
        asking
    }
}

type Connections = Mutex<BTreeMap<Node, MultiplexedConnection>>;

fn kept(connections: &Connections) -> MutexGuard<'_, BTreeMap<Node, MultiplexedConnection>> {
    connections.lock().unwrap_or_else(PoisonError::into_inner)
}
