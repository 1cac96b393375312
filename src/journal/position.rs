//! Places in a history: revisions with the hashes that prove them, and the name of the journal they are in.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::error::{Damage, ReadError};
use crate::domain::ids::Revision;

/// The hash of an entry: over the hash before and the entry's bytes, so that it vouches for all of the past.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Before the first entry.
    pub const GENESIS: Self = Self([0; 32]);

    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The hash of the entry after this one: `SHA-256("withheld.journal.v1\n" ‖ this ‖ payload)`.
    #[must_use]
    pub fn chain(self, payload: &[u8]) -> Self {
        let hash = Sha256::new().chain_update(b"withheld.journal.v1\n").chain_update(self.0).chain_update(payload);
        Self(hash.finalize().into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Hash {
    type Err = BadHash;
    fn from_str(text: &str) -> Result<Self, BadHash> {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let pairs = text.as_bytes().chunks_exact(2).map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        });
        let bytes: Option<Vec<u8>> = pairs.collect();
        let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()).filter(|_| text.len() == 64);
        bytes.map(Self::from_bytes).ok_or(BadHash)
    }
}

/// Not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 64 hexadecimal digits")]
pub struct BadHash;

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name of a journal: the first 16 bytes of the hash of its first entry, written as 32 hexadecimal digits.
///
/// Every later hash is chained to that one, so a name is proven by the history and cannot be claimed by another. A journal
/// that is made now begins with an entry that has a random id in it; those of before it existed have a name just the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JournalName([u8; 16]);

impl JournalName {
    /// The name of the journal whose first entry has this hash.
    #[must_use]
    pub fn of(first: Hash) -> Self {
        let mut name = [0; 16];
        name.iter_mut().zip(first.as_bytes()).for_each(|(to, from)| *to = *from);
        Self(name)
    }

    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for JournalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for JournalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Not the name of a journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the name of a journal: that is 32 hexadecimal digits, as `withheld journal verify` prints it")]
pub struct BadJournalName(String);

impl FromStr for JournalName {
    type Err = BadJournalName;
    fn from_str(text: &str) -> Result<Self, BadJournalName> {
        let lower = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let number = (lower && text.len() == 32).then(|| u128::from_str_radix(text, 16).ok()).flatten();
        number.map(|number| Self(number.to_be_bytes())).ok_or_else(|| BadJournalName(text.to_owned()))
    }
}

/// A place in a journal's history: a revision, and the hash that says which history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The entries up to here.
    pub revision: Revision,
    /// The hash of the last of them.
    pub hash: Hash,
}

impl Position {
    /// Before the first entry.
    pub const START: Self = Self { revision: Revision::START, hash: Hash::GENESIS };

    /// The place after one more entry.
    #[must_use]
    pub fn after(self, payload: &[u8]) -> Self {
        Self { revision: self.revision.next(), hash: self.hash.chain(payload) }
    }
}

/// A position as it leaves the process: `NAME.REVISION.HASH`, the journal's name, the revision, and the first 16 digits of
/// the entry's hash. A bare revision means something in one history only; this says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PositionToken {
    name: JournalName,
    revision: Revision,
    prefix: [u8; 8],
}

fn prefix(hash: Hash) -> [u8; 8] {
    let mut prefix = [0; 8];
    prefix.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
    prefix
}

impl PositionToken {
    /// That of a place in a journal.
    #[must_use]
    pub fn new(name: JournalName, position: Position) -> Self {
        Self { name, revision: position.revision, prefix: prefix(position.hash) }
    }

    /// The journal's name.
    #[must_use]
    pub const fn name(&self) -> JournalName {
        self.name
    }

    /// The revision.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// Whether a place in a journal is the one meant.
    #[must_use]
    pub fn is(&self, name: JournalName, position: Position) -> bool {
        *self == Self::new(name, position)
    }
}

impl fmt::Display for PositionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.name, self.revision, hex(&self.prefix))
    }
}

/// Not a position of a journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a position: that is NAME.REVISION.HASH, as it was given before")]
pub struct BadPosition(String);

impl FromStr for PositionToken {
    type Err = BadPosition;
    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let read = || {
            let [name, revision, prefix] = text.split('.').collect::<Vec<_>>().try_into().ok()?;
            let number: u64 = revision.parse().ok()?;
            let bits = u64::from_str_radix(prefix, 16).ok()?;
            let token = Self { name: name.parse().ok()?, revision: Revision::new(number), prefix: bits.to_be_bytes() };
            // Written in one way only.
            (token.to_string() == text).then_some(token)
        };
        read().ok_or_else(|| BadPosition(text.escape_debug().to_string()))
    }
}

/// An entry as the journal keeps it, its hash checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    position: Position,
    payload: Arc<[u8]>,
}

impl StoredEntry {
    /// Its place.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Its bytes.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }
}

/// Checks entries read from storage: dense, chained to `after`.
pub(super) fn chained(
    after: Position,
    rows: impl IntoIterator<Item = (u64, Vec<u8>, Vec<u8>)>,
) -> Result<Vec<StoredEntry>, ReadError> {
    let mut position = after;
    let mut entries = Vec::new();
    for (revision, hash, payload) in rows {
        position = position.after(&payload);
        let revision_wanted = position.revision;
        let corrupt = |damage| ReadError::Corrupt { revision: revision_wanted, damage };
        if Revision::new(revision) != revision_wanted {
            return Err(corrupt(Damage::Missing));
        }
        if position.hash.as_bytes().as_slice() != hash {
            return Err(corrupt(Damage::Hash { expected: position.hash, found: hash }));
        }
        entries.push(StoredEntry { position, payload: payload.into() });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written_and_nothing_else_is_one() {
        let name = JournalName::of(Hash::GENESIS.chain(b"the first entry"));
        assert_eq!(name.to_string().parse(), Ok(name));
        assert_eq!(name.to_string().len(), 32);
        let token = PositionToken::new(name, Position::START.after(b"an entry"));
        assert_eq!(token.to_string().parse(), Ok(token));
        for wrong in [
            "",
            "1.2.3",
            &token.to_string().to_uppercase(),
            &format!("{token}0"),
            &format!("{name}.01.0000000000000000"),
        ] {
            assert!(wrong.parse::<PositionToken>().is_err(), "{wrong}");
        }
        for wrong in
            ["", "7", "+0000000000000000000000000000001", &name.to_string().to_uppercase(), &format!("{name}0")]
        {
            assert!(wrong.parse::<JournalName>().is_err(), "{wrong}");
        }
    }
}
