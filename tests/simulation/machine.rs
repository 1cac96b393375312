//! A machine: its clock, its disk, its link to the journal, and the service that runs on it, which can be killed at any
//! moment and started again on what the disk has.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::CancellationToken;
use withheld::clock::{Clock, DateOffset};
use withheld::desk::{self, Desk};
use withheld::domain::ids::Revision;
use withheld::domain::rules::Rules;
use withheld::journal::{Journal, Position};
use withheld::record::snapshot::SnapshotFile;
use withheld::replica::lineage::{HistoryFile, Known, Lineage};
use withheld::replica::{self, Replica, ReplicaError, Snapshots};

use crate::check;
use crate::commands::attribution;
use crate::ledger::outcome;
use crate::lies::Lie;
use crate::port::Port;
use crate::store::Store;
use crate::world::{Shared, noon};

/// How long desks wait for a journal that is out of reach.
const WRITE_LIMIT: Duration = Duration::from_millis(1_500);
/// Older than this, what a replica knows is not LIVE.
pub const STALE_AFTER: Duration = Duration::from_secs(2);
/// How far ahead of a machine's date an entry may be.
pub const MAX_AHEAD: Duration = Duration::from_secs(120);

/// The service on a machine.
pub struct Running {
    pub desk: Desk,
    pub replica: Replica,
    stop: CancellationToken,
    following: JoinHandle<Result<(), ReplicaError>>,
    others: Vec<AbortHandle>,
    pub seen: check::Seen,
}

/// See the module.
pub struct Machine {
    pub number: usize,
    pub shared: Shared,
    pub clock: Clock,
    date: DateOffset,
    pub off: i64,
    /// When its date was set last, by true time.
    pub set_at: Duration,
    /// The latest date that it has had since somebody looked and it was LIVE, and what that was until then.
    pub latest: Timestamp,
    pub before: Timestamp,
    pub port: Arc<Port>,
    /// A directory, if it keeps anything.
    disk: Option<PathBuf>,
    every: u64,
    store: Option<Arc<Store>>,
    serves_early: bool,
    rules: Arc<ArcSwap<Rules>>,
    pub running: Option<Running>,
    /// Why the service ended by itself.
    pub ended: Option<String>,
    /// The furthest entry that it has ever adopted on what the disk has.
    pub adopted: Position,
    aside: usize,
}

impl Machine {
    /// A machine on which nothing runs yet.
    pub fn new(
        number: usize,
        shared: Shared,
        disk: Option<PathBuf>,
        store: Option<Arc<Store>>,
        rules: Arc<ArcSwap<Rules>>,
    ) -> Self {
        let (clock, date) = Clock::simulated(noon());
        let port = Port::new(number, shared.clone(), clock.clone());
        let (every, serves_early) = {
            let mut world = shared.lock();
            (world.rng.u64(1..8), world.rng.bool())
        };
        let (set_at, latest) = (Duration::ZERO, clock.now());
        let (running, ended, adopted) = (None, None, Position::START);
        Self {
            number,
            shared,
            clock,
            date,
            off: 0,
            set_at,
            latest,
            before: latest,
            port,
            disk,
            every,
            store,
            serves_early,
            rules,
            running,
            ended,
            adopted,
            aside: 0,
        }
    }

    fn lineage(&self) -> Lineage {
        let file = |name: &str| self.disk.as_ref().map(|dir| dir.join(name));
        let history = file("journal.history").map(HistoryFile::at);
        Lineage::of(history, file("journal.snapshot").map(SnapshotFile::at), None).of_existing()
    }

    /// What its disk says that it knows.
    pub fn known(&self) -> Vec<Known> {
        self.lineage().known().expect("the disk is readable")
    }

    /// Starts the service.
    pub fn start(&mut self) {
        if self.running.is_some() {
            return;
        }
        self.shared.lock().restarts += 1;
        let known = self.known();
        if self.shared.lock().lie == Some(Lie::EvidenceForgotten) {
            self.wipe();
        }
        let replica = Replica::new(self.clock.clone(), STALE_AFTER).with_max_ahead(MAX_AHEAD);
        let snapshots = match &self.disk {
            Some(dir) => {
                let file = SnapshotFile::at(dir.join("journal.snapshot"));
                let snapshots = Snapshots::in_file(file, self.every).serving(self.serves_early);
                match &self.store {
                    Some(store) => snapshots.shared(Arc::clone(store) as _),
                    None => snapshots,
                }
            }
            None => Snapshots::none(),
        };
        let journal: Arc<dyn Journal> = Arc::clone(&self.port) as _;
        let (desk, work) = desk::open(replica.clone(), Arc::clone(&journal), Arc::clone(&self.rules), WRITE_LIMIT);
        let stop = CancellationToken::new();
        let following = replica::run(replica.clone(), journal, snapshots, self.lineage(), stop.clone());
        let (mut publications, told) = (replica.publications(), Arc::clone(&self.shared.publications));
        let telling = async move {
            while publications.changed().await.is_ok() {
                told.notify_one();
            }
        };
        let others = vec![tokio::spawn(work).abort_handle(), tokio::spawn(telling).abort_handle()];
        let seen = check::Seen::new(known);
        self.shared.note(|| format!("machine {} starts, knowing {}", self.number, seen.known()));
        self.running = Some(Running { desk, replica, stop, following: tokio::spawn(following), others, seen });
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.following.abort();
            running.others.iter().for_each(AbortHandle::abort);
            self.port.forget();
            self.shared.note(|| format!("machine {} is killed", self.number));
        }
    }

    /// Ends the service as a supervisor does.
    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop.cancel();
            let ended = running.following.await;
            running.others.iter().for_each(AbortHandle::abort);
            self.port.forget();
            self.shared.note(|| {
                format!("machine {} is stopped: {:?}", self.number, ended.map(|it| it.map_err(|e| e.to_string())))
            });
        }
    }

    /// Notices that the service has ended by itself.
    pub async fn look(&mut self) {
        if self.running.as_ref().is_some_and(|running| running.following.is_finished())
            && let Some(running) = self.running.take()
        {
            let ended = running.following.await;
            running.others.iter().for_each(AbortHandle::abort);
            self.port.forget();
            let why = match ended {
                Ok(Err(error)) => withheld::telemetry::causes(&error),
                other => {
                    self.shared.wrong(|| format!("machine {} ended as {other:?}", self.number));
                    return;
                }
            };
            self.shared.note(|| format!("machine {} has ended: {why}", self.number));
            self.ended = Some(why);
        }
    }

    /// Its disk is empty from now on.
    pub fn wipe(&mut self) {
        for name in ["journal.history", "journal.snapshot"] {
            if let Some(dir) = &self.disk {
                let _ = std::fs::remove_file(dir.join(name));
            }
        }
        self.adopted = Position::START;
    }

    /// A person says that the journal there is the one to follow, and starts the service anew.
    pub async fn accept(&mut self) {
        self.stop().await;
        let lineage = self.lineage();
        self.aside += 1;
        lineage.set_aside(&self.aside.to_string()).expect("the disk can be written");
        let end = self.shared.lock().end();
        let first = self.shared.lock().server.entries.first().map(|link| link.position.hash);
        if let Some(first) = first {
            lineage.keep(withheld::journal::JournalName::of(first), end).expect("the disk can be written");
        }
        self.adopted = Position::START;
        self.start();
    }

    /// Sets its date so many microseconds wrong.
    pub fn set_date(&mut self, off: i64) {
        self.latest = self.latest.max(self.clock.now());
        (self.off, self.set_at) = (off, self.shared.now());
        self.date.set(off);
        self.latest = self.latest.max(self.clock.now());
        self.shared.note(|| format!("machine {} has its date {off} us off", self.number));
    }

    /// Somebody asks its desk for something: what became of it is in the ledger once it is known.
    pub fn submit(&mut self, request: usize) {
        let Some(running) = &mut self.running else { return };
        let (shared, number) = (self.shared.clone(), self.number);
        let (command, attempt) = {
            let mut world = shared.lock();
            (world.ledger.requests[request].command.clone(), world.ledger.again(request))
        };
        shared.note(|| format!("desk {number} is asked, request {request}: {command:?}"));
        let (desk, replica) = (running.desk.clone(), running.replica.clone());
        let acknowledged = check::owed_now(&shared);
        let asking = tokio::spawn(async move {
            let answer = desk.submit(command.clone(), attribution(request)).await;
            let text = match &answer {
                Ok(done) => format!("{} repeated {} written {}", done.revision, done.repeated, done.written),
                Err(error) => error.to_string(),
            };
            shared.note(|| format!("desk {number} answers request {request}: {text}"));
            let at = check::answer(&shared, &replica, number, request, &command, &answer, &acknowledged);
            shared.lock().ledger.conclude(request, attempt, outcome(&answer, at));
        });
        running.others.push(asking.abort_handle());
    }

    /// The revision of what is published, and whether anything stands in the way.
    pub fn shows(&self) -> (Revision, Option<String>) {
        match &self.running {
            Some(running) => {
                let fault = running.replica.fault().map(|fault| fault.to_string());
                (running.replica.load().position().revision, fault)
            }
            None => (Revision::START, self.ended.clone()),
        }
    }
}
