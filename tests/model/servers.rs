//! What voters and servers do by themselves: failovers, replication, crashes.

use crate::model::{Event, Model};
use crate::mutations::Mutation;
use crate::state::{Named, Phase, Purpose, Role, ServerId, Set, State, Voters};
use crate::stream::{Op, Stream};

impl Model {
    pub(crate) fn elect(&self, state: &State, heir: ServerId) -> Option<State> {
        let voters = &state.voters;
        let promotable = matches!(state.server(heir).role, Role::Replica { .. });
        if !promotable || heir == voters.majority.primary || voters.last_epoch > self.bounds.failovers {
            return None;
        }
        let mut next = *state;
        let epoch = voters.last_epoch + 1;
        next.voters.last_epoch = epoch;
        next.voters.elected = Some(Named { epoch, primary: heir });
        let id = next.new_stream();
        let server = next.server_mut(heir);
        server.role = Role::Primary;
        (server.id2, server.id) = (server.id, id);
        server.heard = Set::default();
        detach_replicas(&mut next, heir);
        Some(next)
    }

    pub(crate) fn learn(&self, state: &State) -> Option<State> {
        let elected = state.voters.elected?;
        let mut next = *state;
        next.voters.majority = elected;
        next.voters.elected = None;
        Some(next)
    }

    /// `server` is told to follow `source`. Voters tell it so only of a server that acts as a primary; who has been told
    /// so before tries again, whatever has become of its source.
    pub(crate) fn attach(&self, state: &State, server: ServerId, source: ServerId) -> Option<State> {
        let (from, to) = (state.server(server), state.server(source));
        let told_before = matches!(from.role, Role::Replica { of, .. } if of == source);
        if from.follows(source)
            || !(told_before || to.is_primary() || self.breaks(Mutation::FollowsReplica))
            || self.follows_in_turn(state, source, server)
        {
            return None;
        }
        let mut next = *state;
        let Voters { majority, elected, .. } = state.voters;
        let named = source == majority.primary || elected.is_some_and(|elected| elected.primary == source);
        if !told_before && !named {
            if state.spent.flaps == self.bounds.flaps {
                return None;
            }
            next.spent.flaps += 1;
        }
        if from.is_primary() {
            abort_waits(&mut next, server);
        }
        let known = from.id != 0 && (from.id == to.id || from.id == to.id2);
        let partial = known && to.stream.starts_with(&from.stream);
        let (id, id2, stream) = (to.id, from.id, to.stream);
        let attached = next.server_mut(server);
        attached.role = Role::Replica { of: source, attached: true };
        attached.heard = Set::default();
        if partial {
            if id2 != id {
                (attached.id, attached.id2) = (id, id2);
                detach_replicas(&mut next, server);
            }
            if self.breaks(Mutation::VouchedBeforeAsked) {
                next.server_mut(source).heard.insert(server);
            }
            self.note(Event::PartialResync);
        } else {
            (attached.id, attached.id2, attached.stream) = (id, 0, stream);
            detach_replicas(&mut next, server);
            self.note(Event::FullResync);
        }
        Some(next)
    }

    /// Whether `server` follows `source` through any number of others: servers in a ring replicate nothing.
    fn follows_in_turn(&self, state: &State, server: ServerId, source: ServerId) -> bool {
        let mut at = server;
        for _ in state.server_ids() {
            match state.server(at).role {
                Role::Replica { of, .. } if of == source => return true,
                Role::Replica { of, .. } => at = of,
                Role::Primary => return false,
            }
        }
        true
    }

    pub(crate) fn replicate(&self, state: &State, server: ServerId) -> Option<State> {
        let Role::Replica { of, attached: true } = state.server(server).role else { return None };
        let op = *state.server(of).stream.get(state.server(server).stream.len())?;
        let mut next = *state;
        next.server_mut(server).write(op);
        Some(next)
    }

    pub(crate) fn restart(&self, state: &State, server: ServerId) -> Option<State> {
        if state.spent.restarts == self.bounds.restarts {
            return None;
        }
        let mut next = *state;
        next.spent.restarts += 1;
        if self.breaks(Mutation::StartedAsPrimary) && state.voters.majority.primary == server {
            next.server_mut(server).role = Role::Primary;
        }
        start_again(&mut next, server);
        Some(next)
    }

    pub(crate) fn lose_disk(&self, state: &State, server: ServerId) -> Option<State> {
        if state.spent.losses == self.bounds.losses {
            return None;
        }
        let mut next = *state;
        next.spent.losses += 1;
        next.server_mut(server).stream = Stream::default();
        start_again(&mut next, server);
        Some(next)
    }

    /// At a primary that has the mark of all that was acknowledged: what is deleted at an heir before it has, nothing tells.
    pub(crate) fn delete_log(&self, state: &State) -> Option<State> {
        let Named { epoch, primary } = state.voters.majority;
        let (server, contents) = (state.server(primary), state.server(primary).contents());
        let proven = contents.takeover.is_some_and(|record| record.epoch == epoch);
        if state.spent.deletions == self.bounds.deletions || !server.is_primary() || !proven || contents.log.is_empty()
        {
            return None;
        }
        let mut next = *state;
        next.spent.deletions += 1;
        next.server_mut(primary).write(Op::DeleteLog);
        Some(next)
    }

    /// Takes down who has confirmed and vouched by now. A confirmation that is counted as early as can be, and never
    /// forgotten, allows all that a later one would.
    pub(crate) fn note_confirmations(&self, state: &mut State) {
        let servers = state.servers;
        for desk in state.desks.iter_mut() {
            let Some(session) = &mut desk.session else { continue };
            let (at, primary) = (session.at.primary, &servers[usize::from(session.at.primary)]);
            let stream = session.stream;
            let Some(commit) = &mut session.commit else { continue };
            if commit.phase != Phase::Waiting || !primary.is_primary() || primary.id != stream {
                continue;
            }
            let proven = primary.contents().takeover.map(|record| record.stream);
            for (id, server) in (0..).zip(&*servers) {
                if server.follows(at) && server.len() >= commit.target {
                    commit.confirmed.insert(id);
                }
                let from_proven = proven == Some(server.id2) || self.breaks(Mutation::HeirOfAnyStream);
                let partial = server.id2 != 0 && from_proven;
                if commit.purpose == Purpose::Takeover
                    && server.follows(at)
                    && (partial || self.breaks(Mutation::FullResyncCounts))
                {
                    commit.vouched.insert(id);
                }
            }
        }
    }
}

/// A process starts from its disk: nobody is attached to it any more, and sessions on it are over.
fn start_again(state: &mut State, server: ServerId) {
    let id = if state.server(server).is_primary() { state.new_stream() } else { 0 };
    let started = state.server_mut(server);
    (started.id, started.id2, started.heard) = (id, 0, Set::default());
    if let Role::Replica { attached, .. } = &mut started.role {
        *attached = false;
    }
    detach_replicas(state, server);
    for desk in state.desks.iter_mut() {
        desk.session = desk.session.filter(|session| session.at.primary != server);
    }
}

fn detach_replicas(state: &mut State, source: ServerId) {
    for server in state.servers.iter_mut() {
        if let Role::Replica { of, attached } = &mut server.role
            && *of == source
        {
            *attached = false;
        }
    }
}

/// A server that becomes a replica lets go of clients that it has made wait.
fn abort_waits(state: &mut State, server: ServerId) {
    for desk in state.desks.iter_mut() {
        if let Some(session) = &mut desk.session
            && session.at.primary == server
        {
            session.commit = session.commit.filter(|commit| commit.phase != Phase::Waiting);
        }
    }
}
