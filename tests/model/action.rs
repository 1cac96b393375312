//! Everything that can happen, one atomic step each.

use crate::model::Model;
use crate::state::{ServerId, State};

pub type DeskId = u8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The leader of a failover promotes a server. It needs no majority of servers: any one that it reaches will do.
    Elect(ServerId),
    /// A majority of voters hears of it.
    Learn,
    /// A server is told to follow another, and attaches to it: partially if Redis can, else fully.
    Attach(ServerId, ServerId),
    /// A replica receives one write.
    Replicate(ServerId),
    /// A server crashes and returns with its disk: with a stream id that nobody knows, as with an append-only file.
    Restart(ServerId),
    /// A server returns with an empty disk.
    LoseDisk(ServerId),
    /// Somebody deletes the journal's key.
    DeleteLog,

    /// A desk opens a session on the server that a majority names.
    Open(DeskId),
    /// Decides upon what it has followed, and appends.
    Append(DeskId),
    /// Begins to commit what is beyond the mark, and to prove the server if it is not.
    Commit(DeskId),
    /// WAIT answers that enough replicas have it; for a takeover, enough servers have vouched too.
    WaitAnswered(DeskId),
    /// A majority of voters, asked now, names the session's server at the session's epoch.
    CheckMajority(DeskId),
    /// The script that moves the mark, and acknowledges.
    Mark(DeskId),
    /// Reads and folds up to the mark.
    Follow(DeskId),
    /// A majority, asked after the read, names the server: LIVE, as of the read.
    ClaimLive(DeskId),
    /// Appends a followed entry that the primary's log lacks.
    Repair(DeskId),
    /// Something else stands in the place of a followed entry.
    Seal(DeskId),
    /// The desk's process crashes and starts: with a snapshot, what it followed is still known.
    RestartDesk(DeskId, Snapshot),
    /// A person accepts by name the history that a server in doubt has.
    Accept(DeskId),
    /// Only as a mutation: a reader commits what it finds.
    Settle(DeskId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Snapshot {
    Kept,
    Gone,
}

impl Action {
    /// The same step of a system whose servers and desks have other numbers.
    pub fn renamed(self, server: impl Fn(ServerId) -> ServerId, desk: impl Fn(DeskId) -> DeskId) -> Self {
        match self {
            Self::Elect(s) => Self::Elect(server(s)),
            Self::Attach(s, source) => Self::Attach(server(s), server(source)),
            Self::Replicate(s) => Self::Replicate(server(s)),
            Self::Restart(s) => Self::Restart(server(s)),
            Self::LoseDisk(s) => Self::LoseDisk(server(s)),
            Self::Learn | Self::DeleteLog => self,
            Self::Open(d) => Self::Open(desk(d)),
            Self::Append(d) => Self::Append(desk(d)),
            Self::Commit(d) => Self::Commit(desk(d)),
            Self::WaitAnswered(d) => Self::WaitAnswered(desk(d)),
            Self::CheckMajority(d) => Self::CheckMajority(desk(d)),
            Self::Mark(d) => Self::Mark(desk(d)),
            Self::Follow(d) => Self::Follow(desk(d)),
            Self::ClaimLive(d) => Self::ClaimLive(desk(d)),
            Self::Repair(d) => Self::Repair(desk(d)),
            Self::Seal(d) => Self::Seal(desk(d)),
            Self::RestartDesk(d, snapshot) => Self::RestartDesk(desk(d), snapshot),
            Self::Accept(d) => Self::Accept(desk(d)),
            Self::Settle(d) => Self::Settle(desk(d)),
        }
    }

    /// Every step that somebody could try in a system of this size.
    pub fn candidates(state: &State, actions: &mut Vec<Self>) {
        let desks = 0..u8::try_from(state.desks.len()).unwrap();
        for d in desks {
            actions.extend([Self::Open(d), Self::Append(d), Self::Commit(d), Self::WaitAnswered(d)]);
            actions.extend([Self::CheckMajority(d), Self::Mark(d), Self::Follow(d), Self::ClaimLive(d)]);
            actions.extend([Self::Repair(d), Self::Seal(d), Self::Accept(d), Self::Settle(d)]);
            actions.extend([Self::RestartDesk(d, Snapshot::Kept), Self::RestartDesk(d, Snapshot::Gone)]);
        }
        for s in state.server_ids() {
            actions.extend([Self::Replicate(s), Self::Elect(s), Self::Restart(s), Self::LoseDisk(s)]);
            actions.extend(state.server_ids().filter(|source| *source != s).map(|source| Self::Attach(s, source)));
        }
        actions.extend([Self::Learn, Self::DeleteLog]);
    }
}

impl Model {
    /// The state after a step, before anything is renamed; `None` if the step cannot be taken.
    pub fn step(&self, state: &State, action: Action) -> Option<State> {
        let mut next = match action {
            Action::Elect(s) => self.elect(state, s),
            Action::Learn => self.learn(state),
            Action::Attach(s, source) => self.attach(state, s, source),
            Action::Replicate(s) => self.replicate(state, s),
            Action::Restart(s) => self.restart(state, s),
            Action::LoseDisk(s) => self.lose_disk(state, s),
            Action::DeleteLog => self.delete_log(state),
            Action::Open(d) => self.open(state, d),
            Action::Append(d) => self.append(state, d),
            Action::Commit(d) => self.commit(state, d),
            Action::WaitAnswered(d) => self.wait_answered(state, d),
            Action::CheckMajority(d) => self.check_majority(state, d),
            Action::Mark(d) => self.mark(state, d),
            Action::Follow(d) => self.follow(state, d),
            Action::ClaimLive(d) => self.claim_live(state, d),
            Action::Repair(d) => self.repair(state, d),
            Action::Seal(d) => self.seal(state, d),
            Action::RestartDesk(d, snapshot) => self.restart_desk(state, d, snapshot),
            Action::Accept(d) => self.accept(state, d),
            Action::Settle(d) => self.settle(state, d),
        }?;
        self.note_confirmations(&mut next);
        debug_assert!(next.replicas_have_prefixes(), "{action:?} of {state:#?}");
        Some(next)
    }
}
