//! The protocol as stateright explores it: states up to the names of servers and desks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use stateright::Property;

use crate::action::Action;
use crate::bounds::Bounds;
use crate::invariants::INVARIANTS;
use crate::mutations::Mutation;
use crate::state::State;
use crate::symmetry::canonical;

/// What must have happened somewhere in an exploration, or it has shown nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Acknowledged,
    AcknowledgedAfterFailover,
    TakeoverProven,
    ProvenAgainAfterRestart,
    Live,
    LiveAfterFailover,
    PartialResync,
    FullResync,
    Repaired,
    Sealed,
    Accepted,
}

impl Event {
    pub const ALL: [Self; 11] = [
        Self::Acknowledged,
        Self::AcknowledgedAfterFailover,
        Self::TakeoverProven,
        Self::ProvenAgainAfterRestart,
        Self::Live,
        Self::LiveAfterFailover,
        Self::PartialResync,
        Self::FullResync,
        Self::Repaired,
        Self::Sealed,
        Self::Accepted,
    ];
}

/// The protocol within bounds, or a mutation of it.
#[derive(Debug)]
pub struct Model {
    pub bounds: Bounds,
    pub mutation: Option<Mutation>,
    events: [AtomicU64; Event::ALL.len()],
    /// Which invariants have been found violated. The checker keeps the last counterexample of a block of states, not the
    /// first and shortest: so each is reported once.
    violated: [AtomicBool; INVARIANTS.len()],
}

impl Model {
    pub fn new(bounds: Bounds, mutation: Option<Mutation>) -> Self {
        Self { bounds, mutation, events: Default::default(), violated: Default::default() }
    }

    pub fn breaks(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    pub fn note(&self, event: Event) {
        self.events[event as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many steps of the exploration were such an event.
    pub fn noted(&self, event: Event) -> u64 {
        self.events[event as usize].load(Ordering::Relaxed)
    }

    fn holds<const I: usize>(&self, state: &State) -> bool {
        (INVARIANTS[I].holds)(self, state) || self.violated[I].swap(true, Ordering::Relaxed)
    }
}

impl stateright::Model for Model {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let Bounds { servers, desks, .. } = self.bounds;
        vec![canonical(&State::created(servers.into(), desks.into())).0]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        Action::candidates(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        self.step(state, action).map(|next| canonical(&next).0)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(INVARIANTS[0].name, Self::holds::<0>),
            Property::always(INVARIANTS[1].name, Self::holds::<1>),
            Property::always(INVARIANTS[2].name, Self::holds::<2>),
            Property::always(INVARIANTS[3].name, Self::holds::<3>),
        ]
    }
}
