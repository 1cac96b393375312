//! How large a system is explored. The only place where the numbers stand.

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
}

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
