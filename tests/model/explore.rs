//! Runs the checker, and says what it found in words that can be followed.

use std::fmt;
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model as _};

use crate::action::Action;
use crate::bounds::Bounds;
use crate::invariants::INVARIANTS;
use crate::model::{Event, Model};
use crate::mutations::Mutation;
use crate::state::State;
use crate::symmetry::canonical;

pub struct Explored {
    pub bounds: Bounds,
    pub states: usize,
    pub unique: usize,
    pub depth: usize,
    pub took: Duration,
    pub events: Vec<(Event, u64)>,
    pub counterexample: Option<Counterexample>,
}

impl Explored {
    pub fn count(&self, event: Event) -> u64 {
        self.events.iter().filter(|(e, _)| *e == event).map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bounds, states, unique, depth, .. } = self;
        write!(f, "{bounds}: {states} states, {unique} unique, depth {depth}, {:.1} s; ", self.took.as_secs_f64())?;
        let Some(found) = &self.counterexample else {
            let names: Vec<_> = INVARIANTS.iter().map(|invariant| invariant.name).collect();
            return write!(f, "{} hold", names.join(", "));
        };
        write!(f, "{} violated after {} steps", found.invariant, found.steps.len())?;
        found.steps.iter().try_for_each(|step| write!(f, "\n    {step:?}"))
    }
}

/// The shortest way to a state in which an invariant does not hold.
pub struct Counterexample {
    pub invariant: &'static str,
    pub steps: Vec<Action>,
}

/// Explores every state within the bounds, breadth first, until an invariant is violated.
pub fn explore(bounds: Bounds, mutation: Option<Mutation>) -> Explored {
    let started = Instant::now();
    let checker = Model::new(bounds, mutation).checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let events = Event::ALL.map(|event| (event, checker.model().noted(event))).to_vec();
    let shortest = checker.discoveries().into_iter().min_by_key(|(_, path)| path.clone().into_actions().len());
    let counterexample = shortest
        .map(|(invariant, path)| Counterexample { invariant, steps: unrenamed(checker.model(), &path.into_actions()) });
    Explored {
        bounds,
        states: checker.state_count(),
        unique: checker.unique_state_count(),
        depth: checker.max_depth(),
        took: started.elapsed(),
        events,
        counterexample,
    }
}

/// The same steps with each server and desk keeping the number that it began with.
fn unrenamed(model: &Model, steps: &[Action]) -> Vec<Action> {
    let mut real = State::created(model.bounds.servers.into(), model.bounds.desks.into());
    let (mut explored, renaming) = canonical(&real);
    let (mut servers, mut desks) = (renaming.servers, renaming.desks);
    let mut named = Vec::new();
    for step in steps {
        let real_step = step.renamed(|s| servers[usize::from(s)], |d| desks[usize::from(d)]);
        real = model.step(&real, real_step).unwrap();
        let (next, renaming) = canonical(&model.step(&explored, *step).unwrap());
        servers = renaming.servers.iter().map(|s| servers[usize::from(*s)]).collect();
        desks = renaming.desks.iter().map(|d| desks[usize::from(*d)]).collect();
        explored = next;
        named.push(real_step);
    }
    named
}
