//! SHA-256 over structured content, so that "the same again" and "as previewed" are facts and not opinions.

use sha2::{Digest as _, Sha256};
use std::fmt;

/// A SHA-256 digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A digest that was stored or sent; `None` unless it has 32 bytes.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Over plain bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// Feeds fields one by one, each with its length, so that no two contents share a digest by running together.
#[derive(Clone)]
pub struct Digester(Sha256);

impl Digester {
    /// A digest for one purpose; digests of different purposes never meet.
    #[must_use]
    pub fn new(purpose: &str) -> Self {
        let mut digester = Self(Sha256::new());
        digester.text(purpose);
        digester
    }

    /// Adds a text or bytes.
    pub fn text(&mut self, field: impl AsRef<[u8]>) {
        let bytes = field.as_ref();
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    /// Adds a number.
    pub fn number(&mut self, field: u64) {
        self.0.update(field.to_le_bytes());
    }

    /// Adds a time that may be unset.
    pub fn time(&mut self, field: Option<jiff::Timestamp>) {
        match field {
            Some(time) => {
                self.number(1);
                self.0.update(time.as_microsecond().to_le_bytes());
            }
            None => self.number(0),
        }
    }

    /// The digest of all that was added.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}
