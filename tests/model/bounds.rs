//! How large a system is explored. The only place where the numbers stand.

use crate::model::Event;

/// The size of a system, and how often what may go wrong in it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// N: servers of the group.
    pub servers: u8,
    /// W: servers that must have an entry, the primary among them.
    pub commit_servers: u8,
    /// |Q|: servers that must vouch for an heir, itself among them.
    pub proof_servers: u8,
    /// Replicas of the service, each of which decides and follows.
    pub desks: u8,
    /// Entries ever decided.
    pub entries: u8,
    /// Failovers begun by a leader, learned by the majority or not.
    pub failovers: u8,
    /// Times that a server is told, by a minority that lags behind, to follow a primary that the majority has left.
    pub flaps: u8,
    /// Crashes of a server that returns with its disk.
    pub restarts: u8,
    /// Disks lost.
    pub losses: u8,
    /// Times that the journal's key is deleted.
    pub deletions: u8,
    /// Crashes of a desk, with its snapshot kept or gone.
    pub desk_restarts: u8,
    /// Times that a person accepts a history that cannot be proven.
    pub acceptances: u8,
}

impl Bounds {
    /// N servers of which W must have an entry, two desks, one entry, and nothing goes wrong.
    pub const fn group(servers: u8, commit_servers: u8) -> Self {
        Self {
            servers,
            commit_servers,
            proof_servers: servers - commit_servers + 1,
            desks: 2,
            entries: 1,
            failovers: 0,
            flaps: 0,
            restarts: 0,
            losses: 0,
            deletions: 0,
            desk_restarts: 0,
            acceptances: 0,
        }
    }

    /// What must happen somewhere within these bounds.
    pub fn expected_events(&self) -> impl Iterator<Item = Event> {
        let failover = self.failovers > 0;
        let expected = [
            (Event::Acknowledged, true),
            (Event::Live, true),
            (Event::TakeoverProven, failover),
            (Event::AcknowledgedAfterFailover, failover),
            (Event::LiveAfterFailover, failover),
            (Event::PartialResync, failover),
            (Event::FullResync, failover),
            (Event::ProvenAgainAfterRestart, self.restarts > 0),
            (Event::Repaired, self.deletions > 0),
            (Event::Accepted, self.acceptances > 0),
            (Event::Sealed, self.acceptances > 0 && self.entries > 1),
        ];
        expected.into_iter().filter(|(_, expected)| *expected).map(|(event, _)| event)
    }
}

/// What `cargo test` explores, in less than a minute.
pub const QUICK: &[Bounds] = &[
    Bounds { entries: 2, restarts: 1, desk_restarts: 1, deletions: 1, ..Bounds::group(1, 1) },
    Bounds { entries: 2, failovers: 1, flaps: 1, restarts: 1, ..Bounds::group(2, 2) },
    Bounds { failovers: 2, restarts: 1, ..Bounds::group(2, 1) },
    Bounds { entries: 2, failovers: 1, ..Bounds::group(3, 2) },
    Bounds { failovers: 2, desks: 1, ..Bounds::group(3, 2) },
    Bounds { failovers: 1, flaps: 2, desk_restarts: 1, ..Bounds::group(3, 2) },
    Bounds { failovers: 1, restarts: 1, ..Bounds::group(3, 2) },
    Bounds { failovers: 1, losses: 1, ..Bounds::group(3, 2) },
    Bounds { failovers: 1, deletions: 1, ..Bounds::group(3, 2) },
    Bounds { entries: 2, failovers: 1, acceptances: 1, ..Bounds::group(3, 2) },
    Bounds { failovers: 1, desks: 1, flaps: 1, ..Bounds::group(4, 2) },
    Bounds { failovers: 1, desks: 1, flaps: 1, ..Bounds::group(4, 3) },
    Bounds { failovers: 2, desks: 1, flaps: 1, ..Bounds::group(3, 3) },
];

/// What `make model` explores.
pub const FULL: &[Bounds] = &[
    Bounds { entries: 3, restarts: 1, desk_restarts: 2, deletions: 1, ..Bounds::group(1, 1) },
    Bounds { entries: 2, failovers: 2, restarts: 1, ..Bounds::group(2, 1) },
    Bounds { entries: 2, failovers: 2, restarts: 1, losses: 1, ..Bounds::group(2, 2) },
    Bounds { entries: 3, failovers: 1, ..Bounds::group(3, 2) },
    Bounds { entries: 2, failovers: 2, ..Bounds::group(3, 2) },
    Bounds { failovers: 2, losses: 1, ..Bounds::group(3, 2) },
    Bounds { failovers: 2, restarts: 1, losses: 1, desks: 1, ..Bounds::group(3, 2) },
    Bounds { entries: 2, failovers: 3, desks: 1, ..Bounds::group(3, 2) },
    Bounds { entries: 2, failovers: 1, flaps: 1, desk_restarts: 1, ..Bounds::group(3, 2) },
    Bounds { entries: 2, failovers: 1, restarts: 1, ..Bounds::group(3, 2) },
    Bounds { entries: 2, failovers: 1, losses: 1, ..Bounds::group(3, 2) },
    Bounds { entries: 2, failovers: 1, deletions: 1, desk_restarts: 1, ..Bounds::group(3, 2) },
    Bounds { entries: 2, failovers: 1, acceptances: 1, desk_restarts: 1, ..Bounds::group(3, 2) },
    Bounds { failovers: 2, acceptances: 1, ..Bounds::group(3, 2) },
    Bounds { failovers: 2, ..Bounds::group(4, 2) },
    Bounds { failovers: 1, flaps: 1, ..Bounds::group(4, 3) },
    Bounds { entries: 2, failovers: 2, flaps: 1, ..Bounds::group(3, 3) },
];

impl std::fmt::Display for Bounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "N={} W={} Q={} ", self.servers, self.commit_servers, self.proof_servers)?;
        write!(f, "desks={} entries={}", self.desks, self.entries)?;
        let faults = [
            ("failovers", self.failovers),
            ("flaps", self.flaps),
            ("restarts", self.restarts),
            ("losses", self.losses),
            ("deletions", self.deletions),
            ("desk-restarts", self.desk_restarts),
            ("acceptances", self.acceptances),
        ];
        faults.iter().filter(|(_, most)| *most > 0).try_for_each(|(name, most)| write!(f, " {name}={most}"))
    }
}
