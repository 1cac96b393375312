//! Rules left out or bent one at a time, each as a program might, and what the checker says to it.

use crate::bounds::Bounds;

/// One rule of the protocol, or one assumption about what it runs on, that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    HeirTrusted,
    HeirOfAnyStream,
    FullResyncCounts,
    VouchedBeforeAsked,
    ProofNeedNotIntersect,
    TailIsLevel,
    OldTailIsLevel,
    NoMajorityCheck,
    MajorityBeforeWait,
    EpochNotCompared,
    MarkBeforeWait,
    MarkMovesBack,
    MarkBeyondEndIsLevel,
    AppendIgnoresMark,
    AppendAnywhere,
    StreamNotCompared,
    ReaderSettles,
    ReadFromReplica,
    AskedBeforeRead,
    LiveWithoutAsking,
    InDoubtIsLive,
    EmptyIsFresh,
    RepairOverwrites,
    AcceptanceCommits,
    StartedAsPrimary,
    FollowsReplica,
}

/// A mutation with bounds within which it can be told from the protocol.
pub struct Mutated {
    pub mutation: Option<Mutation>,
    pub what: &'static str,
    pub bounds: Bounds,
    /// The invariant that the shortest counterexample violates.
    pub violates: &'static str,
}

const ONE_WRITER: &str = "One-writer-at-a-revision";
const DURABLE: &str = "Acked-is-durable";
const ONE_HISTORY: &str = "One-history";
const SEALED: &str = "Sealed-for-cause";

const FAILOVER: Bounds = Bounds { failovers: 1, ..Bounds::group(3, 2) };
const FAILOVER_ONE_DESK: Bounds = Bounds { desks: 1, ..FAILOVER };
const TWO_FAILOVERS: Bounds = Bounds { failovers: 2, ..Bounds::group(3, 2) };

const fn mutated(mutation: Mutation, violates: &'static str, bounds: Bounds, what: &'static str) -> Mutated {
    Mutated { mutation: Some(mutation), what, bounds, violates }
}

/// Rules of the protocol without which it breaks.
pub const NEEDED: &[Mutated] = &[
    mutated(
        Mutation::HeirTrusted,
        DURABLE,
        FAILOVER_ONE_DESK,
        "an heir is trusted at once, without the proof of a takeover",
    ),
    mutated(
        Mutation::HeirOfAnyStream,
        DURABLE,
        Bounds { desks: 1, ..TWO_FAILOVERS },
        "an heir counts towards its own proof whatever stream it came from: two failovers in a row",
    ),
    mutated(
        Mutation::FullResyncCounts,
        DURABLE,
        FAILOVER_ONE_DESK,
        "a server that came to the heir by full resynchronisation counts as one that had no more than it",
    ),
    mutated(
        Mutation::VouchedBeforeAsked,
        DURABLE,
        FAILOVER_ONE_DESK,
        "a server counts that came to the heir before a majority named it, and may have gone back since",
    ),
    mutated(
        Mutation::ProofNeedNotIntersect,
        DURABLE,
        Bounds { failovers: 1, ..Bounds::group(4, 2) },
        "N=4, W=2, and two servers prove an heir: {P, R1} and {R2, R3} have none in common",
    ),
    mutated(
        Mutation::TailIsLevel,
        ONE_HISTORY,
        FAILOVER_ONE_DESK,
        "the tail beyond the mark of an heir counts as level: the mark is lost with the primary that had it",
    ),
    mutated(
        Mutation::NoMajorityCheck,
        DURABLE,
        Bounds { flaps: 1, ..FAILOVER },
        "acknowledged on W servers without asking the voters",
    ),
    mutated(
        Mutation::MajorityBeforeWait,
        DURABLE,
        Bounds { flaps: 1, ..FAILOVER },
        "the voters are asked before WAIT instead of after it",
    ),
    mutated(
        Mutation::EpochNotCompared,
        ONE_HISTORY,
        TWO_FAILOVERS,
        "the voters' answer is compared by server, not by epoch: it was replaced and is primary again",
    ),
    mutated(Mutation::MarkBeforeWait, DURABLE, FAILOVER_ONE_DESK, "the mark is moved before WAIT"),
    mutated(
        Mutation::MarkMovesBack,
        DURABLE,
        Bounds { deletions: 1, ..FAILOVER },
        "a script moves the mark without looking whether the log has the present one: a late takeover, a log deleted",
    ),
    mutated(
        Mutation::MarkBeyondEndIsLevel,
        DURABLE,
        Bounds { deletions: 1, ..Bounds::group(3, 2) },
        "a mark beyond the end of the log counts as level: the log is deleted, the mark is kept",
    ),
    mutated(
        Mutation::AppendAnywhere,
        ONE_WRITER,
        Bounds { entries: 2, ..Bounds::group(3, 2) },
        "an append does not check that the log ends where the entry was decided",
    ),
    mutated(
        Mutation::StreamNotCompared,
        SEALED,
        Bounds { entries: 2, ..TWO_FAILOVERS },
        "a session outlives its server's being a replica in between: it appends to a history it does not know",
    ),
    mutated(Mutation::ReaderSettles, DURABLE, FAILOVER_ONE_DESK, "a reader that waits for no replica commits the tail"),
    mutated(
        Mutation::ReadFromReplica,
        ONE_HISTORY,
        FAILOVER_ONE_DESK,
        "what is read counts though the server has become a replica of another since the session was opened",
    ),
    mutated(Mutation::LiveWithoutAsking, ONE_HISTORY, FAILOVER, "LIVE without asking the voters"),
    mutated(Mutation::InDoubtIsLive, ONE_HISTORY, FAILOVER_ONE_DESK, "LIVE in a session that is in doubt"),
    mutated(
        Mutation::EmptyIsFresh,
        DURABLE,
        Bounds { losses: 1, ..Bounds::group(3, 2) },
        "an empty log without a takeover record counts as a fresh journal: the primary lost its disk",
    ),
    mutated(
        Mutation::RepairOverwrites,
        DURABLE,
        Bounds { entries: 2, acceptances: 1, ..FAILOVER },
        "a repair overwrites what stands in place, instead of sealing",
    ),
    mutated(
        Mutation::AcceptanceCommits,
        DURABLE,
        Bounds { desks: 1, failovers: 2, acceptances: 1, ..Bounds::group(3, 3) },
        "what a person accepts is committed without WAIT and majority",
    ),
];

/// Rules that the checker finds nothing wrong without, so that other rules cover what they are for. Why they are kept is
/// said with each.
pub const COVERED: &[Mutated] = &[
    mutated(
        Mutation::OldTailIsLevel,
        "",
        Bounds { flaps: 1, desk_restarts: 1, ..FAILOVER },
        "a tail at a server that is proven already is not in doubt: a takeover commits the whole log, so nothing of a later \
         tail can have been acknowledged",
    ),
    mutated(
        Mutation::AppendIgnoresMark,
        "",
        Bounds { entries: 2, deletions: 1, ..Bounds::group(3, 2) },
        "an append does not look whether the log has the mark: it can never be committed, for that script looks; but it \
         stands in the way of the repair",
    ),
    mutated(
        Mutation::AskedBeforeRead,
        "",
        TWO_FAILOVERS,
        "LIVE by asking the voters first and reading then: as good, as long as a session is of one stream",
    ),
];

/// What the protocol cannot see, and has to assume: each breaks it.
pub const ASSUMED: &[Mutated] = &[
    Mutated {
        mutation: None,
        what: "after a failover a server is sent back to the old primary by voters that lag behind, is overwritten there, and \
               is the heir of a second failover",
        bounds: Bounds { desks: 1, flaps: 1, ..TWO_FAILOVERS },
        violates: DURABLE,
    },
    mutated(
        Mutation::StartedAsPrimary,
        DURABLE,
        Bounds { desks: 1, restarts: 1, ..FAILOVER },
        "a server that was made a replica is started as a primary because the voters still name it",
    ),
    mutated(
        Mutation::FollowsReplica,
        DURABLE,
        Bounds { desks: 1, failovers: 1, flaps: 1, ..Bounds::group(4, 2) },
        "a server is told to follow one that is not a primary, and lags behind",
    ),
];
