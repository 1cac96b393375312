//! Operators who apply and lift orders, and timeline services that ask, all the while, at every replica.
//!
//! An operator does what the documentation tells clients: as long as the answer says to come again, or none comes, the
//! same command is sent again with the same request id, to whichever replica is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic_types::StatusExt as _;
use withheld::pb::v1 as pb;

use super::fleet::{Fleet, Reach};
use super::history::{ASKED, Accounts, Command, EVERY_ACCOUNT, History, Kind, ORDERED, Outcome, Read, Span, Write};
use super::history::{bits, ids};
use crate::harness::{mk_accounts, mk_apply, mk_batch, mk_order};
use crate::redis::{PATIENCE, until};

/// What an operator takes to think, and a timeline to be drawn. Without, all processes of a test would fight for the
/// machine's cores, and faults be told from slowness no more.
const THINK: Duration = Duration::from_millis(20);
/// How soon a command is sent again. Services ask for more time than that; who is impatient finds out more.
const AGAIN: Duration = Duration::from_millis(50);
/// So many orders of an operator are in force at once, before one of them is lifted.
const IN_FORCE: usize = 3;

/// Where an operator sends a command.
#[derive(Debug, Clone, Copy)]
pub enum Route {
    /// To this replica, always.
    To(usize),
    /// To this one first, and to the next whenever one says to come again.
    From(usize),
}

/// Clients of a fleet.
pub struct Traffic {
    clients: Arc<Clients>,
    running: JoinSet<History>,
}

/// What clients share.
pub struct Clients {
    pub fleet: Arc<Fleet>,
    began: Instant,
    /// The highest revision that anybody has been told: by an acknowledgement, or by a strong query's answer.
    told: AtomicU64,
    acknowledged: AtomicU64,
    /// Plain queries answered, by replica.
    answered: Vec<AtomicU64>,
    stop: CancellationToken,
}

impl Traffic {
    /// Nobody yet.
    pub fn new(fleet: &Arc<Fleet>) -> Self {
        let clients = Clients {
            fleet: Arc::clone(fleet),
            began: Instant::now(),
            told: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            answered: (0..fleet.size()).map(|_| AtomicU64::new(0)).collect(),
            stop: CancellationToken::new(),
        };
        Self { clients: Arc::new(clients), running: JoinSet::new() }
    }

    /// Some operators who go to any replica, and at each replica two timeline services.
    pub fn start(fleet: &Arc<Fleet>, operators: usize) -> Self {
        let mut traffic = Self::new(fleet);
        for operator in 0..operators {
            let clients = Arc::clone(&traffic.clients);
            traffic.running.spawn(async move { clients.operate(operator, None).await });
        }
        for replica in 0..fleet.size() {
            for kind in [Kind::Plain, Kind::Strong] {
                let clients = Arc::clone(&traffic.clients);
                traffic.running.spawn(async move { clients.ask_on(replica, kind).await });
            }
        }
        traffic
    }

    /// One more operator, who goes to this replica alone.
    pub fn add_operator(&mut self, operator: usize, replica: usize) {
        let clients = Arc::clone(&self.clients);
        self.running.spawn(async move { clients.operate(operator, Some(replica)).await });
    }

    pub const fn clients(&self) -> &Arc<Clients> {
        &self.clients
    }

    /// Waits until so many more commands have been acknowledged, to anybody.
    pub async fn acknowledged_more(&self, more: u64) {
        let wanted = self.clients.acknowledged.load(Ordering::SeqCst) + more;
        until(format!("{more} more commands are acknowledged"), async || {
            self.clients.acknowledged.load(Ordering::SeqCst) >= wanted
        })
        .await;
    }

    /// Waits until a replica has answered so many more plain queries.
    pub async fn answered_more(&self, replica: usize, more: u64) {
        let answered = &self.clients.answered[replica];
        let wanted = answered.load(Ordering::SeqCst) + more;
        until(format!("replica {replica} answers"), async || answered.load(Ordering::SeqCst) >= wanted).await;
    }

    /// No new calls; those under way come to their end.
    pub async fn stop(mut self) -> History {
        self.clients.stop.cancel();
        let mut all = History::default();
        while let Some(one) = self.running.join_next().await {
            all.append(one.unwrap());
        }
        all
    }
}

impl History {
    pub fn append(&mut self, other: Self) {
        self.writes.extend(other.writes);
        self.reads.extend(other.reads);
        for (all, more) in [(&mut self.failed_reads, other.failed_reads), (&mut self.told_to_wait, other.told_to_wait)]
        {
            more.into_iter().for_each(|(what, times)| *all.entry(what).or_default() += times);
        }
    }
}

/// The documented reason of an error; none if it was not the service that made it.
fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

fn written(status: &Status) -> Option<String> {
    status.get_details_error_info().and_then(|info| info.metadata.get("written").cloned())
}

impl Clients {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap()
    }

    /// Sends a command until its outcome is known, or for as long as any test waits.
    pub async fn carry_out(
        &self,
        request_id: String,
        command: Command,
        route: Route,
        history: &mut History,
    ) -> Outcome {
        let (mut at, stays) = match route {
            Route::To(replica) => (replica, true),
            Route::From(replica) => (replica, false),
        };
        let (started, began) = (Instant::now(), self.now());
        let mut in_doubt = false;
        let outcome = loop {
            if started.elapsed() > PATIENCE {
                break Outcome::Unknown;
            }
            let answer = match self.fleet.reach(at) {
                Some(reach) => send(reach, &request_id, &command).await,
                None => None,
            };
            match answer {
                Some(Ok((revision, repeated))) => {
                    self.told.fetch_max(revision, Ordering::SeqCst);
                    break Outcome::Acknowledged { revision, repeated };
                }
                Some(Err(status)) => match (status.code(), reason(&status)) {
                    // Transports lose connections under many codes, and never with a reason.
                    (_, None) => {
                        in_doubt = true;
                        *history.told_to_wait.entry("(no answer)".to_owned()).or_default() += 1;
                    }
                    (
                        tonic::Code::Unavailable | tonic::Code::Aborted | tonic::Code::ResourceExhausted,
                        Some(reason),
                    ) => {
                        in_doubt |= written(&status).as_deref() != Some("no");
                        assert!(status.get_details_retry_info().is_some(), "not told when to come again: {status:?}");
                        *history.told_to_wait.entry(reason).or_default() += 1;
                    }
                    (_, Some(reason)) => {
                        assert_eq!(written(&status).as_deref(), Some("no"), "{status:?}");
                        break Outcome::Refused { reason };
                    }
                },
                None => {}
            }
            if !stays {
                at = (at + 1) % self.fleet.size();
            }
            tokio::time::sleep(AGAIN).await;
        };
        let span = Span { began, ended: self.now() };
        if matches!(outcome, Outcome::Acknowledged { .. }) {
            self.acknowledged.fetch_add(1, Ordering::SeqCst);
        }
        history.writes.push(Write { request_id, command, span, outcome: outcome.clone(), in_doubt });
        outcome
    }

    /// Applies and lifts orders of its own.
    async fn operate(&self, operator: usize, home: Option<usize>) -> History {
        let mut random = fastrand::Rng::with_seed(operator as u64);
        let (mut history, mut in_force) = (History::default(), Vec::new());
        for number in 0_u64.. {
            if self.stop.is_cancelled() {
                break;
            }
            let command = if in_force.len() < IN_FORCE {
                let order = format!("order-{operator}-{number}");
                let accounts = (0..random.u32(1..=6)).fold(0, |all, _| all | 1 << random.u32(0..u64::BITS));
                Command::Apply { order, accounts, countries: random.u8(1..1 << ORDERED.len()) }
            } else {
                Command::Lift { order: in_force.swap_remove(random.usize(0..in_force.len())) }
            };
            let route = home.map_or_else(|| Route::From(random.usize(0..self.fleet.size())), Route::To);
            let request_id = format!("request-{operator}-{number}");
            let outcome = self.carry_out(request_id, command.clone(), route, &mut history).await;
            if let (Command::Apply { order, .. }, Outcome::Acknowledged { .. }) = (command, outcome) {
                in_force.push(order);
            }
            tokio::time::sleep(THINK).await;
        }
        history
    }

    /// Asks a replica again and again.
    async fn ask_on(&self, replica: usize, kind: Kind) -> History {
        let mut history = History::default();
        for turn in 0_usize.. {
            if self.stop.is_cancelled() {
                break;
            }
            if let Some(reach) = self.fleet.reach(replica) {
                self.ask(&reach, kind, turn, &mut history).await;
            }
            tokio::time::sleep(THINK).await;
        }
        history
    }

    /// One query: now about all accounts, now about one.
    async fn ask(&self, reach: &Reach, kind: Kind, turn: usize, history: &mut History) {
        let country = turn % ASKED.len();
        let asked: Accounts = if turn % 5 == 4 { 1 << (turn % 64) } else { EVERY_ACCOUNT };
        let began = self.now();
        let at_least = if kind == Kind::Strong { self.told.load(Ordering::SeqCst) } else { 0 };
        match answer(reach, country, asked, at_least).await {
            Ok((withheld, revision)) => {
                if kind == Kind::Strong {
                    self.told.fetch_max(revision, Ordering::SeqCst);
                } else {
                    self.answered[reach.replica].fetch_add(1, Ordering::SeqCst);
                }
                let span = Span { began, ended: self.now() };
                let Reach { replica, life, .. } = *reach;
                history.reads.push(Read { replica, life, kind, span, country, asked, withheld, revision });
            }
            // It went with its process.
            Err(status) if reason(&status).is_none() && !self.fleet.is_up(reach) => {}
            // It is honest not to know what has not come yet.
            Err(status) if kind == Kind::Strong && reason(&status).as_deref() == Some("REVISION_NOT_REACHED") => {
                *history.told_to_wait.entry("REVISION_NOT_REACHED".to_owned()).or_default() += 1;
            }
            Err(status) => {
                let what = format!("{kind:?} {:?} {:?} {}", status.code(), reason(&status), status.message());
                *history.failed_reads.entry(what).or_default() += 1;
            }
        }
    }
}

/// A request that ends some day, whatever happens.
fn bounded<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(PATIENCE);
    request
}

/// Sends a command once: the revision it holds from, and whether it had been carried out before.
async fn send(mut reach: Reach, request_id: &str, command: &Command) -> Option<Result<(u64, bool), Status>> {
    let context = Some(pb::CommandContext {
        actor: format!("{}@example.org", request_id.rsplit_once('-')?.0),
        reason: "a test".to_owned(),
        request_id: request_id.to_owned(),
    });
    Some(match command {
        Command::Apply { order, accounts, countries } => {
            let countries = bits((*countries).into()).map(|bit| ORDERED[bit as usize]).collect::<Vec<_>>();
            let request = mk_apply(mk_order(order, &countries), mk_accounts(ids(*accounts)));
            let answer = reach.orders.apply_order(bounded(pb::ApplyOrderRequest { context, ..request })).await;
            answer.map(|answer| (answer.get_ref().revision, answer.get_ref().already_applied))
        }
        Command::Lift { order } => {
            let request = pb::LiftOrderRequest { order_id: order.clone(), context, validate_only: false };
            let answer = reach.orders.lift_order(bounded(request)).await;
            answer.map(|answer| (answer.get_ref().revision, answer.get_ref().already_done))
        }
    })
}

/// Asks once: which accounts are withheld, at which revision.
async fn answer(reach: &Reach, country: usize, asked: Accounts, at_least: u64) -> Result<(Accounts, u64), Status> {
    let consistency = Some(pb::Consistency { at_least_revision: at_least, ..Default::default() });
    let viewer_country = ASKED[country].to_owned();
    let mut queries = reach.queries.clone();
    if asked.is_power_of_two() {
        let account_id = ids(asked).next().unwrap();
        let request = pb::CheckRequest { account_id, viewer_country, consistency, ..Default::default() };
        let answer = queries.check(bounded(request)).await?.into_inner();
        return Ok((if answer.withheld { asked } else { 0 }, answer.freshness.unwrap().revision));
    }
    let request = pb::BatchCheckRequest { consistency, ..mk_batch(&viewer_country, ids(asked)) };
    let answer = queries.batch_check(bounded(request)).await?.into_inner();
    let order: Vec<u32> = bits(asked).collect();
    let withheld = answer.accounts.iter().fold(0, |all, entry| all | 1 << order[entry.index as usize]);
    Ok((withheld, answer.freshness.unwrap().revision))
}
