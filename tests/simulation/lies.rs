//! Journals that break their word, and a disk that forgets: what the checks of this simulation must notice.

/// One way to break it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Acknowledges entries that it did not keep.
    AcksWhatIsLost,
    /// Says that nothing was written when an answer is lost.
    UnavailableIsNothingWritten,
    /// Calls readers level as of now, however long ago it looked.
    LevelEarly,
    /// Shows entries that are not committed.
    ShowsUncommitted,
    /// Appends wherever the journal ends.
    AppendsAnywhere,
    /// A server that lacks committed entries takes over, and nobody doubts it.
    TailLostInSilence,
    /// Evidence of which history a service knows is gone when it starts.
    EvidenceForgotten,
}

impl Lie {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::AcksWhatIsLost,
        Self::UnavailableIsNothingWritten,
        Self::LevelEarly,
        Self::ShowsUncommitted,
        Self::AppendsAnywhere,
        Self::TailLostInSilence,
        Self::EvidenceForgotten,
    ];
}
