//! Appends, and commits what was appended: an entry is committed once as many Redis replicas have it as the journal asks
//! for, and a majority of those who could replace the primary names it after that. See the protocol in
//! `tests/model`.
//!
//! Knows nothing of what was followed here, and of histories that diverge.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tracing::{info, warn};

use super::connection::CallError;
use super::durability::ServerInfo;
use super::locate::Locator;
use super::options::Topology;
use super::scripts::{Appended, Committed, How, JournalState, Scripts, UnexpectedAnswer};
use super::session::{Doubt, Quorum, Session, SessionState};
use crate::journal::error::Source;
use crate::journal::{AppendError, Hash, Position};
use crate::telemetry::causes;

/// A transfer of many bytes may take longer than others, by this much for each MiB.
pub(super) const PER_MIB: Duration = Duration::from_millis(250);

/// So much longer a transfer of so many bytes may take.
pub(super) fn extra_time(bytes: usize) -> Duration {
    PER_MIB * u32::try_from(bytes >> 20).unwrap_or(u32::MAX)
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Committer {
    pub(super) scripts: Scripts,
    pub(super) locator: Arc<Locator>,
    /// Whether nobody else could be the primary.
    single: bool,
}

/// Whose takeover is recorded with a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takeover {
    Proven,
    No,
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

impl Committer {
    pub(super) fn new(scripts: Scripts, locator: Arc<Locator>, topology: &Topology) -> Self {
        Self { scripts, locator, single: matches!(topology, Topology::Single(_)) }
    }

    fn commits_at_once(&self, session: &Session) -> bool {
        self.single && session.quorum.load().wait_replicas == 0
    }

    /// Appends entries that are chained to `expected`, and commits them.
    pub(super) async fn append(
        &self,
        session: &Arc<Session>,
        expected: Position,
        entries: &[(Hash, &[u8])],
        how: How,
    ) -> Result<Position, AppendError> {
        let Some((hash, _)) = entries.last() else { return Ok(expected) };
        let end = Position { revision: expected.revision.plus(entries.len() as u64), hash: *hash };
        let at_once = self.commits_at_once(session) && how != How::Repair;
        let how = if at_once { How::CommitAtOnce } else { how };
        let more = extra_time(entries.iter().map(|(_, payload)| payload.len()).sum());
        let mut commands = redis::pipe();
        commands.add_command(self.scripts.append(expected, entries, how, &session.stream));
        let wait = self.add_wait(&mut commands, session, more);
        let answers = session.write(&mut commands, session.limit + more + wait).await;
        let mut answers = answers.map_err(|error| AppendError::Indeterminate(error.into()))?.into_iter();
        let appended = match answers.next() {
            Some(Ok(appended)) => {
                Appended::parse(appended).map_err(|error| AppendError::Indeterminate(error.into()))?
            }
            Some(Err(error)) if error.refused() => return Err(AppendError::Unavailable(error.into())),
            Some(Err(error)) => return Err(AppendError::Indeterminate(error.into())),
            None => return Err(AppendError::Indeterminate("no answer".into())),
        };
        match appended {
            Appended::Done if at_once => Ok(end),
            Appended::Done => {
                let committed = self.commit(session, end, answers, Takeover::No).await;
                committed.map(|()| end).map_err(AppendError::Indeterminate)
            }
            Appended::Conflict { end, committed } => {
                if end.revision > committed {
                    // The desk that wrote it may be gone: who is in its way commits it.
                    let (committer, session) = (self.clone(), Arc::clone(session));
                    tokio::spawn(async move { committer.commit_tail(&session, end, Takeover::No).await });
                }
                Err(AppendError::Conflict { actual: end })
            }
            Appended::Sealed(why) => Err(AppendError::Sealed(why)),
            Appended::Replaced => {
                session.over.cancel();
                Err(AppendError::Unavailable("the primary was replaced".into()))
            }
            Appended::MarkBeyondEnd { mark, end } => Err(AppendError::InDoubt(format!(
                "the journal is committed up to revision {mark} and ends at {end}: entries were deleted"
            ))),
        }
    }

    /// Adds a WAIT for what was written before it on the same connection, and tells how long it may take. The primary's own
    /// disk needs no waiting for: with `appendfsync always` it has what is answered.
    fn add_wait(&self, commands: &mut redis::Pipeline, session: &Session, more: Duration) -> Duration {
        let wait_replicas = session.quorum.load().wait_replicas;
        if wait_replicas == 0 {
            return Duration::ZERO;
        }
        let wait = session.limit / 2 + more;
        commands.cmd("WAIT").arg(wait_replicas).arg(millis(wait));
        wait
    }

    /// After the answers of what was waited for: moves the mark if all have it that must, and nobody else can have become
    /// the primary before they had.
    async fn commit(
        &self,
        session: &Session,
        at: Position,
        mut waited: impl Iterator<Item = Result<Value, CallError>>,
        takeover: Takeover,
    ) -> Result<(), Source> {
        let quorum = **session.quorum.load();
        if quorum.wait_replicas > 0 {
            match waited.next().ok_or(UnexpectedAnswer)?? {
                Value::Int(replicas) if replicas >= i64::from(quorum.wait_replicas) => {}
                Value::Int(replicas) => {
                    return Err(
                        format!("{replicas} of {} Redis replicas have confirmed it", quorum.wait_replicas).into()
                    );
                }
                _ => return Err(UnexpectedAnswer.into()),
            }
        }
        // One-history: asked only now, for what a majority said before says nothing of who had the entry then.
        self.confirm_primary(session).await?;
        let record = (takeover == Takeover::Proven).then_some(session.epoch);
        let commit = self.scripts.commit(at, &session.stream, record);
        let marked = session.write(redis::pipe().add_command(commit), session.limit).await?;
        match Committed::parse(marked.into_iter().next().ok_or(UnexpectedAnswer)??)? {
            Committed::Done => Ok(()),
            Committed::Missing => Err("the entry is not there any more".into()),
            Committed::Replaced => {
                session.over.cancel();
                Err("the primary was replaced".into())
            }
            Committed::TooManyServers { attached, declared } => Err(format!(
                "{attached} servers are attached and the journal is declared for {declared}: say how many there are by \
                 `withheld journal configure --servers`"
            )
            .into()),
        }
    }

    /// That a majority of those who could replace the primary names it, from now on.
    pub(super) async fn confirm_primary(&self, session: &Session) -> Result<(), Source> {
        let asked_at = session.clock.monotonic();
        if !self.locator.confirms(&session.node, session.epoch).await {
            return Err("no majority of those who could replace the primary names it any more".into());
        }
        session.take_majority(asked_at);
        Ok(())
    }

    /// Commits what is in the journal up to its end, whoever appended it.
    async fn commit_end(&self, session: &Session, at: Position, takeover: Takeover) -> Result<(), Source> {
        let mut commands = redis::pipe();
        // Without a write of its own before it, a WAIT waits for nothing.
        commands.cmd("SET").arg(&self.scripts.keys.probe).arg(at.revision.get());
        let wait = self.add_wait(&mut commands, session, Duration::ZERO);
        let mut answers = session.write(&mut commands, session.limit + wait).await?.into_iter();
        answers.next().ok_or(UnexpectedAnswer)??;
        self.commit(session, at, answers, takeover).await
    }

    /// Commits what another desk appended and left.
    async fn commit_tail(&self, session: &Session, at: Position, takeover: Takeover) {
        match self.commit_end(session, at, takeover).await {
            Ok(()) => info!(revision = %at.revision, "committed what another desk had appended"),
            Err(error) => {
                warn!(error = causes(&*error), revision = %at.revision, "what another desk appended is not committed yet");
            }
        }
    }

    /// The same, for a tail that has been there for a while.
    pub(super) async fn commit_abandoned(&self, session: &Session, at: Position) {
        self.commit_tail(session, at, Takeover::No).await;
    }

    /// Finds out whether the server has all that was acknowledged, and makes the session fresh if it has. A person may have
    /// said that it is to count as having it.
    pub(super) async fn examine(
        &self,
        session: &Session,
        primary: &ServerInfo,
        replicas: &[ServerInfo],
        accepted: bool,
    ) -> Result<(), Source> {
        let JournalState { tail, taken_over, .. } = self.scripts.state(session).await?;
        let proof = if self.single { Proof::Proven } else { proof(session, primary, replicas, taken_over.as_ref()) };
        if let Proof::Missing { have } = proof
            && !accepted
        {
            let Quorum { servers, .. } = **session.quorum.load();
            let need = session.quorum.load().to_prove();
            session.state.send_replace(SessionState::InDoubt(Doubt::Unproven { have, need, servers }));
            return Ok(());
        }
        let uncommitted = tail.end.revision > tail.committed.revision;
        if uncommitted || proof != Proof::Proven {
            let takeover = if proof == Proof::Proven { Takeover::No } else { Takeover::Proven };
            if let Err(error) = self.commit_end(session, tail.end, takeover).await {
                let (committed, end) = (tail.committed.revision, tail.end.revision);
                let why = causes(&*error).clone();
                session.state.send_replace(SessionState::InDoubt(Doubt::Tail { committed, end, why }));
                return Err(error);
            }
            info!(revision = %tail.end.revision, epoch = session.epoch, "the primary has all that was acknowledged");
        }
        session.state.send_replace(SessionState::Fresh);
        Ok(())
    }
}

/// Whether a server is proven to have all that may have been committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// It was proven before, and still is what it was then.
    Proven,
    /// It is proven now: to be recorded.
    Found,
    /// It is not: so many servers, itself among them, are known to have had no more than it has.
    Missing { have: usize },
}

fn proof(
    session: &Session,
    primary: &ServerInfo,
    replicas: &[ServerInfo],
    taken_over: Option<&(u64, String)>,
) -> Proof {
    let Some((epoch, stream)) = taken_over else {
        // A journal of before there were takeovers: what its primary has now is where proofs begin.
        return Proof::Found;
    };
    if *epoch == session.epoch && *stream == session.stream {
        return Proof::Proven;
    }
    // It was proven in this very configuration, and its process has started anew: its own disk has all that it answered for.
    if *epoch == session.epoch && primary.stream_before.is_none() {
        return Proof::Found;
    }
    // An heir goes on from the stream that was proven. So does each replica that came to it without being sent everything
    // anew: Redis grants that only to who had nothing that the heir had not. What was in others, nobody knows.
    let from_proven = |server: &ServerInfo| server.stream_before.as_ref() == Some(stream);
    let voucher = |replica: &&ServerInfo| {
        !replica.primary && replica.attached && replica.stream == session.stream && from_proven(replica)
    };
    let have = 1 + replicas.iter().filter(voucher).count();
    if from_proven(primary) && have >= session.quorum.load().to_prove() {
        Proof::Found
    } else {
        Proof::Missing { have: if from_proven(primary) { have } else { 0 } }
    }
}
