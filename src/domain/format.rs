//! The format that a journal's entries may be written in.
//!
//! **Writes-are-readable**: a program reads every format up to one that is ahead of what it writes unasked, and writes a
//! newer form of anything only on a journal that says that it may. So a rolling upgrade never writes what a replica that
//! still runs the old program cannot read.

use std::fmt;
use std::num::NonZeroU32;

/// A format of the journal, numbered from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Format(NonZeroU32);

const fn format(number: u32) -> Format {
    match NonZeroU32::new(number) {
        Some(number) => Format(number),
        None => Format(NonZeroU32::MIN),
    }
}

impl Format {
    /// Of journals that say nothing of a format.
    pub const FIRST: Self = format(1);
    /// The newest that this program reads.
    pub const NEWEST_READABLE: Self = format(2);
    /// The newest that this program writes: new journals are created in it.
    pub const NEWEST_WRITABLE: Self = format(2);

    /// The format of a number; `None` of 0.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// Its number, as it is stored.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0.get()
    }

    /// Whether this program reads it.
    #[must_use]
    pub fn is_readable(self) -> bool {
        self <= Self::NEWEST_READABLE
    }
}

impl Default for Format {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
