//! Appends, and makes sure that what was appended stays: an entry is settled once enough Redis replicas have it.
//!
//! Knows nothing of what was followed here, and of histories that diverge.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tracing::warn;

use super::connection::CallError;
use super::link::Session;
use super::scripts::{self, Appended, Scripts};
use crate::journal::{AppendError, Hash, Position, Source};
use crate::telemetry::causes;

/// An append of many bytes may take longer than others, by this much for each MiB.
const PER_MIB: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    pub(super) scripts: Scripts,
    pub(super) wait_replicas: u8,
    /// How long a link that has just been lost is waited for.
    pub(super) timeout: Duration,
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

impl Writer {
    fn settled_at_once(&self) -> bool {
        self.wait_replicas == 0
    }

    /// Appends entries that are chained to `expected`, and settles them.
    pub(super) async fn append(
        &self,
        session: &Arc<Session>,
        expected: Position,
        entries: &[(Hash, &[u8])],
    ) -> Result<Position, AppendError> {
        let Some((hash, _)) = entries.last() else { return Ok(expected) };
        let end = Position { revision: expected.revision.plus(entries.len() as u64), hash: *hash };
        let bytes: usize = entries.iter().map(|(_, payload)| payload.len()).sum();
        let more = PER_MIB * u32::try_from(bytes >> 20).unwrap_or(u32::MAX);
        let mut commands = redis::pipe();
        commands.add_command(self.scripts.append(expected, entries, self.settled_at_once()));
        let wait = self.add_wait(&mut commands, session, more);
        let answers = session.write(&mut commands, session.limit() + more + wait).await;
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
            Appended::Done if self.settled_at_once() => Ok(end),
            Appended::Done => {
                let settled = self.confirm(session, end, answers).await;
                settled.map(|()| end).map_err(AppendError::Indeterminate)
            }
            Appended::Conflict { end, settled } => {
                if end.revision > settled {
                    // The desk that wrote it may be gone: who is in its way settles it.
                    let (writer, session) = (self.clone(), Arc::clone(session));
                    tokio::spawn(async move { writer.settle(&session, end).await });
                }
                Err(AppendError::Conflict { actual: end })
            }
            Appended::Fenced(why) => Err(AppendError::Fenced(why)),
        }
    }

    /// Adds a WAIT for what was written before it on the same connection, and tells how long it may take.
    fn add_wait(&self, commands: &mut redis::Pipeline, session: &Session, more: Duration) -> Duration {
        if self.settled_at_once() {
            return Duration::ZERO;
        }
        let wait = session.limit() / 2 + more;
        if session.knows_waitaof() {
            // On the primary's own disk. It could wait for those of replicas, too, but they tell of theirs once a second:
            // measured on two idle servers, 875 ms instead of 2.
            commands.cmd("WAITAOF").arg(1).arg(0).arg(millis(wait));
        }
        commands.cmd("WAIT").arg(self.wait_replicas).arg(millis(wait));
        wait
    }

    /// After the answers of what was waited for: marks a position as settled if all have it that must.
    async fn confirm(
        &self,
        session: &Session,
        at: Position,
        waited: impl Iterator<Item = Result<Value, CallError>>,
    ) -> Result<(), Source> {
        let mut confirmed = self.settled_at_once();
        for answer in waited {
            match answer? {
                Value::Int(replicas) if replicas >= i64::from(self.wait_replicas) => confirmed = true,
                Value::Int(replicas) => {
                    return Err(format!("{replicas} of {} Redis replicas have confirmed it", self.wait_replicas).into());
                }
                Value::Array(disks) if matches!(disks.as_slice(), [Value::Int(1..), _]) => {}
                Value::Array(_) => return Err("it is not on the primary's disk".into()),
                _ => return Err(scripts::Senseless.into()),
            }
        }
        if !confirmed {
            return Err(scripts::Senseless.into());
        }
        let marked = session.write(redis::pipe().add_command(self.scripts.settle(at)), session.limit()).await?;
        match marked.into_iter().next() {
            Some(Ok(Value::Int(1))) => Ok(()),
            Some(Err(error)) => Err(error.into()),
            Some(Ok(_)) | None => Err("the entry is not there any more".into()),
        }
    }

    /// Whether the server is the primary beyond doubt: by the word of those who would replace it, or because replicas
    /// confirm what is written now. That it has heard of them of late says nothing: they may have just been taken away.
    pub(super) async fn is_primary(&self, session: &Session) -> bool {
        if session.is_certain() {
            return true;
        }
        let (enough, wait) = (self.wait_replicas.max(1), session.limit() / 2);
        let mut commands = redis::pipe();
        commands.cmd("SET").arg(&self.scripts.keys.settling).arg(0);
        commands.cmd("WAIT").arg(enough).arg(millis(wait));
        let answers = session.write(&mut commands, session.limit() + wait).await;
        let confirmed = answers.ok().and_then(|answers| answers.into_iter().nth(1));
        matches!(confirmed, Some(Ok(Value::Int(replicas))) if replicas >= i64::from(enough))
    }

    /// Settles what another desk appended and left: waits until enough replicas have it, and marks it.
    pub(super) async fn settle(&self, session: &Session, at: Position) {
        let mut commands = redis::pipe();
        commands.cmd("SET").arg(&self.scripts.keys.settling).arg(at.revision.get());
        let wait = self.add_wait(&mut commands, session, Duration::ZERO);
        let settled = async {
            let mut answers = session.write(&mut commands, session.limit() + wait).await?.into_iter();
            // Without a write of its own before it, a WAIT waits for nothing.
            answers.next().ok_or(scripts::Senseless)??;
            self.confirm(session, at, answers).await
        };
        match settled.await {
            Ok(()) => tracing::info!(revision = %at.revision, "settled what another desk had appended"),
            Err(error) => {
                warn!(error = causes(&*error), revision = %at.revision, "what another desk appended is not settled yet");
            }
        }
    }
}
