//! What must hold in every state, under the names that the README gives it.

use crate::model::Model;
use crate::mutations::Mutation;
use crate::state::{Set, State};
use crate::stream::Op;

pub struct Invariant {
    pub name: &'static str,
    pub holds: fn(&Model, &State) -> bool,
}

pub const INVARIANTS: [Invariant; 4] = [
    Invariant { name: "One-writer-at-a-revision", holds: one_writer_at_a_revision },
    Invariant { name: "Acked-is-durable", holds: acked_is_durable },
    Invariant { name: "One-history", holds: one_history },
    Invariant { name: "Sealed-for-cause", holds: sealed_for_cause },
];

/// In every log of every server, each entry stands right after the one that it was decided upon.
fn one_writer_at_a_revision(_: &Model, state: &State) -> bool {
    state.servers.iter().all(|server| {
        let log = server.contents().log;
        let mut upon = 0;
        log.iter().all(|entry| std::mem::replace(&mut upon, *entry) == state.history.upon[usize::from(*entry) - 1])
    })
}

/// A primary that a majority names and a session takes for proven has every acknowledged entry in its log.
fn acked_is_durable(model: &Model, state: &State) -> bool {
    state.desks.iter().filter_map(|desk| desk.session).all(|session| {
        let server = state.server(session.at.primary);
        let contents = server.contents();
        let faulted = contents.committed().is_none() && !model.breaks(Mutation::MarkBeyondEndIsLevel);
        let trusted = session.doubt.is_none() && state.voters.majority == session.at && server.is_primary() && !faulted;
        !trusted || state.history.acknowledged.is_subset_of(Set::of(&contents.log))
    })
}

/// Of any two acknowledged entries one is in the history of the other; and nobody has called itself LIVE without an entry
/// that was acknowledged before the moment that it spoke of.
fn one_history(_: &Model, state: &State) -> bool {
    let (history, acknowledged) = (&state.history, state.history.acknowledged);
    let related = |a, b| history.contains(a, b) || history.contains(b, a);
    !history.live_without && acknowledged.iter().all(|a| acknowledged.iter().all(|b| related(a, b)))
}

/// Nobody seals the journal unless a person has accepted a history that lacked something, or deleted it.
fn sealed_for_cause(_: &Model, state: &State) -> bool {
    state.spent.acceptances > 0
        || state.spent.deletions > 0
        || !state.servers.iter().any(|server| server.stream.contains(&Op::Seal))
}
