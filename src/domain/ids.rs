//! The names of things: accounts, posts, orders, revisions.
//!
//! Every id has private contents and one way in, so that past the edge of the program no bare number or
//! string stands for one. Must not know where an id came from.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::sync::Arc;

/// Why a number or text is not an account or post id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// Nothing was given.
    #[error("an id is missing")]
    Empty,
    /// Zero is what an unset field looks like, so it never names anything.
    #[error("`0` is not an id")]
    Zero,
    /// A spreadsheet rounded the number: its last digits are lost.
    #[error("an id in scientific notation has lost its last digits")]
    Rounded,
    /// Something else than ASCII digits.
    #[error("an id is written in the digits 0 to 9 only")]
    NotDigits,
    /// More than 64 bits.
    #[error("an id is at most 18446744073709551615")]
    TooLarge,
}

fn parse_id(text: &str) -> Result<NonZeroU64, ParseIdError> {
    if text.is_empty() {
        return Err(ParseIdError::Empty);
    }
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        let rounded = text.bytes().any(|b| b.is_ascii_digit())
            && text.bytes().any(|b| matches!(b, b'e' | b'E'))
            && text.parse::<f64>().is_ok();
        return Err(if rounded { ParseIdError::Rounded } else { ParseIdError::NotDigits });
    }
    let number: u64 = text.parse().map_err(|_| ParseIdError::TooLarge)?;
    NonZeroU64::new(number).ok_or(ParseIdError::Zero)
}

macro_rules! subject_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(NonZeroU64);

        impl $name {
            /// The id as the number it is on the wire.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0.get()
            }
        }

        impl TryFrom<u64> for $name {
            type Error = ParseIdError;
            fn try_from(id: u64) -> Result<Self, ParseIdError> {
                NonZeroU64::new(id).map(Self).ok_or(ParseIdError::Zero)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            /// Digits only: no sign, no spaces, no exponent. Trimming is the caller's decision.
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_id(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

subject_id! {
    /// An account of the platform: 64 bits, never zero.
    AccountId
}
subject_id! {
    /// A post of the platform: 64 bits, never zero.
    PostId
}

/// What an order can withhold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// An account with all it posts.
    Account(AccountId),
    /// One post.
    Post(PostId),
}

impl Subject {
    /// Its id as the number it is on the wire.
    #[must_use]
    pub const fn id(self) -> u64 {
        match self {
            Self::Account(id) => id.get(),
            Self::Post(id) => id.get(),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(id) => write!(f, "account {id}"),
            Self::Post(id) => write!(f, "post {id}"),
        }
    }
}

/// Why a text cannot name an order, an upload or a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseNameError {
    /// Nothing was given.
    #[error("it is empty")]
    Empty,
    /// Longer than 128 bytes.
    #[error("it has {0} bytes, at most 128 are allowed")]
    TooLong(usize),
    /// A character that does not survive shells, URLs and spreadsheets.
    #[error("`{0}` is not allowed in it: use letters, digits and . _ : / -")]
    BadCharacter(char),
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text as it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseNameError;
            /// 1 to 128 ASCII letters, digits and `. _ : / -`.
            fn from_str(text: &str) -> Result<Self, ParseNameError> {
                if text.is_empty() {
                    return Err(ParseNameError::Empty);
                }
                if text.len() > 128 {
                    return Err(ParseNameError::TooLong(text.len()));
                }
                match text.chars().find(|c| !(c.is_ascii_alphanumeric() || "._:/-".contains(*c))) {
                    Some(c) => Err(ParseNameError::BadCharacter(c)),
                    None => Ok(Self(text.into())),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// The platform's own name for an order, chosen by the desk; also the key that makes applying it idempotent.
    OrderId
}
name! {
    /// Names a list of items staged ahead of the order that uses it.
    UploadId
}
name! {
    /// Names one command, so that sending it twice does it once.
    RequestId
}

/// What a journal's creation makes it unlike any other by: 16 random bytes, kept in its first entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JournalId([u8; 16]);

impl JournalId {
    /// From random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for JournalId {
    /// 32 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// A position in the journal: the number of entries up to and including this one. Dense from 1; 0 is the empty journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(u64);

impl Revision {
    /// Before the first entry.
    pub const START: Self = Self(0);

    /// The position after `count` entries.
    #[must_use]
    pub const fn new(count: u64) -> Self {
        Self(count)
    }

    /// The number of entries up to here.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The position one entry further.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The position `entries` further.
    #[must_use]
    pub const fn plus(self, entries: u64) -> Self {
        Self(self.0.saturating_add(entries))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
