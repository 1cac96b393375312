//! Finds the one server that takes writes: the primary.
//!
//! Sentinels are all asked, and the answer of the latest configuration counts: one that was cut off still names the old
//! primary. In a cluster it is the node that has the slot of the journal's keys, as the nodes of the latest epoch say.
//! The driver's own Sentinel and cluster clients are not used: they do not follow a failover, or send WAIT to everybody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Value, cmd};
use tokio::task::JoinSet;

use super::connection::{CallError, Connector, call};
use super::options::{Credentials, Node, RedisOptions, Topology};

/// How long whoever knows the primary may take to tell.
const LIMIT: Duration = Duration::from_millis(500);

/// The primary, as far as anybody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Located {
    /// Where it is.
    pub(super) node: Node,
    /// Whether those who know are so many that no others can have chosen another one.
    pub(super) certain: bool,
}

/// Why there is no primary to be found.
#[derive(Debug, thiserror::Error)]
pub(super) enum LocateError {
    #[error("none of the {0} Sentinels answers")]
    NoSentinel(usize),
    #[error("no Sentinel knows a primary called `{0}`")]
    UnknownName(String),
    #[error("none of the {0} cluster nodes known knows who has the journal's slot")]
    NoNode(usize),
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
    connections: Mutex<BTreeMap<Node, MultiplexedConnection>>,
    /// Cluster nodes that others have told of.
    told: Mutex<BTreeSet<Node>>,
}

/// What one of those who may know says.
struct Answer {
    epoch: u64,
    primary: Node,
    nodes: Vec<Node>,
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
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

async fn ask_sentinel(connection: MultiplexedConnection, name: String) -> Result<Option<Answer>, CallError> {
    let asked: Result<Value, CallError> = call(&connection, cmd("SENTINEL").arg("MASTER").arg(&name), LIMIT).await;
    let known = match asked {
        Ok(known) => fields(&known),
        // It answers, and does not know the name.
        Err(CallError::Refused(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let epoch = known.get("config-epoch").and_then(|text| text.parse().ok()).unwrap_or_default();
    // Asked second, and not read off the above: who leads a failover shows the old primary there, under the new epoch,
    // until all replicas follow the new one.
    let primary: Option<(String, u16)> =
        call(&connection, cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&name), LIMIT).await?;
    Ok(primary.map(|primary| Answer { epoch, primary, nodes: Vec::new() }))
}

async fn ask_node(connection: MultiplexedConnection, asked: Node, key: String) -> Result<Option<Answer>, CallError> {
    let info: String = call(&connection, cmd("CLUSTER").arg("INFO"), LIMIT).await?;
    let slot: i64 = call(&connection, cmd("CLUSTER").arg("KEYSLOT").arg(&key), LIMIT).await?;
    let slots: Vec<Vec<Value>> = call(&connection, cmd("CLUSTER").arg("SLOTS"), LIMIT).await?;
    if info_field(&info, "cluster_state") != Some("ok") {
        return Ok(None);
    }
    let epoch = info_field(&info, "cluster_current_epoch").and_then(|text| text.parse().ok()).unwrap_or_default();
    let node = |value: &Value| {
        let Value::Array(parts) = value else { return None };
        let port = u16::try_from(text(parts.get(1)?)?.parse::<u32>().ok()?).ok()?;
        // A node that does not know its own address leaves it out.
        let host = parts.first().and_then(text).filter(|host| !host.is_empty()).unwrap_or_else(|| asked.0.clone());
        Some((host, port))
    };
    let mut primary = None;
    let mut nodes = Vec::new();
    for range in &slots {
        let [Value::Int(from), Value::Int(to), holders @ ..] = range.as_slice() else { continue };
        let holders: Vec<Node> = holders.iter().filter_map(node).collect();
        if (*from..=*to).contains(&slot) {
            primary = holders.first().cloned();
        }
        nodes.extend(holders);
    }
    Ok(primary.map(|primary| Answer { epoch, primary, nodes }))
}

impl Locator {
    pub(super) fn new(options: &RedisOptions, connector: Connector, key: String) -> Self {
        let who = match options.url.topology {
            Topology::Single(_) | Topology::Cluster(_) => options.url.credentials.clone(),
            Topology::Sentinel { .. } => options.sentinel_credentials.clone(),
        };
        let topology = options.url.topology.clone();
        Self { topology, connector, who, key, connections: Mutex::default(), told: Mutex::default() }
    }

    /// Where the primary is now.
    pub(super) async fn locate(&self) -> Result<Located, LocateError> {
        match &self.topology {
            Topology::Single(node) => Ok(Located { node: node.clone(), certain: true }),
            Topology::Sentinel { sentinels, name } => {
                let asked = sentinels.len();
                let name = name.clone();
                let answers = self.ask(sentinels.clone(), move |c, _| ask_sentinel(c, name.clone())).await;
                if answers.is_empty() {
                    return Err(LocateError::NoSentinel(asked));
                }
                let known: Vec<Answer> = answers.into_iter().flatten().collect();
                let Some(latest) = known.iter().max_by_key(|answer| answer.epoch) else {
                    let Topology::Sentinel { name, .. } = &self.topology else {
                        return Err(LocateError::NoSentinel(0));
                    };
                    return Err(LocateError::UnknownName(name.clone()));
                };
                let agree = known.iter().filter(|answer| answer.primary == latest.primary).count();
                Ok(Located { node: latest.primary.clone(), certain: agree * 2 > asked })
            }
            Topology::Cluster(seeds) => {
                let mut nodes: BTreeSet<Node> = seeds.iter().cloned().collect();
                nodes.extend(self.told.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned());
                let asked = nodes.len();
                let key = self.key.clone();
                let answers = self.ask(nodes, move |c, node| ask_node(c, node, key.clone())).await;
                let latest = answers.into_iter().flatten().max_by_key(|answer| answer.epoch);
                let latest = latest.ok_or(LocateError::NoNode(asked))?;
                *self.told.lock().unwrap_or_else(PoisonError::into_inner) = latest.nodes.into_iter().collect();
                // A primary that is cut off from most of its cluster refuses by itself.
                Ok(Located { node: latest.primary, certain: true })
            }
        }
    }

    /// Asks all of them at once; those who do not answer are left out.
    async fn ask<F>(
        &self,
        nodes: impl IntoIterator<Item = Node>,
        ask: impl Fn(MultiplexedConnection, Node) -> F + Clone + Send + 'static,
    ) -> Vec<Option<Answer>>
    where
        F: Future<Output = Result<Option<Answer>, CallError>> + Send + 'static,
    {
        let mut asking = JoinSet::new();
        for node in nodes {
            let kept = self.connections.lock().unwrap_or_else(PoisonError::into_inner).remove(&node);
            let (connector, who, ask) = (self.connector.clone(), self.who.clone(), ask.clone());
            asking.spawn(async move {
                let connection = match kept {
                    Some(connection) => connection,
                    None => connector.connect(&node, &who, 0).await?,
                };
                let answer = ask(connection.clone(), node.clone()).await?;
                Ok::<_, CallError>((node, connection, answer))
            });
        }
        let mut answers = Vec::new();
        while let Some(asked) = asking.join_next().await {
            match asked {
                Ok(Ok((node, connection, answer))) => {
                    self.connections.lock().unwrap_or_else(PoisonError::into_inner).insert(node, connection);
                    answers.push(answer);
                }
                Ok(Err(error)) => tracing::debug!(%error, "one of those who may know the primary does not answer"),
                Err(error) => tracing::debug!(%error, "asking for the primary broke off"),
            }
        }
        answers
    }
}
