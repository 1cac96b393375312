//! One state stands for all that differ only in how servers and desks are numbered.

use crate::list::List;
use crate::state::{Desk, MAX_DESKS, MAX_SERVERS, Role, ServerId, Set, State};

/// For each new number, the one that it was given in place of.
#[derive(Clone, Copy, Debug)]
pub struct Renaming {
    pub servers: List<ServerId, MAX_SERVERS>,
    pub desks: List<u8, MAX_DESKS>,
}

/// The state that stands for this one. Servers and desks are sorted by what can be said of them without a number. Where
/// that leaves a tie, states that could share a representative may have two: more to explore, and nothing is missed.
pub fn canonical(state: &State) -> (State, Renaming) {
    let mut desks: List<u8, MAX_DESKS> = (0..).take(state.desks.len()).collect();
    desks.sort_by_key(|d| desk_key(state.desk(*d)));
    let mut servers: List<ServerId, MAX_SERVERS> = state.server_ids().collect();
    servers.sort_by(|a, b| server_key(state, &desks, *a).cmp(&server_key(state, &desks, *b)));
    let renaming = Renaming { servers, desks };
    (renamed(state, &renaming), renaming)
}

fn desk_key(desk: &Desk) -> impl Ord + use<> {
    let session = desk.session.map(|s| {
        let commit = s.commit.map(|c| (c.purpose, c.upto, c.target, c.phase, c.confirmed.len(), c.vouched.len()));
        (s.at.epoch, s.stream, s.doubt, s.read, commit)
    });
    (desk.followed, session)
}

fn server_key<'a>(state: &'a State, desks: &List<u8, MAX_DESKS>, id: ServerId) -> impl Ord + use<'a> {
    let server = state.server(id);
    let named = state.voters.majority.primary == id;
    let elected = state.voters.elected.is_some_and(|elected| elected.primary == id);
    let attached = match server.role {
        Role::Primary => 0,
        Role::Replica { of, attached } => {
            1 + u8::from(attached)
                + 2 * u8::from(state.voters.majority.primary == of)
                + 4 * u8::from(state.server(of).is_primary())
        }
    };
    let in_sessions = desks.iter().fold(0u8, |bits, d| {
        let session = state.desk(*d).session;
        let commit = session.and_then(|s| s.commit);
        let here = session.is_some_and(|s| s.at.primary == id);
        let confirmed = commit.is_some_and(|c| c.confirmed.contains(id));
        let vouched = commit.is_some_and(|c| c.vouched.contains(id));
        bits << 3 | u8::from(here) << 2 | u8::from(confirmed) << 1 | u8::from(vouched)
    });
    (named, elected, attached, in_sessions, server.id, server.id2, &server.stream)
}

fn renamed(state: &State, renaming: &Renaming) -> State {
    let mut new = [0; MAX_SERVERS];
    for (to, from) in (0..).zip(&*renaming.servers) {
        new[usize::from(*from)] = to;
    }
    let server = |id: ServerId| new[usize::from(id)];
    let set = |old: Set| {
        let mut set = Set::default();
        old.iter().for_each(|id| set.insert(server(id)));
        set
    };
    let mut next = *state;
    for (to, from) in next.servers.iter_mut().zip(&*renaming.servers) {
        *to = *state.server(*from);
        to.heard = set(to.heard);
        if let Role::Replica { of, .. } = &mut to.role {
            *of = server(*of);
        }
    }
    next.voters.majority.primary = server(state.voters.majority.primary);
    if let Some(elected) = &mut next.voters.elected {
        elected.primary = server(elected.primary);
    }
    for (to, from) in next.desks.iter_mut().zip(&*renaming.desks) {
        *to = *state.desk(*from);
        let Some(session) = &mut to.session else { continue };
        session.at.primary = server(session.at.primary);
        if let Some(commit) = &mut session.commit {
            (commit.confirmed, commit.vouched) = (set(commit.confirmed), set(commit.vouched));
        }
    }
    next
}
