//! What a line of an order's list names.
//!
//! **Never-guess**: white space around a locator is dropped; nothing else is corrected. What does not resolve says why.

use std::str::FromStr;

use serde::Deserialize;

use super::ids::{AccountId, ParseIdError, PostId, Subject};
use super::territory::DataError;

/// What a locator names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// An account or a post.
    Subject(Subject),
    /// Nothing that could be found out.
    Unresolved(Cause),
    /// Something that cannot be withheld.
    Unsupported(Unsupported),
}

/// Something that is understood and cannot be withheld.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unsupported {
    /// A hashtag.
    Hashtag,
}

/// Why a locator does not resolve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// There is none.
    EmptyLocator,
    /// Not a number of digits.
    NotAnId,
    /// A spreadsheet rounded it.
    RoundedId,
    /// Zero.
    ZeroId,
    /// More than 64 bits.
    IdTooLarge,
    /// A handle.
    HandleNotResolvable,
    /// A link to another site.
    ForeignLink,
    /// A link to this platform that names neither account nor post.
    LinkNotUnderstood,
    /// Not a link.
    NotALink,
    /// A type of locator that is not known.
    UnknownLocatorType,
}

impl Cause {
    /// The word for it in counts and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EmptyLocator => "empty_locator",
            Self::NotAnId => "not_an_id",
            Self::RoundedId => "rounded_id",
            Self::ZeroId => "zero_id",
            Self::IdTooLarge => "id_too_large",
            Self::HandleNotResolvable => "handle",
            Self::ForeignLink => "foreign_link",
            Self::LinkNotUnderstood => "link_not_understood",
            Self::NotALink => "not_a_link",
            Self::UnknownLocatorType => "unknown_locator_type",
        }
    }

    /// The same in a sentence.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::EmptyLocator => "there is no locator",
            Self::NotAnId => "an id is written in the digits 0 to 9 only",
            Self::RoundedId => "a spreadsheet has rounded the id: its last digits are lost, ask for the original list",
            Self::ZeroId => "0 is not an id",
            Self::IdTooLarge => "an id is at most 18446744073709551615",
            Self::HandleNotResolvable => "a handle can change hands: ask for the account's id",
            Self::ForeignLink => "the link leads to another site",
            Self::LinkNotUnderstood => "the link is ours, but names neither an account by its id nor a post",
            Self::NotALink => "a link begins with https:// or http://",
            Self::UnknownLocatorType => "the type is none of account_id, post_id, url, handle, hashtag",
        }
    }
}

impl From<ParseIdError> for Cause {
    fn from(error: ParseIdError) -> Self {
        match error {
            ParseIdError::Empty => Self::EmptyLocator,
            ParseIdError::Zero => Self::ZeroId,
            ParseIdError::Rounded => Self::RoundedId,
            ParseIdError::NotDigits => Self::NotAnId,
            ParseIdError::TooLarge => Self::IdTooLarge,
        }
    }
}

fn account(text: &str) -> Resolution {
    match AccountId::from_str(text) {
        Ok(id) => Resolution::Subject(Subject::Account(id)),
        Err(error) => Resolution::Unresolved(error.into()),
    }
}

fn post(text: &str) -> Resolution {
    match PostId::from_str(text) {
        Ok(id) => Resolution::Subject(Subject::Post(id)),
        Err(error) => Resolution::Unresolved(error.into()),
    }
}

/// Which links are this platform's, and what they name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Links {
    hosts: Vec<String>,
    pattern: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pattern {
    path: String,
    query: Option<String>,
}

impl Links {
    /// From the text of a file like `data/links.toml`.
    ///
    /// # Errors
    /// If it is not such a file, naming what is wrong.
    pub fn parse(text: &str) -> Result<Self, DataError> {
        toml::from_str(text).map_err(|e: toml::de::Error| DataError { what: "links", why: e.to_string() })
    }

    /// The file that comes with the program; a test holds it to being right.
    #[must_use]
    pub fn builtin() -> Self {
        Self::parse(include_str!("../../data/links.toml")).unwrap_or_default()
    }

    /// What a line of a list names. White space and byte order marks around both texts are dropped.
    #[must_use]
    pub fn resolve(&self, locator_type: &str, locator: &str) -> Resolution {
        let trim = |text| str::trim_matches(text, |c: char| c.is_whitespace() || c == '\u{feff}');
        let (locator_type, locator) = (trim(locator_type), trim(locator));
        let unresolved = Resolution::Unresolved;
        match locator_type {
            "account_id" => account(locator),
            "post_id" => post(locator),
            "url" if locator.is_empty() => unresolved(Cause::EmptyLocator),
            "url" => self.link(locator),
            "handle" if locator.trim_start_matches('@').is_empty() => unresolved(Cause::EmptyLocator),
            "handle" => unresolved(Cause::HandleNotResolvable),
            "hashtag" if locator.trim_start_matches('#').is_empty() => unresolved(Cause::EmptyLocator),
            "hashtag" => Resolution::Unsupported(Unsupported::Hashtag),
            _ => unresolved(Cause::UnknownLocatorType),
        }
    }

    fn link(&self, url: &str) -> Resolution {
        let scheme_end = url.find("://").filter(|at| {
            url.get(..*at).is_some_and(|s| s.eq_ignore_ascii_case("https") || s.eq_ignore_ascii_case("http"))
        });
        let Some(rest) = scheme_end.and_then(|at| url.get(at + 3..)) else {
            return Resolution::Unresolved(Cause::NotALink);
        };
        let (rest, _fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if !self.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host)) {
            return Resolution::Unresolved(Cause::ForeignLink);
        }
        let named = self.pattern.iter().find_map(|pattern| pattern.resolve(path, query));
        named.unwrap_or(Resolution::Unresolved(Cause::LinkNotUnderstood))
    }
}

impl Pattern {
    /// What a path and query name by this pattern; `None` if they do not fit it.
    fn resolve(&self, path: &str, query: &str) -> Option<Resolution> {
        let mut found = None;
        let mut parts = path.strip_suffix('/').unwrap_or(path).split('/');
        for wanted in self.path.trim_start_matches('/').split('/') {
            let part = parts.next()?;
            match wanted {
                "*" if !part.is_empty() => {}
                "{account_id}" => found = Some(account(part)),
                "{post_id}" => found = Some(post(part)),
                _ if wanted == part => {}
                _ => return None,
            }
        }
        if parts.next().is_some() {
            return None;
        }
        let Some((key, placeholder)) = self.query.as_deref().and_then(|q| q.split_once('=')) else { return found };
        let mut values = query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(k, _)| *k == key);
        let (_, value) = values.next()?;
        // The same parameter twice: which of them is meant would be a guess.
        if values.next().is_some() {
            return None;
        }
        match placeholder {
            "{account_id}" => Some(account(value)),
            "{post_id}" => Some(post(value)),
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "../../fuzz/data_files.rs"]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_resolve_or_say_why() {
        let links = Links::parse(include_str!("../../data/links.toml")).unwrap();
        let account = |id: u64| Resolution::Subject(Subject::Account(id.try_into().unwrap()));
        let post = |id: u64| Resolution::Subject(Subject::Post(id.try_into().unwrap()));
        let unresolved = Resolution::Unresolved;
        for (kind, locator, expected) in [
            ("account_id", " 7 ", account(7)),
            ("\u{feff}account_id", "7\u{a0}", account(7)),
            ("account_id", "0007", account(7)),
            ("account_id", "+7", unresolved(Cause::NotAnId)),
            ("account_id", "-5", unresolved(Cause::NotAnId)),
            ("account_id", "7 8", unresolved(Cause::NotAnId)),
            ("account_id", "1.36403E+18", unresolved(Cause::RoundedId)),
            ("account_id", "18446744073709551616", unresolved(Cause::IdTooLarge)),
            ("account_id", "９８７６５", unresolved(Cause::NotAnId)),
            ("account_id", "", unresolved(Cause::EmptyLocator)),
            ("Account_ID", "7", unresolved(Cause::UnknownLocatorType)),
            ("post_id", "0", unresolved(Cause::ZeroId)),
            ("handle", "@someone", unresolved(Cause::HandleNotResolvable)),
            ("handle", "@", unresolved(Cause::EmptyLocator)),
            ("hashtag", "#word", Resolution::Unsupported(Unsupported::Hashtag)),
            ("hashtag", "#", unresolved(Cause::EmptyLocator)),
            ("url", "https://x.com/i/user/7", account(7)),
            ("url", "HTTPS://X.com/i/user/7/?s=20#top", account(7)),
            ("url", "https://twitter.com/intent/user?lang=hi&user_id=7", account(7)),
            ("url", "https://twitter.com/intent/user?user_id=7&user_id=8", unresolved(Cause::LinkNotUnderstood)),
            ("url", "https://twitter.com/i/web/status/9", post(9)),
            ("url", "https://mobile.twitter.com/somebody/status/9/photo/1", post(9)),
            ("url", "https://x.com/somebody/status/9x", unresolved(Cause::NotAnId)),
            ("url", "https://x.com/somebody", unresolved(Cause::LinkNotUnderstood)),
            ("url", "https://x.com.example.org/i/user/7", unresolved(Cause::ForeignLink)),
            ("url", "https://x.com@example.org/i/user/7", unresolved(Cause::ForeignLink)),
            ("url", "https://x.com:444/i/user/7", unresolved(Cause::ForeignLink)),
            ("url", "x.com/i/user/7", unresolved(Cause::NotALink)),
            ("url", "ftp://x.com/i/user/7", unresolved(Cause::NotALink)),
        ] {
            assert_eq!(links.resolve(kind, locator), expected, "{kind} {locator}");
        }
    }
}
