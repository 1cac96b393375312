//! The rules of the protocol that can be broken one at a time.

/// One rule left out or bent. Each is what a program might do instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    HeirTrusted,
    TailIsLevel,
    OldTailIsLevel,
    NoMajorityCheck,
    ProofNeedNotIntersect,
    ReaderSettles,
    MarkBeyondEndIsLevel,
    EmptyIsFresh,
    FullResyncCounts,
    MarkBeforeWait,
    AppendAnywhere,
    MajorityBeforeWait,
    RepairOverwrites,
    VouchedBeforeAsked,
    ReadFromReplica,
    EpochNotCompared,
    AppendIgnoresMark,
    LiveWithoutAsking,
    AskedBeforeRead,
    InDoubtIsLive,
    StreamNotCompared,
    HeirOfAnyStream,
    MarkMovesBack,
    AcceptanceCommits,
}

impl Mutation {
    pub const ALL: &[Self] = &[
        Self::HeirTrusted,
        Self::TailIsLevel,
        Self::OldTailIsLevel,
        Self::NoMajorityCheck,
        Self::ProofNeedNotIntersect,
        Self::ReaderSettles,
        Self::MarkBeyondEndIsLevel,
        Self::EmptyIsFresh,
        Self::FullResyncCounts,
        Self::MarkBeforeWait,
        Self::AppendAnywhere,
        Self::MajorityBeforeWait,
        Self::RepairOverwrites,
        Self::VouchedBeforeAsked,
        Self::ReadFromReplica,
        Self::EpochNotCompared,
        Self::AppendIgnoresMark,
        Self::LiveWithoutAsking,
        Self::AskedBeforeRead,
        Self::InDoubtIsLive,
        Self::StreamNotCompared,
        Self::HeirOfAnyStream,
        Self::MarkMovesBack,
        Self::AcceptanceCommits,
    ];
}
