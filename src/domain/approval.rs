//! The second person: what waits for one, and what that person may decide.
//!
//! A proposal is an entry of its own. It changes nothing for viewers, and neither does its lapsing, which is read off the
//! clock like an order's start and end. An approval is one more entry, decided on the state of its moment: the outcome is
//! worked out anew, and whoever approves names the digest of the one they saw.

use std::sync::Arc;

use jiff::Timestamp;

use super::decide::{Decision, standing_change};
use super::digest::{Digest, Digester};
use super::effect::{Change, Effect, of_standing};
use super::event::{Attribution, Event, Lift, OrderChange, Recorded};
use super::item::{Disposition, subject_of};
use super::order::{Order, OrderState};
use super::outcome::Outcome;
use super::rejection::Rejection;
use super::spec::words;
use super::state::State;

words! {
    /// Why a change takes two.
    Ground {
        /// The order holds worldwide.
        Worldwide = 1 "worldwide",
        /// It withholds a protected account.
        ProtectedOverride = 2 "protected_override",
        /// It names more accounts and posts than one person may decide on.
        ManyNamed = 3 "many_named",
        /// It takes more accounts and posts out of sight than one person may decide on.
        ManyWithheld = 4 "many_withheld",
        /// It lifts an order, or items of one.
        Lifting = 5 "lifting",
    }
}

/// What the desk decided when something was proposed, by its policy of the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Why it takes two; at least one ground.
    pub grounds: Arc<[Ground]>,
    /// When it lapses, if nobody has decided.
    pub expires_at: Timestamp,
    /// Over what would have been done at once.
    pub outcome: Digest,
    /// How much would have changed for viewers.
    pub changed: Change,
}

/// What was proposed about an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proposed {
    /// To apply it.
    Apply,
    /// To lift it, or some of it.
    Lift(Lift),
}

/// What a second person said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Approved,
    /// No; or the first one withdrew it.
    Rejected,
}

/// A change of an order that takes, or took, two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// What was proposed.
    pub of: Proposed,
    /// Who proposed it, when and why.
    pub proposed: Recorded,
    /// What the desk decided then.
    pub proposal: Proposal,
    /// What came of it, and who said so.
    pub decided: Option<(Recorded, Verdict)>,
}

/// Whether two names are one person's, as far as names tell: whatever their case, and the spaces around them.
///
/// It cannot tell that two addresses are one person's, or that letters only look the same. Who has to be sure of that
/// must have people authenticated, and give each one identity.
#[must_use]
pub fn same_person(one: &str, other: &str) -> bool {
    // To upper case first: `ß` and `ss`, `ſ` and `s` are the same letters then.
    let folded = |name: &str| name.trim().to_uppercase().to_lowercase();
    folded(one) == folded(other)
}

/// What approving would do now.
#[derive(Debug, Clone)]
pub struct Pending {
    /// What is done about each item; as it is, for a lift.
    pub dispositions: Arc<[Disposition]>,
    /// What changes for viewers.
    pub effect: Effect,
    /// Over all that. What was previewed has the same, unless something has changed.
    pub digest: Digest,
    /// How it differs from what was proposed, in words.
    pub differs: Vec<String>,
}

/// Works out what approving would do.
///
/// # Errors
/// `NothingPending` if nothing waits.
pub fn pending(state: &State, order: &Order, now: Timestamp) -> Result<Pending, Rejection> {
    let approval = waiting(order, now)?;
    match &approval.of {
        Proposed::Apply => {
            let outcome = Outcome::of(state, order.spec(), order.items(), order.content(), now);
            let digest = outcome.digest(&approval.proposal.grounds);
            let mut differs = Vec::new();
            let mut others = outcome.dispositions.iter().zip(order.dispositions()).zip(order.items().iter());
            let other = |((now, then), _): &((&Disposition, &Disposition), _)| now != then;
            if let Some(((_, _), first)) = others.by_ref().find(other) {
                let count = 1 + others.filter(other).count();
                let line = first.line;
                differs.push(format!(
                    "{count} of the items would be dealt with otherwise than proposed, the first of them on line {line}"
                ));
            }
            differs.extend(counted(approval, &outcome.effect, "go dark"));
            Ok(Pending { dispositions: outcome.dispositions.into(), effect: outcome.effect, digest, differs })
        }
        Proposed::Lift(lift) => {
            let (effect, digest) = lifting(state, order, lift, &approval.proposal.grounds, now);
            let differs = counted(approval, &effect, "be visible again").into_iter().collect();
            Ok(Pending { dispositions: order.dispositions().into(), effect, digest, differs })
        }
    }
}

fn counted(approval: &Approval, effect: &Effect, verb: &str) -> Option<String> {
    let (then, now) = (approval.proposal.changed, effect.changed);
    let say = |change: Change| format!("{} accounts and {} posts", change.accounts, change.posts);
    (then != now).then(|| format!("{} would {verb}, not {} as proposed", say(now), say(then)))
}

/// What lifting would change for viewers, and the digest of it.
#[must_use]
pub fn lifting(state: &State, order: &Order, lift: &Lift, grounds: &[Ground], now: Timestamp) -> (Effect, Digest) {
    let from_force = order.state(now) == OrderState::InForce;
    let effect = match lift {
        Lift::Whole => {
            let subjects = order.effective_items().map(|(_, subject)| subject);
            of_standing(state, order.number(), subjects, from_force, false, now)
        }
        Lift::Items(positions) => {
            let items = positions.iter().filter_map(|at| order.items().get(*at as usize));
            let subjects = items.filter_map(|item| subject_of(item.resolution));
            of_standing(state, order.number(), subjects, from_force, false, now)
        }
    };
    let mut digest = Digester::new("withheld lift outcome 1");
    digest.text(order.id().as_str());
    digest.text(order.state(now).as_str());
    match lift {
        Lift::Whole => digest.number(u64::MAX),
        Lift::Items(positions) => {
            digest.number(positions.len() as u64);
            positions.iter().for_each(|at| digest.number((*at).into()));
        }
    }
    effect.digest(&mut digest);
    digest.number(effect.unchanged);
    grounds.iter().for_each(|ground| digest.text(ground.as_str()));
    (effect, digest.finish())
}

fn waiting(order: &Order, now: Timestamp) -> Result<&Approval, Rejection> {
    let nothing = || Rejection::NothingPending { order: order.id().clone(), state: order.state(now) };
    order.waits(now).ok_or_else(nothing)
}

/// What waits, if it is for this person to approve.
///
/// # Errors
/// If nothing waits, or if they proposed it themselves.
pub fn for_approver<'a>(order: &'a Order, by: &Attribution, now: Timestamp) -> Result<&'a Approval, Rejection> {
    let approval = waiting(order, now)?;
    if approval.proposed.by.is_same_person(by) {
        return Err(Rejection::OwnProposal { order: order.id().clone(), actor: by.actor.to_string() });
    }
    Ok(approval)
}

/// Whether somebody may approve what waits; `digest` is that of the outcome they saw.
///
/// # Errors
/// If nothing waits, if they proposed it themselves, or if the outcome would be another by now.
pub fn approve(
    state: &State,
    order: &Order,
    digest: Option<Digest>,
    by: &Attribution,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    let approval = for_approver(order, by, now)?;
    let pending = pending(state, order, now)?;
    if digest.is_some_and(|digest| digest != pending.digest) {
        return Err(Rejection::OutcomeChanged { order: order.id().clone(), differs: pending.differs });
    }
    let (change, effect) = match &approval.of {
        Proposed::Apply => {
            let starts_later = order.spec().effective_from.is_some_and(|from| from > now);
            let effect = if starts_later { Effect::default() } else { pending.effect };
            (OrderChange::Approved(pending.dispositions), effect)
        }
        Proposed::Lift(lift) => (OrderChange::LiftApproved(lift.clone()), pending.effect),
    };
    Ok(Decision::Write(standing_change(order, change), effect))
}

/// Whether what waits may be rejected. Whoever proposed it may, too: that is to withdraw it.
///
/// # Errors
/// If nothing waits.
pub fn reject(order: &Order, now: Timestamp) -> Result<Decision, Rejection> {
    waiting(order, now)?;
    Ok(Decision::Write(standing_change(order, OrderChange::Rejected), Effect::default()))
}

/// Whether somebody who is no approver may end what waits: who proposed it may.
///
/// # Errors
/// If nothing waits, or if somebody else proposed it.
pub fn withdraw(order: &Order, by: &Attribution, now: Timestamp) -> Result<Decision, Rejection> {
    if !waiting(order, now)?.proposed.by.is_same_person(by) {
        return Err(Rejection::NotOwnProposal { order: order.id().clone(), actor: by.actor.to_string() });
    }
    reject(order, now)
}

/// Has a lifting wait for a second person.
pub fn propose_lift(state: &State, order: &Order, lift: Lift, expires_at: Timestamp, now: Timestamp) -> Decision {
    let grounds: Arc<[Ground]> = Arc::new([Ground::Lifting]);
    let (effect, outcome) = lifting(state, order, &lift, &grounds, now);
    let proposal = Proposal { grounds, expires_at, outcome, changed: effect.changed };
    let event = Event::OrderChanged { order: order.id().clone(), change: OrderChange::LiftProposed(lift, proposal) };
    Decision::Propose(event, effect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_the_same_whatever_the_case_and_the_spaces() {
        for (one, other) in [
            ("desk@example.org", "DESK@Example.org"),
            (" desk@example.org", "desk@example.org\t"),
            ("Straße", "STRASSE"),
            ("Ωμέγα", "ΩΜΈΓΑ"),
            ("ΟΔΟΣ", "οδος"),
        ] {
            assert!(same_person(one, other) && same_person(other, one), "{one} {other}");
        }
        for (one, other) in [("desk@example.org", "desk2@example.org"), ("a b", "ab"), ("", "a")] {
            assert!(!same_person(one, other), "{one} {other}");
        }
    }
}
