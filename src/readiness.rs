//! Whether this process may be asked, said the same way everywhere: `grpc.health.v1` on both listeners, `/readyz` and the
//! metric `withheld_ready` all tell what was set here last.

use std::fmt;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::replica::Replica;

/// How often the age of what is known is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Why a process is not ready is logged again after this long; at once if it is something else.
const REPEAT: Duration = Duration::from_secs(60);

/// Whether to ask this process, and if not, why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// The journal has not been folded to its end yet. **Ready-means-loaded**.
    Loading,
    /// Ask.
    Serving,
    /// The journal has been out of reach for longer than is allowed.
    Stale,
    /// The journal could not be followed because of a fault for longer than is allowed.
    Faulted,
    /// It was told to stop, or stops by a fault.
    Stopping,
}

impl Readiness {
    /// Whether to ask.
    #[must_use]
    pub const fn is_ready(self) -> bool {
        match self {
            Self::Serving => true,
            Self::Loading | Self::Stale | Self::Faulted | Self::Stopping => false,
        }
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loading => "not ready: the journal is still being loaded",
            Self::Serving => "ready",
            Self::Stale => "not ready: the journal has been out of reach for too long",
            Self::Faulted => "not ready: the journal cannot be followed",
            Self::Stopping => "not ready: the service is shutting down",
        })
    }
}

/// The same with what stands in the way now.
#[must_use]
pub fn because(readiness: Readiness, replica: &Replica) -> String {
    let why = replica.fault().map(|fault| fault.to_string());
    match why.or_else(|| replica.trouble().map(|trouble| trouble.to_string())) {
        Some(why) if !readiness.is_ready() && readiness != Readiness::Stopping => format!("{readiness}: {why}"),
        Some(_) | None => readiness.to_string(),
    }
}

/// Logs why a process is not ready: health itself can say only that it is not. Loading without any trouble is no reason to.
fn tell(told: &mut Option<(String, Duration)>, readiness: Readiness, replica: &Replica) {
    let troubled = replica.fault().is_some() || replica.trouble().is_some();
    if readiness.is_ready() || readiness == Readiness::Loading && !troubled {
        return *told = None;
    }
    let (why, now) = (because(readiness, replica), replica.clock().monotonic());
    if told.as_ref().is_none_or(|(before, at)| *before != why || now.saturating_sub(*at) >= REPEAT) {
        warn!("{why}");
        *told = Some((why, now));
    }
}

/// Sets it, for everybody who asks. A clone is the same.
#[derive(Debug, Clone)]
pub struct Gate {
    now: watch::Sender<Readiness>,
    dismissed: CancellationToken,
}

impl Gate {
    /// Loading, to begin with. Before anything listens, nothing reports SERVING.
    #[must_use]
    pub fn closed() -> Self {
        Self { now: watch::Sender::new(Readiness::Loading), dismissed: CancellationToken::new() }
    }

    /// Tells everybody.
    pub fn set(&self, readiness: Readiness) {
        self.now.send_replace(readiness);
    }

    /// What it is, and is from then on.
    #[must_use]
    pub fn watched(&self) -> watch::Receiver<Readiness> {
        self.now.subscribe()
    }

    /// Cancelled once those who watch are to go.
    #[must_use]
    pub fn dismissed(&self) -> CancellationToken {
        self.dismissed.clone()
    }

    /// Opens once the replica has something to answer from, and closes while it has been out of reach of the journal, or
    /// could not follow it, for too long; for ever. **Ready-means-loaded**.
    pub async fn keep(&self, replica: &Replica, max_staleness: Option<Duration>, max_fault: Duration) {
        let mut told: Option<(String, Duration)> = None;
        loop {
            let readiness = if replica.is_ready() {
                let stale = max_staleness.is_some_and(|most| replica.freshness().age > most);
                let faulted = replica.faulted_for().is_some_and(|since| since > max_fault);
                match (faulted, stale) {
                    (true, _) => Readiness::Faulted,
                    (false, true) => Readiness::Stale,
                    (false, false) => Readiness::Serving,
                }
            } else {
                Readiness::Loading
            };
            if readiness != self.readiness() {
                self.set(readiness);
                if readiness.is_ready() {
                    info!("serving");
                }
            }
            tell(&mut told, readiness, replica);
            tokio::select! {
                () = replica.ready(), if readiness == Readiness::Loading => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Ends the streams of those who watch health: they have been told the last there is.
    pub fn dismiss(&self) {
        self.dismissed.cancel();
    }

    /// What was set last.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        *self.now.borrow()
    }
}
