//! Accounts on which orders are declined by default.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

/// Why an account is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// News media.
    NewsMedia,
    /// A journalist.
    Journalist,
    /// An activist.
    Activist,
    /// A politician.
    Politician,
    /// The platform's own affairs.
    OwnAffairs,
}

impl Category {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::NewsMedia, Self::Journalist, Self::Activist, Self::Politician, Self::OwnAffairs];

    /// The word for it in files and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NewsMedia => "news_media",
            Self::Journalist => "journalist",
            Self::Activist => "activist",
            Self::Politician => "politician",
            Self::OwnAffairs => "own_affairs",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// No such category.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a category: it is one of news_media, journalist, activist, politician, own_affairs")]
pub struct UnknownCategory(String);

impl FromStr for Category {
    type Err = UnknownCategory;
    fn from_str(text: &str) -> Result<Self, UnknownCategory> {
        Self::ALL.into_iter().find(|c| c.as_str() == text).ok_or_else(|| UnknownCategory(text.to_owned()))
    }
}

/// An account's place on the protected list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protection {
    /// Why.
    pub category: Category,
    /// Since when, in this category.
    pub since: Timestamp,
}
