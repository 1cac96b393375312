//! The state of the whole system: servers, voters, desks, and what an observer who sees everything would remember.

use crate::list::List;
use crate::stream::{Contents, EntryId, Log, Op, Stream, StreamId};

pub const MAX_SERVERS: usize = 4;
pub const MAX_DESKS: usize = 2;

pub type ServerId = u8;

/// A set of small numbers: of servers, or of entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Set(pub u8);

impl Set {
    pub fn insert(&mut self, item: u8) {
        self.0 |= 1 << item;
    }
    pub fn contains(self, item: u8) -> bool {
        self.0 & (1 << item) != 0
    }
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
    pub fn is_subset_of(self, other: Self) -> bool {
        self.without(other) == Self::default()
    }
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
    pub fn of(items: &[u8]) -> Self {
        let mut set = Self::default();
        items.iter().for_each(|item| set.insert(*item));
        set
    }
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..8).filter(move |item| self.contains(*item))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Primary,
    /// Told to follow `of`; `attached` once the two have agreed where to go on.
    Replica {
        of: ServerId,
        attached: bool,
    },
}

impl Default for Role {
    fn default() -> Self {
        Self::Replica { of: 0, attached: false }
    }
}

/// A redis-server. A server that is down, stopped or cut off is one that takes no step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Server {
    pub role: Role,
    pub stream: Stream,
    /// `master_replid`: the stream that this server writes, or follows.
    pub id: StreamId,
    /// `master_replid2`: the stream that this one went on from without losing anything: on being promoted, or by a partial
    /// resynchronisation. A full one clears it, and so does a restart.
    pub id2: StreamId,
    /// Who has attached by partial resynchronisation since the promotion. Only for a mutation; else empty.
    pub heard: Set,
}

impl Server {
    pub fn contents(&self) -> Contents {
        Contents::of(&self.stream)
    }
    pub fn is_primary(&self) -> bool {
        self.role == Role::Primary
    }
    pub fn follows(&self, source: ServerId) -> bool {
        matches!(self.role, Role::Replica { of, attached: true } if of == source)
    }
    pub fn write(&mut self, op: Op) {
        self.stream.push(op);
    }
    pub fn len(&self) -> u8 {
        u8::try_from(self.stream.len()).unwrap()
    }
}

/// A primary, and the config epoch it is named at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Named {
    pub epoch: u8,
    pub primary: ServerId,
}

/// The Sentinels, or the nodes of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Voters {
    /// What a majority of them answers.
    pub majority: Named,
    /// A failover that its leader has begun, and of which the majority has not heard: the heir is promoted already, and
    /// servers are told to follow it.
    pub elected: Option<Named>,
    pub last_epoch: u8,
}

/// What a commit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Of an entry of this desk's own.
    Append,
    /// Of a tail that somebody left beyond the mark.
    Tail,
    /// Of the whole log of a server that is not proven at this epoch.
    Takeover,
    /// As `Takeover`, but a person's word stands in for the proof.
    Acceptance,
}

impl Purpose {
    pub fn is_of_the_whole_log(self) -> bool {
        matches!(self, Self::Takeover | Self::Acceptance)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// WAIT has not answered.
    Waiting,
    /// Enough servers have it.
    Confirmed,
    /// A majority of voters has been asked since, and named this server at this epoch.
    Checked,
}

/// A commit in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Commit {
    pub purpose: Purpose,
    pub upto: EntryId,
    /// The length of the server's stream that WAIT waits for.
    pub target: u8,
    /// Who has had that much while following the server. Stays when they leave: WAIT may answer from old news.
    pub confirmed: Set,
    /// Takeover only: who has said, asked since, that it is in the server's stream and came to it by partial
    /// resynchronisation from the stream that is recorded as proven.
    pub vouched: Set,
    pub phase: Phase,
}

impl Commit {
    pub fn new(purpose: Purpose, upto: EntryId, server: &Server) -> Self {
        let (confirmed, vouched, phase) = (Set::default(), Set::default(), Phase::Waiting);
        Self { purpose, upto, target: server.len(), confirmed, vouched, phase }
    }
}

/// A desk's dealings with one server, opened when a majority named it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session {
    pub at: Named,
    /// The stream that the server wrote then. A session is over once it writes another: scripts compare.
    pub stream: StreamId,
    /// In doubt until the server is proven at this epoch and committed up to this revision, where its log ended when the
    /// session was opened. `None` is a session that is proven and not in doubt.
    pub doubt: Option<u8>,
    /// All up to the mark was read; what was acknowledged by that moment. The voters have not been asked since.
    pub read: Option<Set>,
    pub commit: Option<Commit>,
}

/// A replica of the service: decides and appends, and follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Desk {
    /// The committed entries it has folded.
    pub followed: Log,
    pub session: Option<Session>,
}

/// What an observer who sees everything remembers. No rule of the protocol reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct History {
    /// For each entry that was ever decided, the one it was decided upon.
    pub upon: List<EntryId, 8>,
    /// Entries that were acknowledged, or read by a replica as committed.
    pub acknowledged: Set,
    /// What a person gave up, by accepting a history without it at an epoch. What earlier epochs still have in flight of it
    /// is given up too; a later one may acknowledge it again.
    pub given_up: Set,
    pub accepted_at: u8,
    /// A replica called itself LIVE without an entry that was acknowledged before the moment it spoke of.
    pub live_without: bool,
}

impl History {
    pub fn decide(&mut self, upon: EntryId) -> EntryId {
        self.upon.push(upon);
        u8::try_from(self.upon.len()).unwrap()
    }
    pub fn acknowledge(&mut self, epoch: u8, entries: &[EntryId]) {
        let mut entries = Set::of(entries);
        if epoch < self.accepted_at {
            entries = entries.without(self.given_up);
        }
        self.given_up = self.given_up.without(entries);
        self.acknowledged.0 |= entries.0;
    }
    /// A replica that has `followed` calls itself LIVE as of when `acknowledged` was all that was.
    pub fn claim_live(&mut self, acknowledged: Set, followed: &[EntryId]) {
        self.live_without |= !acknowledged.is_subset_of(Set::of(followed));
    }
    /// Whether the history that ends at `entry` contains `other`.
    pub fn contains(&self, entry: EntryId, other: EntryId) -> bool {
        let mut at = entry;
        while at != 0 {
            if at == other {
                return true;
            }
            at = self.upon[usize::from(at) - 1];
        }
        other == 0
    }
}

/// How often has happened what the bounds limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spent {
    pub flaps: u8,
    pub restarts: u8,
    pub losses: u8,
    pub deletions: u8,
    pub desk_restarts: u8,
    pub acceptances: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    pub servers: List<Server, MAX_SERVERS>,
    pub voters: Voters,
    pub desks: List<Desk, MAX_DESKS>,
    pub history: History,
    pub spent: Spent,
    pub last_stream: StreamId,
}

impl State {
    /// A journal that a person has just created: server 0 is its proven primary, and all others have its stream.
    pub fn created(servers: usize, desks: usize) -> Self {
        let (epoch, stream) = (1, 1);
        let mut state = Self { last_stream: stream, ..Self::default() };
        for id in 0..servers {
            let role = if id == 0 { Role::Primary } else { Role::Replica { of: 0, attached: true } };
            let mut server = Server { role, id: stream, ..Server::default() };
            server.write(Op::Takeover { epoch, stream, upto: 0 });
            state.servers.push(server);
        }
        for _ in 0..desks {
            state.desks.push(Desk::default());
        }
        state.voters.majority = Named { epoch, primary: 0 };
        state.voters.last_epoch = epoch;
        state
    }

    pub fn server(&self, id: ServerId) -> &Server {
        &self.servers[usize::from(id)]
    }

    pub fn server_mut(&mut self, id: ServerId) -> &mut Server {
        &mut self.servers[usize::from(id)]
    }

    pub fn server_ids(&self) -> impl Iterator<Item = ServerId> + use<> {
        0..u8::try_from(self.servers.len()).unwrap()
    }

    pub fn desk(&self, id: u8) -> &Desk {
        &self.desks[usize::from(id)]
    }

    pub fn desk_mut(&mut self, id: u8) -> &mut Desk {
        &mut self.desks[usize::from(id)]
    }

    pub fn session_mut(&mut self, desk: u8) -> Option<&mut Session> {
        self.desk_mut(desk).session.as_mut()
    }

    /// A person has accepted, at an epoch, a history that has only these entries.
    pub fn give_up_all_but(&mut self, kept: Set, epoch: u8) {
        let decided: Vec<EntryId> = (1..).take(self.history.upon.len()).collect();
        self.history.given_up = Set::of(&decided).without(kept);
        self.history.accepted_at = epoch;
        self.history.acknowledged = self.history.acknowledged.intersection(kept);
        for session in self.desks.iter_mut().filter_map(|desk| desk.session.as_mut()) {
            session.read = session.read.map(|read| read.intersection(kept));
        }
    }

    /// What replication is: whoever is attached has a prefix of its source's stream. A step that breaks it is not Redis.
    pub fn replicas_have_prefixes(&self) -> bool {
        self.servers.iter().all(|server| match server.role {
            Role::Replica { of, attached: true } => self.server(of).stream.starts_with(&server.stream),
            Role::Replica { attached: false, .. } | Role::Primary => true,
        })
    }

    pub fn new_stream(&mut self) -> StreamId {
        self.last_stream += 1;
        self.last_stream
    }
}
