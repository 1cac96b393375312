//! How a desk commits: WAIT, then a majority of voters, then the mark. And how it proves an heir: the takeover.

use crate::action::DeskId;
use crate::model::{Event, Model};
use crate::mutations::Mutation;
use crate::state::{Commit, Phase, Purpose, Session, Set, State};
use crate::stream::Op;

impl Model {
    pub(crate) fn commit(&self, state: &State, d: DeskId) -> Option<State> {
        let session = state.desk(d).session.filter(|s| s.commit.is_none())?;
        let server = state.server(session.at.primary);
        let contents = server.contents();
        self.committed(&contents)?;
        let proven = self.is_proven(&session, server, &contents);
        if !self.is_there(&session, server) || (proven && contents.end() == contents.mark) {
            return None;
        }
        let purpose = if proven { Purpose::Tail } else { Purpose::Takeover };
        let mut next = *state;
        next.session_mut(d)?.commit = Some(Commit::new(purpose, contents.end(), server));
        Some(next)
    }

    pub(crate) fn wait_answered(&self, state: &State, d: DeskId) -> Option<State> {
        let session = state.desk(d).session?;
        let commit = session.commit.filter(|c| c.phase == Phase::Waiting)?;
        let enough = commit.confirmed.len() + 1 >= usize::from(self.bounds.commit_servers);
        if !enough || (commit.purpose == Purpose::Takeover && !self.is_complete(state, &session, &commit)) {
            return None;
        }
        let asked = self.breaks(Mutation::NoMajorityCheck) || self.breaks(Mutation::MajorityBeforeWait);
        let mut next = *state;
        let phase = if asked { Phase::Checked } else { Phase::Confirmed };
        // Who has confirmed it does not matter any more.
        let (confirmed, vouched) = (Set::default(), Set::default());
        next.session_mut(d)?.commit = Some(Commit { phase, confirmed, vouched, ..commit });
        Some(next)
    }

    /// Whether the session's server is proven to have all that may have been committed.
    fn is_complete(&self, state: &State, session: &Session, commit: &Commit) -> bool {
        let server = state.server(session.at.primary);
        let record = server.contents().takeover;
        // It was proven at this very epoch, and its process has started again since: its own disk has all.
        if server.id2 == 0 && record.is_some_and(|record| record.epoch == session.at.epoch) {
            self.note(Event::ProvenAgainAfterRestart);
            return true;
        }
        let heir = record.is_some_and(|record| record.stream == server.id2 || self.breaks(Mutation::HeirOfAnyStream));
        let mut vouched = commit.vouched;
        if self.breaks(Mutation::VouchedBeforeAsked) {
            server.heard.iter().for_each(|id| vouched.insert(id));
        }
        let needed = if self.breaks(Mutation::ProofNeedNotIntersect) {
            usize::from(self.bounds.commit_servers)
        } else {
            usize::from(self.bounds.proof_servers)
        };
        heir && 1 + vouched.len() >= needed
    }

    pub(crate) fn check_majority(&self, state: &State, d: DeskId) -> Option<State> {
        let session = state.desk(d).session?;
        let commit = session.commit.filter(|c| c.phase == Phase::Confirmed)?;
        if !self.is_named(state, &session) {
            return None;
        }
        let mut next = *state;
        next.session_mut(d)?.commit = Some(Commit { phase: Phase::Checked, ..commit });
        Some(next)
    }

    pub(crate) fn mark(&self, state: &State, d: DeskId) -> Option<State> {
        let session = state.desk(d).session?;
        let commit = session.commit.filter(|c| c.phase == Phase::Checked)?;
        let server = state.server(session.at.primary);
        let contents = server.contents();
        let mut next = *state;
        next.session_mut(d)?.commit = None;
        let whole = commit.purpose.is_of_the_whole_log();
        let (revision, marked) = (contents.revision(commit.upto), contents.revision(contents.mark));
        let sound =
            marked.is_some() || self.breaks(Mutation::MarkMovesBack) || self.breaks(Mutation::MarkBeyondEndIsLevel);
        let Some(revision) =
            revision.filter(|_| self.is_there(&session, server) && sound && (!whole || contents.end() == commit.upto))
        else {
            // The script refuses: outcome unknown.
            return Some(next);
        };
        let (epoch, stream, upto) = (session.at.epoch, session.stream, commit.upto);
        let written = next.server_mut(session.at.primary);
        match commit.purpose {
            Purpose::Append | Purpose::Tail if marked >= Some(revision) => {}
            Purpose::Append | Purpose::Tail => written.write(Op::Mark(upto)),
            Purpose::Takeover if self.breaks(Mutation::TailIsLevel) => {
                written.write(Op::Takeover { epoch, stream, upto: contents.mark });
            }
            Purpose::Takeover => written.write(Op::Takeover { epoch, stream, upto }),
            Purpose::Acceptance => {
                written.write(Op::Accept { epoch, stream, upto });
                next.give_up_all_but(Set::of(&contents.log), epoch);
            }
        }
        if whole {
            self.note(if commit.purpose == Purpose::Takeover { Event::TakeoverProven } else { Event::Accepted });
        }
        if !(whole && self.breaks(Mutation::TailIsLevel)) {
            next.history.acknowledge(epoch, &contents.log[..revision]);
            self.note(if epoch > 1 { Event::AcknowledgedAfterFailover } else { Event::Acknowledged });
        }
        let server = *next.server(session.at.primary);
        self.look(next.session_mut(d)?, &server, &server.contents());
        Some(next)
    }

    /// A person's word replaces the proof, and nothing else: what is accepted has still to be committed.
    pub(crate) fn accept(&self, state: &State, d: DeskId) -> Option<State> {
        let session = state.desk(d).session?;
        let server = state.server(session.at.primary);
        let contents = server.contents();
        let needed = contents.sealed || !self.is_proven(&session, server, &contents);
        let allowed = state.spent.acceptances < self.bounds.acceptances;
        if !(needed && allowed && self.is_there(&session, server) && state.voters.majority == session.at) {
            return None;
        }
        let mut next = *state;
        next.spent.acceptances += 1;
        let mut commit = Commit::new(Purpose::Acceptance, contents.end(), server);
        if self.breaks(Mutation::AcceptanceCommits) {
            commit.phase = Phase::Checked;
        }
        next.session_mut(d)?.commit = Some(commit);
        Some(next)
    }

    pub(crate) fn settle(&self, state: &State, d: DeskId) -> Option<State> {
        let session = state.desk(d).session?;
        let primary = session.at.primary;
        let contents = state.server(primary).contents();
        let tail = contents.end() != contents.mark;
        if !self.breaks(Mutation::ReaderSettles) || !self.is_there(&session, state.server(primary)) || !tail {
            return None;
        }
        let mut next = *state;
        next.server_mut(primary).write(Op::Mark(contents.end()));
        next.history.acknowledge(session.at.epoch, &contents.log);
        Some(next)
    }
}
