//! Keeps a link to the primary: finds it, connects, notices when it is gone, and finds the next one, for ever.
//!
//! Nobody waits for a session here but those who ask to: a write without one is refused at once. Whoever only reads has no
//! committer, and so changes nothing in the journal.

use std::sync::Arc;
use std::time::Duration;

use redis::cmd;
use tracing::{error, info, warn};

use super::committer::Committer;
use super::connection::{CallError, Connector};
use super::durability::{self, ServerInfo};
use super::locate::{LocateError, Located, Locator};
use super::options::{Durability, LinkChange, Node, RedisOptions, Topology};
use super::rights;
use super::scripts::{JournalState, Scripts};
use super::session::{Link, LinkState, Opened, Quorum, Session, SessionState, shown};
use crate::clock::jittered;
use crate::journal::Position;
use crate::journal::error::{Peer, Unreachable, UnreachableCause, UnreachableKind};
use crate::telemetry::causes;

/// How often the server is asked whether it still is what it was.
const TICK: Duration = Duration::from_millis(500);
/// How soon a session in doubt is examined again.
const DOUBT_TICK: Duration = Duration::from_millis(50);
/// The first and the longest pause before connecting again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Settings, rights and replicas are looked at again after so many ticks.
const SETTINGS_EVERY: u32 = 20;
/// The same trouble is logged again after this long.
const REPEAT: Duration = Duration::from_secs(30);

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error(transparent)]
    Locate(#[from] LocateError),
    #[error("{doing} `{server}`")]
    Call {
        doing: &'static str,
        server: String,
        #[source]
        source: CallError,
    },
    #[error("`{0}` is not a primary")]
    NotPrimary(String),
    #[error(
        "the ACL user may not call {missing} on the journal's keys `{keys}`, which reading it takes: allow it (deploy/redis/users.acl)"
    )]
    MayNotRead { missing: String, keys: String },
    #[error(
        "the ACL user may not touch the journal's keys `{0}`: give it that pattern, which follows --redis-namespace \
         (deploy/redis/users.acl)"
    )]
    KeysForbidden(String),
}

/// See the module.
pub(super) struct Supervisor {
    pub(super) link: Link,
    pub(super) options: RedisOptions,
    pub(super) connector: Connector,
    pub(super) locator: Arc<Locator>,
    pub(super) scripts: Scripts,
    /// `None` for who only reads.
    pub(super) committer: Option<Committer>,
}

impl ConnectError {
    /// What kind of cause it is, and on whose side.
    fn cause(&self, tls_without_certificate: bool) -> UnreachableCause {
        use UnreachableKind as Kind;
        let of_redis = |kind| UnreachableCause { peer: Peer::Redis, kind };
        match self {
            Self::Locate(error) => error.cause(),
            Self::Call { source, .. } => of_redis(source.kind(tls_without_certificate)),
            Self::NotPrimary(_) => of_redis(Kind::NotPrimary),
            Self::MayNotRead { .. } | Self::KeysForbidden(_) => of_redis(Kind::MissingRight),
        }
    }
}

impl Supervisor {
    /// Never returns.
    pub(super) async fn run(self) {
        let mut backoff = BACKOFF.0;
        let mut told: Option<(UnreachableCause, Duration)> = None;
        let mut linked_before = false;
        (self.options.on_link)(LinkChange::Down);
        loop {
            match self.connect().await {
                Ok((session, info)) => {
                    let again = std::mem::replace(&mut linked_before, true);
                    (self.options.on_link)(if again { LinkChange::UpAgain } else { LinkChange::Up });
                    (backoff, told) = (BACKOFF.0, None);
                    info!(primary = %shown(&session.node), epoch = session.epoch, "connected to Redis");
                    let session = Arc::new(session);
                    let mut doubt = String::new();
                    self.examine(&session, &info, &mut doubt).await;
                    self.link.set(LinkState::Up(Arc::clone(&session)));
                    self.watch(&session, &info, doubt).await;
                    session.over.cancel();
                    self.link.set(LinkState::Lost);
                    (self.options.on_link)(LinkChange::Down);
                    // Nearly at once: most links that break can be had again.
                }
                Err(error) => {
                    let cause = error.cause(self.connector.has_tls_without_certificate());
                    let (detail, now) = (causes(&error), self.options.clock.monotonic());
                    // The same cause is told again and again, and not twice a second.
                    if told.as_ref().is_none_or(|(before, at)| *before != cause || now.saturating_sub(*at) >= REPEAT) {
                        warn!(cause = %cause, error = detail, "cannot connect to Redis, trying again");
                        told = Some((cause, now));
                    }
                    self.link.set(LinkState::Down(Unreachable { cause, detail }));
                    backoff = (backoff * 2).min(BACKOFF.1);
                }
            }
            tokio::time::sleep(jittered(backoff)).await;
        }
    }

    async fn connect(&self) -> Result<(Session, ServerInfo), ConnectError> {
        let asked_at = self.options.clock.monotonic();
        let located = self.locator.locate().await?;
        let node = located.node.clone();
        let failed = |doing| {
            let server = shown(&node);
            move |source| ConnectError::Call { doing, server, source }
        };
        let url = &self.options.url;
        let open = || self.connector.connect(&node, &url.credentials, url.database);
        let (writer, reader, waker) = tokio::try_join!(open(), open(), open()).map_err(failed("cannot connect to"))?;
        let limit = self.options.timeout;
        let info = durability::server_info(&reader, limit).await.map_err(failed("cannot ask"))?;
        if !info.primary {
            return Err(ConnectError::NotPrimary(shown(&node)));
        }
        self.scripts.load(&reader, limit).await.map_err(failed("cannot load scripts into"))?;
        let missing = rights::missing(&reader, &self.scripts.keys, false, limit).await;
        let missing = missing.map_err(|error| match error.kind(false) {
            UnreachableKind::MissingRight if error.is_about_keys() => {
                ConnectError::KeysForbidden(self.scripts.keys.pattern())
            }
            _ => failed("cannot ask for the rights at")(error),
        })?;
        if !missing.is_empty() {
            let (missing, keys) = (missing.join(", "), self.scripts.keys.pattern());
            return Err(ConnectError::MayNotRead { missing, keys });
        }
        let opened = Opened {
            quorum: self.quorum_wanted(&located, &info),
            node: node.clone(),
            epoch: located.epoch,
            connections: (writer, reader, waker),
            limit,
            clock: self.options.clock.clone(),
            single: matches!(self.options.url.topology, Topology::Single(_)),
        };
        let session = Session::new(opened, &info);
        if located.majority {
            session.take_majority(asked_at);
        }
        if self.committer.is_some() {
            self.judge(&session, &info).await.map_err(failed("cannot ask for the settings of"))?;
        }
        self.take_quorum(&session).await.map_err(failed("cannot ask for the properties of the journal at"))?;
        Ok((session, info))
    }

    /// What the options, and those who know the servers, say that there should be.
    fn quorum_wanted(&self, located: &Located, info: &ServerInfo) -> Quorum {
        let servers = match self.options.url.topology {
            Topology::Single(_) => 1 + usize::from(self.options.wait_replicas),
            Topology::Sentinel { .. } | Topology::Cluster(_) => {
                located.servers.unwrap_or(1).max(1 + info.replicas.len())
            }
        };
        Quorum { wait_replicas: self.options.wait_replicas, servers }
    }

    /// How many replicas must have an entry is a property of the journal: who opens it can ask for more, never for fewer.
    async fn take_quorum(&self, session: &Session) -> Result<(), CallError> {
        let wanted = **session.quorum.load();
        let JournalState { wait_replicas, servers, .. } = self.scripts.state(session).await?;
        let quorum = Quorum {
            wait_replicas: wait_replicas.map_or(wanted.wait_replicas, |kept| kept.max(wanted.wait_replicas)),
            servers: servers.unwrap_or(wanted.servers),
        };
        session.quorum.store(Arc::new(quorum));
        let kept = wait_replicas == Some(quorum.wait_replicas) && servers == Some(quorum.servers);
        let asked_for_more = wait_replicas.is_none_or(|kept| kept < quorum.wait_replicas);
        if self.committer.is_some() && !kept && session.shortcomings().is_empty() {
            let mut keep = cmd("HSET");
            keep.arg(&self.scripts.keys.properties).arg("wait_replicas").arg(quorum.wait_replicas);
            // Of a journal that waits for nobody, it says nothing how many there are.
            if !matches!(self.options.url.topology, Topology::Single(_)) {
                keep.arg("servers").arg(quorum.servers);
            }
            session.ask::<i64>(&keep).await?;
            if asked_for_more {
                info!(
                    wait_replicas = quorum.wait_replicas,
                    servers = quorum.servers,
                    "the journal's servers are declared"
                );
            }
        }
        Ok(())
    }

    /// Says what is wrong with the server's settings and the user's rights, and keeps it if it forbids to write.
    async fn judge(&self, session: &Session, info: &ServerInfo) -> Result<(), CallError> {
        let server = shown(&session.node);
        let found = durability::shortcomings(&session.reader, info.append_only_file, session.limit).await?;
        let missing = rights::missing(&session.reader, &self.scripts.keys, true, session.limit).await?;
        let mut forbids = match self.options.durability {
            Durability::Require => found,
            Durability::Warn => {
                for shortcoming in &found {
                    warn!(server, shortcoming, "this server may lose what is acknowledged");
                }
                Vec::new()
            }
        };
        if !missing.is_empty() {
            let missing = missing.join(", ");
            forbids.push(format!(
                "the ACL user may not call {missing} on the journal's keys `{}`: allow it (deploy/redis/users.acl)",
                self.scripts.keys.pattern()
            ));
        }
        if **session.shortcomings.load() != forbids {
            for shortcoming in &forbids {
                error!(server, shortcoming, "nothing is written: this server would not keep what is acknowledged");
            }
            session.shortcomings.store(Arc::new(forbids));
        }
        Ok(())
    }

    /// Returns when the session is over.
    async fn watch(&self, session: &Session, began: &ServerInfo, mut doubt: String) {
        let mut append_only_file = began.append_only_file;
        let mut uncommitted: Option<Position> = None;
        let (mut ticks, mut ticked) = (0_u32, self.options.clock.monotonic());
        loop {
            let fresh = self.committer.is_none() || *session.state.borrow() == SessionState::Fresh;
            tokio::select! {
                () = session.over.cancelled() => return,
                () = tokio::time::sleep(jittered(if fresh { TICK } else { DOUBT_TICK })) => {}
            }
            let Ok(info) = session.noted(durability::server_info(&session.reader, session.limit).await) else {
                return;
            };
            if !info.primary {
                warn!(server = %shown(&session.node), "this server is not the primary any more");
                return;
            }
            session.take_info(&info);
            // What would not be kept is not acknowledged, from the next tick on.
            let changed = std::mem::replace(&mut append_only_file, info.append_only_file) != info.append_only_file;
            if changed && self.committer.is_some() && self.judge(session, &info).await.is_err() {
                return;
            }
            self.examine(session, &info, &mut doubt).await;
            let now = self.options.clock.monotonic();
            if now.saturating_sub(ticked) < TICK / 2 {
                continue;
            }
            (ticks, ticked) = (ticks.wrapping_add(1), now);
            if !self.still_primary(session).await {
                return;
            }
            let due = ticks.is_multiple_of(SETTINGS_EVERY) && self.committer.is_some();
            if due && self.judge(session, &info).await.is_err() {
                return;
            }
            // What its desk did not commit, because it died or lost its link, somebody has to.
            if let Some(committer) = self.committer.as_ref().filter(|_| *session.state.borrow() == SessionState::Fresh)
            {
                match self.scripts.state(session).await {
                    Ok(JournalState { tail, .. }) => {
                        if tail.end.revision > tail.committed.revision && uncommitted == Some(tail.end) {
                            committer.commit_abandoned(session, tail.end).await;
                        }
                        uncommitted = Some(tail.end);
                    }
                    // If it was the link that broke, the session is over.
                    Err(error) => tracing::debug!(error = causes(&error), "where the journal ends is not known"),
                }
            }
        }
    }

    /// Finds out whether the primary has all that was acknowledged, while that is not known. Why not is logged once.
    async fn examine(&self, session: &Session, info: &ServerInfo, told: &mut String) {
        let Some(committer) = &self.committer else { return };
        // Replicas vouch for an heir that a majority names; what they were before says nothing of where they are now.
        if *session.state.borrow() == SessionState::Fresh || session.certain().is_none() {
            return;
        }
        let replicas = self.ask_replicas(info).await;
        if let Err(error) = committer.examine(session, info, &replicas, false).await {
            tracing::debug!(error = causes(&*error), "the session stays in doubt");
        }
        let why = match &*session.state.borrow() {
            SessionState::Fresh => String::new(),
            SessionState::InDoubt(doubt) => doubt.to_string(),
        };
        if *told != why && !why.is_empty() {
            warn!(server = %shown(&session.node), why, "the journal is in doubt: nobody is level with it, nothing is acknowledged");
        }
        *told = why;
    }

    /// Whether nobody else is called the primary by now, as far as can be found out.
    async fn still_primary(&self, session: &Session) -> bool {
        let was_certain = session.certain().is_some();
        let asked_at = self.options.clock.monotonic();
        match self.locator.locate().await {
            Ok(located) if located.node != session.node || located.epoch != session.epoch && located.majority => {
                warn!(from = %shown(&session.node), to = %shown(&located.node), epoch = located.epoch, "the primary was replaced");
                return false;
            }
            Ok(located) if located.majority => session.take_majority(asked_at),
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the primary cannot be confirmed"),
        }
        if was_certain && session.certain().is_none() {
            warn!(server = %shown(&session.node),
                "no majority of those who could replace this server names it: what it says does not count as fresh");
        }
        true
    }

    /// What the replicas that a primary speaks of say of themselves.
    pub(super) async fn ask_replicas(&self, primary: &ServerInfo) -> Vec<ServerInfo> {
        let mut said = Vec::new();
        for replica in &primary.replicas {
            said.extend(self.ask_replica(replica).await);
        }
        said
    }

    async fn ask_replica(&self, replica: &Node) -> Option<ServerInfo> {
        let url = &self.options.url;
        let asked = async {
            let connection = self.connector.connect(replica, &url.credentials, url.database).await?;
            durability::server_info(&connection, self.options.timeout).await
        };
        match asked.await {
            Ok(info) => Some(info),
            Err(error) => {
                tracing::debug!(error = causes(&error), replica = %shown(replica), "a replica cannot be asked");
                None
            }
        }
    }
}
