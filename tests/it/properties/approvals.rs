//! Two people: nothing that takes two comes to pass by one, and what waits withholds nothing.

use std::collections::BTreeSet;

use proptest::prelude::*;
use withheld::domain::decide::Decision;
use withheld::domain::event::{Event, OrderChange};
use withheld::domain::ids::{OrderId, Subject};
use withheld::domain::item::Disposition;
use withheld::domain::locator::Resolution;
use withheld::domain::order::OrderState;
use withheld::domain::territory::Territory;

use super::history::{minutes, steps, subjects};
use super::{Run, config, oracle, play};

fn states(run: &Run, now: jiff::Timestamp) -> Vec<(OrderId, &'static str)> {
    run.state.orders().iter().map(|order| (order.id().clone(), order.state(now).as_str())).collect()
}

proptest! {
    #![proptest_config(config())]

    /// Where each order stands is what the log says, now and as time goes by without an entry.
    #[test]
    fn where_an_order_stands_is_what_the_log_says(steps in steps(40)) {
        play(&steps, |run, ask, command, number| {
            drop(run.carry_out(ask, command, number));
            let told = oracle::orders(&run.log);
            for later in [0, 1, 9, 10, 39, 40, 60] {
                let now = run.now + minutes(later);
                let expected: Vec<_> = told.iter().map(|(id, told)| (id.clone(), told.state(now))).collect();
                assert_eq!(states(run, now), expected, "{later} minutes later");
            }
        });
    }

    /// By the strict desk's policy an order is in force at once only if it is small, names no country but some, and
    /// overrides nothing; and one waits only if not. Counted from the log, by nothing of the policy's.
    #[test]
    fn what_takes_two_waits_and_nothing_else_does(steps in steps(40)) {
        play(&steps, |run, ask, command, number| {
            let before = oracle::orders(&run.log);
            let decision = run.carry_out(ask, command, number).decision;
            let (applied, waits) = match decision {
                Ok(Decision::Write(Event::OrderApplied(applied), _)) => (applied, false),
                Ok(Decision::Propose(Event::OrderProposed { order, .. }, _)) => (order, true),
                _ => return,
            };
            let mut told = oracle::orders(&run.log).pop().unwrap().1;
            let named: BTreeSet<_> = told.lines.iter().filter_map(|line| line.subject).collect();
            // As if it were in force, whenever it starts.
            (told.unapproved, told.starts) = (false, run.now);
            let after: Vec<_> = before.iter().cloned().chain([(applied.spec.order_id.clone(), told)]).collect();
            let changes = |subject: &Subject| {
                let [was, is] = [&before, &after].map(|orders| oracle::dark(orders, *subject, run.now));
                was != is && !was.contains("XX")
            };
            let dark = subjects().iter().filter(|subject| changes(subject)).count();
            let nothing = !applied.dispositions.iter().any(|done| done.takes_effect());
            let overrides = applied.dispositions.contains(&Disposition::WithheldByOverride);
            let worldwide = applied.spec.territory == Territory::Worldwide;
            let strict = number % 2 == 0 && (worldwide || named.len() > 5 || dark > 3);
            assert_eq!(waits, !nothing && (overrides || strict), "{command:?}: {} named, {dark} dark", named.len());
        });
    }

    /// Whatever is approved was waiting, and not for whoever approves; and before it is, nobody sees anything of it.
    #[test]
    fn an_approval_is_a_second_persons_and_in_time(steps in steps(40)) {
        play(&steps, |run, ask, command, number| {
            let before = oracle::orders(&run.log);
            let decision = run.carry_out(ask, command, number).decision;
            let Ok(Decision::Write(Event::OrderChanged { order, change }, _)) = &decision else { return };
            if !matches!(change, OrderChange::Approved(_) | OrderChange::LiftApproved(_)) {
                return;
            }
            let told = &before.iter().find(|(id, _)| id == order).unwrap().1;
            let waits = told.waits.as_ref().expect("nothing waited");
            let by = &run.log.last().unwrap().by.actor;
            assert!(waits.proposer == "desk@example.org" && **by == *"second@example.org", "{waits:?} approved by {by}");
            assert!(run.now < waits.until && told.applied.spec.expires_at.is_none_or(|end| run.now < end));
        });
    }

    /// The items of an order that waits are its own: throwing staged lists away takes nothing from it.
    #[test]
    fn what_waits_keeps_its_items(steps in steps(40)) {
        let run = play(&steps, |run, ask, command, number| drop(run.carry_out(ask, command, number)));
        for (order, (_, told)) in run.state.orders().iter().zip(oracle::orders(&run.log)) {
            let kept = order.items().resolutions().map(|r| if let Resolution::Subject(s) = r { Some(s) } else { None });
            prop_assert!(kept.eq(told.lines.iter().map(|line| line.subject)));
            let held = subjects().iter().filter(|subject| {
                let set = run.state.holdings().set_of(**subject);
                run.state.holdings().orders_in(set).contains(&order.number())
            }).count();
            if matches!(order.state(run.now), OrderState::PendingApproval | OrderState::Rejected | OrderState::ExpiredUnapproved) {
                prop_assert_eq!(held, 0);
            }
        }
    }
}
