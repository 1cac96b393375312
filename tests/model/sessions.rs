//! A desk's sessions: what it may believe of the server it is on, what it appends, follows and repairs.

use crate::action::{DeskId, Snapshot};
use crate::model::{Event, Model};
use crate::mutations::Mutation;
use crate::state::{Commit, Desk, Purpose, Server, Session, State};
use crate::stream::{Contents, EntryId, Op};

impl Model {
    pub(crate) fn open(&self, state: &State, d: DeskId) -> Option<State> {
        let at = state.voters.majority;
        let (desk, server) = (state.desk(d), state.server(at.primary));
        if !server.is_primary() || desk.session.is_some_and(|session| session.at == at) {
            return None;
        }
        let contents = server.contents();
        let end = u8::try_from(contents.log.len()).unwrap();
        let mut session = Session { at, stream: server.id, doubt: Some(end), read: None, commit: None };
        self.look(&mut session, server, &contents);
        let mut next = *state;
        next.desk_mut(d).session = Some(session);
        Some(next)
    }

    /// Whether the session's server is what it was when the session was opened: a primary, and on the same stream.
    pub(crate) fn is_there(&self, session: &Session, server: &Server) -> bool {
        server.is_primary() && (server.id == session.stream || self.breaks(Mutation::StreamNotCompared))
    }

    /// Whether the server says that it is proven: at this epoch, and on the stream that it writes now.
    pub(crate) fn is_proven(&self, session: &Session, server: &Server, contents: &Contents) -> bool {
        if self.breaks(Mutation::HeirTrusted) {
            return true;
        }
        match contents.takeover {
            Some(record) => {
                let same_stream = record.stream == server.id || self.breaks(Mutation::HeirOfAnyStream);
                record.epoch == session.at.epoch && same_stream
            }
            None => contents.log.is_empty() && self.breaks(Mutation::EmptyIsFresh),
        }
    }

    /// Ends the doubt of a session, if what its server holds does.
    pub(crate) fn look(&self, session: &mut Session, server: &Server, contents: &Contents) {
        let Some(end) = session.doubt else { return };
        let Some(committed) = self.committed(contents) else { return };
        let tail = committed.len() < usize::from(end);
        let ignored = self.breaks(Mutation::TailIsLevel) || self.breaks(Mutation::OldTailIsLevel);
        if self.is_proven(session, server, contents) && (!tail || ignored) {
            session.doubt = None;
        }
    }

    /// What the mark says is committed; `None` if the mark names an entry that the log lacks.
    pub(crate) fn committed<'a>(&self, contents: &'a Contents) -> Option<&'a [EntryId]> {
        let lacking = self.breaks(Mutation::MarkBeyondEndIsLevel).then_some(&*contents.log);
        contents.committed().or(lacking)
    }

    pub(crate) fn append(&self, state: &State, d: DeskId) -> Option<State> {
        let desk = state.desk(d);
        let session = desk.session.filter(|s| s.doubt.is_none() && s.commit.is_none())?;
        let server = state.server(session.at.primary);
        let contents = server.contents();
        let decided = state.history.upon.len() < usize::from(self.bounds.entries);
        let expected = contents.log == desk.followed || self.breaks(Mutation::AppendAnywhere);
        let marked = contents.committed().is_some()
            || self.breaks(Mutation::AppendIgnoresMark)
            || self.breaks(Mutation::MarkBeyondEndIsLevel);
        if !(decided && self.is_there(&session, server) && !contents.sealed && expected && marked) {
            return None;
        }
        if self.breaks(Mutation::MajorityBeforeWait) && !self.is_named(state, &session) {
            return None;
        }
        let mut next = *state;
        let entry = next.history.decide(desk.followed.last().copied().unwrap_or(0));
        let server = next.server_mut(session.at.primary);
        server.write(Op::Entry(entry));
        let commit = Commit::new(Purpose::Append, entry, server);
        if self.breaks(Mutation::MarkBeforeWait) {
            server.write(Op::Mark(entry));
        }
        next.session_mut(d)?.commit = Some(commit);
        Some(next)
    }

    /// Whether a majority of the voters names the session's server, at its epoch.
    pub(crate) fn is_named(&self, state: &State, session: &Session) -> bool {
        let named = state.voters.majority;
        named == session.at || (named.primary == session.at.primary && self.breaks(Mutation::EpochNotCompared))
    }

    pub(crate) fn follow(&self, state: &State, d: DeskId) -> Option<State> {
        let mut desk = *state.desk(d);
        let session = desk.session.as_mut()?;
        let server = state.server(session.at.primary);
        if !self.is_there(session, server) && !self.breaks(Mutation::ReadFromReplica) {
            return None;
        }
        let contents = server.contents();
        let committed = self.committed(&contents)?;
        let within_mark = committed.starts_with(&desk.followed);
        if within_mark {
            desk.followed = committed.iter().copied().collect();
        } else if !contents.log.starts_with(&desk.followed) {
            return None;
        }
        self.look(session, server, &contents);
        let mut next = *state;
        next.history.acknowledge(session.at.epoch, committed);
        let level = within_mark && (session.doubt.is_none() || self.breaks(Mutation::InDoubtIsLive));
        if self.breaks(Mutation::AskedBeforeRead) {
            if let Some(asked) = session.read.take().filter(|_| level) {
                next.history.claim_live(asked, &desk.followed);
            }
        } else if self.breaks(Mutation::LiveWithoutAsking) && level {
            let now = next.history.acknowledged;
            next.history.claim_live(now, &desk.followed);
        } else {
            session.read = level.then_some(next.history.acknowledged);
        }
        *next.desk_mut(d) = desk;
        (next != *state).then_some(next)
    }

    pub(crate) fn claim_live(&self, state: &State, d: DeskId) -> Option<State> {
        let session = state.desk(d).session?;
        if !self.is_named(state, &session) {
            return None;
        }
        let mut next = *state;
        if self.breaks(Mutation::AskedBeforeRead) {
            next.session_mut(d)?.read = Some(state.history.acknowledged);
            return (next != *state).then_some(next);
        }
        let read = session.read?;
        next.session_mut(d)?.read = None;
        next.history.claim_live(read, &state.desk(d).followed);
        self.note(if session.at.epoch > 1 { Event::LiveAfterFailover } else { Event::Live });
        Some(next)
    }

    pub(crate) fn repair(&self, state: &State, d: DeskId) -> Option<State> {
        let desk = state.desk(d);
        let session = desk.session?;
        let primary = session.at.primary;
        let contents = state.server(primary).contents();
        if contents.sealed || !self.is_there(&session, state.server(primary)) {
            return None;
        }
        let mut next = *state;
        let server = next.server_mut(primary);
        if desk.followed.starts_with(&contents.log) {
            server.write(Op::Entry(*desk.followed.get(contents.log.len())?));
        } else if self.breaks(Mutation::RepairOverwrites) && !contents.log.starts_with(&desk.followed) {
            server.write(Op::DeleteLog);
            desk.followed.iter().for_each(|entry| server.write(Op::Entry(*entry)));
            server.write(Op::Mark(desk.followed.last().copied()?));
        } else {
            return None;
        }
        self.note(Event::Repaired);
        Some(next)
    }

    pub(crate) fn seal(&self, state: &State, d: DeskId) -> Option<State> {
        let desk = state.desk(d);
        let session = desk.session?;
        let primary = session.at.primary;
        let contents = state.server(primary).contents();
        let there = self.is_there(&session, state.server(primary));
        let diverged = !desk.followed.starts_with(&contents.log) && !contents.log.starts_with(&desk.followed);
        if contents.sealed || !diverged || !there || self.breaks(Mutation::RepairOverwrites) {
            return None;
        }
        let mut next = *state;
        next.server_mut(primary).write(Op::Seal);
        self.note(Event::Sealed);
        Some(next)
    }

    pub(crate) fn restart_desk(&self, state: &State, d: DeskId, snapshot: Snapshot) -> Option<State> {
        if state.spent.desk_restarts == self.bounds.desk_restarts {
            return None;
        }
        let mut next = *state;
        next.spent.desk_restarts += 1;
        *next.desk_mut(d) = match snapshot {
            Snapshot::Kept => Desk { session: None, ..*state.desk(d) },
            Snapshot::Gone => Desk::default(),
        };
        (next.desks != state.desks).then_some(next)
    }
}
