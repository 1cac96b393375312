//! Random histories of commands: what is computed from the log, in whatever way, is what the log says.

mod approvals;
pub mod digest;
pub mod history;
mod oracle;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;
use withheld::domain::country::{UnknownViewerPolicy, Viewer};
use withheld::domain::decide::{Command, Decision, decide};
use withheld::domain::effect::Effect;
use withheld::domain::event::{Entry, Event, Lift, OrderChange};
use withheld::domain::ids::{Revision, Subject};
use withheld::domain::item::{Disposition, subject_of};
use withheld::domain::order::OrderState;
use withheld::domain::policy::Policy;
use withheld::domain::rejection::Rejection;
use withheld::domain::rules::Rules;
use withheld::domain::state::{ApplyError, State, Touched};
use withheld::index::{Index, Snapshot};
use withheld::journal::{Hash, Position};
use withheld::record::snapshot::{SnapshotFile, TakenAt};
use withheld::record::{decode, encode};

use history::{Ask, Step, minutes, mk_by, mk_by_of, mk_command, noon, steps, subjects, written};
use oracle::Codes;

/// A policy by which much takes two, and what does lapses soon.
pub const STRICT: &str = "expires_after = '40m'\n[applying]\nworldwide = true\nnames_more_than = 5\n\
                          withholds_more_than = 3\n[lifting]\norders = true\nitems = true\n";
/// One by which next to nothing does.
const LENIENT: &str =
    "expires_after = '10m'\n[applying]\nworldwide = false\n[lifting]\norders = false\nitems = false\n";

/// A history under way: the log, and the state folded from it.
struct Run {
    /// Of two desks, whose policies differ: they take turns, and what they wrote is folded by neither.
    rules: [Rules; 2],
    state: State,
    log: Vec<Entry>,
    now: Timestamp,
}

/// What became of a step.
struct Outcome {
    decision: Result<Decision, Rejection>,
    touched: Vec<Touched>,
}

impl Run {
    fn new() -> Self {
        let rules = |policy| Rules { policy: Policy::parse(policy).unwrap(), ..Rules::builtin() };
        Self { rules: [STRICT, LENIENT].map(rules), state: State::default(), log: Vec::new(), now: noon() }
    }

    fn rules(&self, number: usize) -> &Rules {
        &self.rules[number % 2]
    }

    fn decide(&self, ask: &Ask, command: &Command, number: usize) -> Result<Decision, Rejection> {
        decide(&self.state, self.rules(number), command, &mk_by_of(ask, number), self.now)
    }

    /// Carries a command out, as the desk does.
    fn carry_out(&mut self, ask: &Ask, command: &Command, number: usize) -> Outcome {
        let decision = self.decide(ask, command, number);
        let mut touched = Vec::new();
        if let Ok(Decision::Write(event, _) | Decision::Propose(event, _)) = &decision {
            let entry = Entry { at: self.now, by: mk_by_of(ask, number), event: event.clone() };
            touched.push(self.state.apply(self.state.revision().next(), &entry).unwrap());
            self.log.push(entry);
        }
        Outcome { decision, touched }
    }
}

fn play(steps: &[Step], mut each: impl FnMut(&mut Run, &Ask, &Command, usize)) -> Run {
    let mut run = Run::new();
    for (number, step) in steps.iter().enumerate() {
        run.now += minutes(step.minutes);
        let command = mk_command(&step.ask, run.now);
        each(&mut run, &step.ask, &command, number);
    }
    run
}

fn viewers() -> Vec<Viewer> {
    ["IN", "DE", "FR", "NO", "US", "XX"].iter().map(|code| code.parse().unwrap()).collect()
}

/// Whether a list of codes is one that a viewer is kept from.
fn sees(viewer: Viewer, policy: UnknownViewerPolicy, codes: &Codes) -> bool {
    match (viewer, policy) {
        (Viewer::In(country), _) => codes.contains("XX") || codes.contains(country.as_str()),
        (Viewer::Unknown, UnknownViewerPolicy::WorldwideOnly) => codes.contains("XX"),
        (Viewer::Unknown, UnknownViewerPolicy::Strict) => !codes.is_empty(),
    }
}

/// Every answer an index gives is the one that a scan of the log gives.
fn agrees(index: &Snapshot, log: &[Entry], now: Timestamp) {
    let orders = oracle::orders(log);
    for subject in subjects() {
        let codes = oracle::dark(&orders, subject, now);
        let listed = index.countries(subject).codes();
        assert_eq!(listed, codes.iter().copied().collect::<Vec<_>>(), "{subject} at revision {}, {now}", log.len());
        for viewer in viewers() {
            for policy in [UnknownViewerPolicy::WorldwideOnly, UnknownViewerPolicy::Strict] {
                let told = index.check(subject, viewer, policy).map(|notice| notice.basis);
                let basis = || oracle::basis(&orders, subject, now, |codes| sees(viewer, policy, codes));
                let expected = sees(viewer, policy, &codes).then(basis);
                assert_eq!(told, expected, "{subject} for {viewer:?} at revision {}, {now}", log.len());
            }
        }
    }
}

/// All that a state tells, without how it keeps it.
fn portrait(state: &State) -> String {
    let order = |order: &std::sync::Arc<withheld::domain::order::Order>| {
        let items: Vec<_> = order.items().iter().zip(order.dispositions()).zip(0..).collect();
        let items: Vec<_> = items.iter().map(|((item, done), at)| (item, done, order.item_lifted_at(*at))).collect();
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {items:?}",
            order.number(),
            order.spec(),
            (order.recorded(), order.applied(), order.approval()),
            order.content(),
            order.upload(),
            order.later()
        )
    };
    let orders: Vec<_> = state.orders().iter().map(order).collect();
    let uploads: Vec<_> = state
        .uploads()
        .iter()
        .map(|(id, u)| format!("{id} {:?} {:?}", u.started_at, u.items.iter().collect::<Vec<_>>()))
        .collect();
    let requests: Vec<_> = state.requests().collect();
    let boundaries: Vec<_> = state.boundaries_after(Timestamp::MIN).collect();
    format!(
        "{} {} {} {orders:#?} {:?} {uploads:#?} {requests:?} {boundaries:?}",
        state.revision(),
        state.at(),
        state.format(),
        state.protections()
    )
}

fn fold(log: &[Entry]) -> State {
    let mut state = State::default();
    for (revision, entry) in (1..).zip(log) {
        state.apply(Revision::new(revision), entry).unwrap();
    }
    state
}

/// Cases in a test run; set `PROPTEST_CASES` for more.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1_000);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// At every revision and between them, the index kept up step by step, one made anew, and the log agree; and each
    /// index goes on giving the answers of its own revision.
    #[test]
    fn the_index_agrees_with_a_scan_of_the_log_at_every_revision(steps in steps(40)) {
        let mut index = Index::default();
        let mut kept = vec![(index.rebuild(&State::default(), noon()), 0, noon())];
        play(&steps, |run, ask, command, number| {
            // Time alone, up to just before now and then to now: starts and ends take effect without an entry.
            for now in [run.now - jiff::SignedDuration::from_micros(1), run.now] {
                let by_time = index.advance(&run.state, &[], now.max(noon()));
                agrees(&by_time, &run.log, by_time.made_at());
            }
            let outcome = run.carry_out(ask, command, number);
            let made = index.advance(&run.state, &outcome.touched, run.now);
            agrees(&made, &run.log, run.now);
            agrees(&Index::default().rebuild(&run.state, run.now), &run.log, run.now);
            let due = made.valid_until();
            assert!(due.is_none_or(|due| due > run.now));
            kept.push((made, run.log.len(), run.now));
        });
        let log = play(&steps, |run, ask, command, number| drop(run.carry_out(ask, command, number))).log;
        for (index, revision, now) in kept {
            prop_assert_eq!(index.revision(), Revision::new(revision as u64));
            agrees(&index, &log[..revision], now);
        }
    }

    /// What each line of a list comes to is what its order's instrument, the protections and the earlier lines say.
    #[test]
    fn every_line_gets_the_disposition_that_the_rules_give_it(steps in steps(30)) {
        play(&steps, |run, ask, command, number| {
            let before = run.log.clone();
            if let (Ask::Apply { lines, upload: None, .. }, Ok(
                Decision::Write(Event::OrderApplied(applied), _)
                | Decision::Propose(Event::OrderProposed { order: applied, .. }, _),
            )) = (ask, run.carry_out(ask, command, number).decision)
            {
                let lines: Vec<_> = lines.iter().map(|line| written(*line)).collect();
                assert_eq!(*applied.dispositions, *oracle::dispositions(&before, &applied.spec, &lines));
            }
        });
    }

    /// What a command says it changes for viewers is the difference between the log before and the log after.
    #[test]
    fn the_effect_told_is_the_difference_that_viewers_see(steps in steps(40)) {
        play(&steps, |run, ask, command, number| {
            let before = oracle::orders(&run.log);
            let Ok(Decision::Write(_, effect)) = run.carry_out(ask, command, number).decision else { return };
            let after = oracle::orders(&run.log);
            let mut expected = Effect::default();
            for subject in subjects() {
                let [was, is] = [&before, &after].map(|orders| oracle::dark(orders, subject, run.now));
                if was == is || (was.contains("XX") && is.contains("XX")) {
                    continue;
                }
                let count = |change: &mut withheld::domain::effect::Change| match subject {
                    Subject::Account(_) => change.accounts += 1,
                    Subject::Post(_) => change.posts += 1,
                };
                count(&mut expected.changed);
                for code in was.symmetric_difference(&is) {
                    count(expected.countries.entry(code).or_default());
                }
            }
            assert_eq!((effect.changed, effect.countries), (expected.changed, expected.countries), "{command:?}");
        });
    }

    /// **Union**: where an order lets go of a subject, in whatever way, it stays dark wherever another order in force
    /// withholds it.
    #[test]
    fn what_one_order_lets_go_another_still_withholds(steps in steps(40)) {
        let mut index = Index::default();
        index.rebuild(&State::default(), noon());
        play(&steps, |run, ask, command, number| {
            let before = oracle::orders(&run.log);
            let outcome = run.carry_out(ask, command, number);
            let made = index.advance(&run.state, &outcome.touched, run.now);
            let Ok(Decision::Write(Event::OrderChanged { order, change }, _)) = outcome.decision else { return };
            if matches!(change, OrderChange::Resumed | OrderChange::Correspondence(_)) {
                return;
            }
            let others: Vec<_> = before.into_iter().filter(|(id, _)| *id != order).collect();
            for subject in subjects() {
                let still = oracle::dark(&others, subject, run.now);
                let told: BTreeSet<_> = made.countries(subject).codes().into_iter().collect();
                assert!(still.is_subset(&told), "{subject}: {still:?} by others, {told:?} told after {change:?}");
            }
        });
    }

    /// A snapshot at any revision, with what came after it, is the whole history; and its bytes are those of any other
    /// process that folded the same entries.
    #[test]
    fn a_snapshot_and_the_tail_are_the_whole_history(steps in steps(40), cut in any::<prop::sample::Index>()) {
        let run = play(&steps, |run, ask, command, number| drop(run.carry_out(ask, command, number)));
        let dir = tempfile::TempDir::new().unwrap();
        let file = |name: &str| SnapshotFile::at(dir.path().join(name));
        let at = cut.index(run.log.len() + 1);
        let hash = run.log[..at].iter().fold(Hash::GENESIS, |hash, entry| hash.chain(&encode(entry)));
        let name = (at % 2 == 0).then_some([at as u8; 16]);
        file("one.snapshot").write(&fold(&run.log[..at]), hash, name).unwrap();
        file("two.snapshot").write(&fold(&run.log[..at]), hash, name).unwrap();
        let bytes = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
        prop_assert!(bytes("one.snapshot") == bytes("two.snapshot"));

        let (mut state, taken) = file("one.snapshot").read().unwrap().unwrap();
        let position = Position { revision: Revision::new(at as u64), hash };
        prop_assert_eq!(taken, TakenAt { position, journal: name });
        for (revision, entry) in (1..).zip(&run.log).skip(at) {
            state.apply(Revision::new(revision), entry).unwrap();
        }
        prop_assert_eq!(portrait(&state), portrait(&run.state));
        prop_assert_eq!(state.digest(), run.state.digest());
        agrees(&Index::default().rebuild(&state, run.now), &run.log, run.now);
        // And it can be written again.
        file("three.snapshot").write(&state, hash, name).unwrap();
        let again = file("three.snapshot").read().unwrap().unwrap().0;
        prop_assert_eq!(portrait(&again), portrait(&run.state));
    }

    /// Entries survive being stored.
    #[test]
    fn entries_are_read_as_they_were_written(steps in steps(30)) {
        for entry in play(&steps, |run, ask, command, number| drop(run.carry_out(ask, command, number))).log {
            prop_assert_eq!(decode(&encode(&entry)).unwrap(), entry);
        }
    }

    /// An entry delivered again changes nothing, one that skips ahead is refused, a command sent again is recognised, and
    /// one that is refused has left nothing behind.
    #[test]
    fn redelivery_changes_nothing_and_a_gap_is_an_error(steps in steps(25)) {
        let mut written = BTreeMap::new();
        play(&steps, |run, ask, command, number| {
            let before = portrait(&run.state);
            match run.carry_out(ask, command, number).decision {
                Ok(Decision::Write(..) | Decision::Propose(..)) => {
                    drop(written.insert(number, (ask.clone(), command.clone(), run.state.revision())));
                }
                Ok(Decision::Repeated(_) | Decision::Nothing) | Err(_) => assert_eq!(portrait(&run.state), before, "{ask:?}"),
            }
            let now = portrait(&run.state);
            for (revision, entry) in (1..).zip(&run.log) {
                assert_eq!(run.state.apply(Revision::new(revision), entry), Ok(Touched::default()));
            }
            if let Some(entry) = run.log.last() {
                let ahead = run.state.revision().next().next();
                assert_eq!(run.state.apply(ahead, entry), Err(ApplyError::Gap { at: run.state.revision(), got: ahead }));
            }
            assert_eq!(portrait(&run.state), now);
            for (number, (ask, command, revision)) in &written {
                assert_eq!(run.decide(ask, command, *number), Ok(Decision::Repeated(*revision)));
                let mut other = mk_by(*number);
                other.request_digest = mk_by(1_000).request_digest;
                let other = decide(&run.state, run.rules(*number), command, &other, run.now);
                assert!(matches!(other, Err(Rejection::RequestIdTaken { .. })), "{other:?}");
            }
        });
    }

    /// When each subject was dark by each order, as it is told years later, is what the log told at the time.
    #[test]
    fn the_intervals_told_later_are_what_was_dark_at_the_time(steps in steps(30)) {
        let run = play(&steps, |run, ask, command, number| drop(run.carry_out(ask, command, number)));
        let end = run.now;
        let mut then = noon();
        while then <= end {
            for subject in subjects() {
                let mut told = Codes::new();
                for order in run.state.orders() {
                    for (resolution, at) in order.items().resolutions().zip(0..) {
                        let dark = order.item_intervals(at).iter().any(|interval| interval.contains(then));
                        if subject_of(resolution) == Some(subject) && dark {
                            told.extend(order.spec().territory.countries().codes());
                        }
                    }
                }
                assert_eq!(told, oracle::dark_then(&run.log, subject, then), "{subject} at {then}");
            }
            then += minutes(1);
        }
    }
}

/// Orders put together by hand, so that the properties above are known to meet what they are about.
#[test]
fn the_histories_have_in_them_what_the_properties_are_about() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut met = BTreeMap::<&str, u32>::new();
    for _ in 0..1_000 {
        let steps = steps(40).new_tree(&mut runner).unwrap().current();
        play(&steps, |run, ask, command, number| {
            let kind = match &run.carry_out(ask, command, number).decision {
                Err(Rejection::OwnProposal { .. }) => "refused to approve their own",
                Err(Rejection::OrderIdSpent { state: OrderState::ExpiredUnapproved, .. }) => "lapsed",
                Err(_) => "refused",
                Ok(Decision::Repeated(_)) => "repeated",
                Ok(Decision::Nothing) => "nothing to write",
                Ok(Decision::Write(Event::OrderApplied(order), _)) if order.upload.is_some() => "applied, staged",
                Ok(Decision::Write(Event::OrderApplied(order), _)) if order.spec.effective_from > Some(run.now) => {
                    "scheduled"
                }
                Ok(Decision::Write(Event::OrderApplied(_), _)) => "applied",
                Ok(Decision::Write(Event::OrderChanged { change, .. }, _)) => match change {
                    OrderChange::Lifted => "lifted",
                    OrderChange::ItemsLifted(_) => "lifted in part",
                    OrderChange::Stayed => "stayed",
                    OrderChange::Resumed => "resumed",
                    OrderChange::Correspondence(_) => "noted",
                    OrderChange::Approved(_) => "approved",
                    OrderChange::Rejected => "rejected",
                    OrderChange::LiftApproved(Lift::Whole) => "lift approved",
                    OrderChange::LiftApproved(Lift::Items(_)) => "lift in part approved",
                    OrderChange::LiftProposed(..) => "other",
                },
                Ok(Decision::Propose(Event::OrderProposed { order, .. }, _)) if order.upload.is_some() => {
                    "proposed, staged"
                }
                Ok(Decision::Propose(Event::OrderProposed { order, .. }, _))
                    if order.dispositions.contains(&Disposition::WithheldByOverride) =>
                {
                    "proposed, overriding a protection"
                }
                Ok(Decision::Propose(Event::OrderProposed { .. }, _)) => "proposed",
                Ok(Decision::Propose(..)) => "lift proposed",
                Ok(Decision::Write(Event::UploadsDiscarded(_), _)) => "discarded",
                Ok(Decision::Write(..)) => "other",
            };
            *met.entry(kind).or_default() += 1;
            let overlapping = oracle::orders(&run.log);
            let twice = subjects().into_iter().any(|subject| {
                overlapping
                    .iter()
                    .filter(|order| !oracle::dark(&[(*order).clone()], subject, run.now).is_empty())
                    .count()
                    > 1
            });
            if twice {
                *met.entry("a subject withheld by several orders").or_default() += 1;
            }
        });
    }
    for kind in [
        "refused",
        "applied",
        "applied, staged",
        "scheduled",
        "lifted",
        "lifted in part",
        "stayed",
        "resumed",
        "noted",
        "discarded",
        "proposed",
        "proposed, staged",
        "proposed, overriding a protection",
        "approved",
        "rejected",
        "lapsed",
        "refused to approve their own",
        "lift proposed",
        "lift approved",
        "lift in part approved",
        "a subject withheld by several orders",
    ] {
        assert!(met.get(kind).is_some_and(|count| *count >= 10), "`{kind}` is too rare: {met:?}");
    }
}
