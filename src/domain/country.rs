//! Countries, sets of them, and where a viewer is.
//!
//! Codes are ISO 3166-1 alpha-2 in upper case, from `data/countries.csv`. Nothing is guessed: a code that is unassigned,
//! retired, reserved or a group is refused by name.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

const DATA: &str = include_str!("../../data/countries.csv");
const LETTERS: usize = 26;
/// The bit of a [`CountrySet`] that stands for everywhere; country numbers are smaller.
const WORLDWIDE: u8 = 255;

/// A country: a number into the sorted table of codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CountryCode(u8);

/// Why a text is not a country's code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseCountryError {
    /// Nothing was given.
    #[error("a country code is missing")]
    Empty,
    /// Not two letters.
    #[error("`{0}` is not a country code: write two letters of ISO 3166-1, for example `IN`")]
    NotTwoLetters(String),
    /// Right but for its case.
    #[error("country codes are upper case: write `{upper}` for `{0}`", upper = .0.to_uppercase())]
    LowerCase(String),
    /// Not assigned to a country.
    #[error("`{0}` is not assigned to any country by ISO 3166-1")]
    Unassigned(String),
    /// Was assigned once.
    #[error("`{code}` is retired: {note}")]
    Retired {
        /// The code.
        code: String,
        /// What became of it.
        note: &'static str,
    },
    /// Reserved for something that is not a country, or only a part of one.
    #[error("`{code}` is reserved and not a country's code: {note}")]
    Reserved {
        /// The code.
        code: String,
        /// What for.
        note: &'static str,
    },
}

#[derive(Debug, Clone, Copy)]
enum Meaning {
    Country(CountryCode),
    Unknown(&'static str),
    Retired(&'static str),
    Reserved(&'static str),
}

struct Table {
    countries: Vec<(&'static str, &'static str)>,
    meanings: Vec<Option<Meaning>>,
}

static TABLE: LazyLock<Table> = LazyLock::new(Table::parse);

fn place(code: &str) -> Option<usize> {
    match code.as_bytes() {
        [a @ b'A'..=b'Z', b @ b'A'..=b'Z'] => Some(usize::from(a - b'A') * LETTERS + usize::from(b - b'A')),
        _ => None,
    }
}

impl Table {
    /// Rows that make no sense are left out; a test holds the file to having none.
    fn parse() -> Self {
        let rows = DATA.lines().skip(1).filter_map(|line| {
            let (code, rest) = line.split_once(',')?;
            let (status, rest) = rest.split_once(',')?;
            let (name, note) = match rest.strip_prefix('"') {
                Some(quoted) => quoted.split_once("\",")?,
                None => rest.split_once(',')?,
            };
            Some((code, status, name, note.trim_matches('"')))
        });
        let rows: Vec<_> = rows.collect();
        let assigned = rows.iter().filter(|(_, status, ..)| *status == "assigned");
        let sorted: BTreeMap<_, _> = assigned.map(|(code, _, name, _)| (*code, *name)).collect();
        let countries: Vec<_> = sorted.into_iter().take(usize::from(WORLDWIDE)).collect();
        let number = |code: &str| {
            countries.binary_search_by_key(&code, |(c, _)| c).ok().and_then(|at| u8::try_from(at).ok()).map(CountryCode)
        };
        let mut meanings = vec![None; LETTERS * LETTERS];
        for (code, status, _, note) in &rows {
            let meaning = match *status {
                "assigned" => number(code).map(Meaning::Country),
                "alias" => number(note).map(Meaning::Country),
                "retired" => Some(Meaning::Retired(note)),
                "reserved" => Some(Meaning::Reserved(note)),
                "unknown_viewer" => Some(Meaning::Unknown(note)),
                _ => None,
            };
            if let Some(slot) = place(code).and_then(|at| meanings.get_mut(at)) {
                *slot = meaning;
            }
        }
        Self { countries, meanings }
    }

    fn meaning(&self, code: &str) -> Option<Meaning> {
        place(code).and_then(|at| self.meanings.get(at).copied().flatten())
    }
}

impl CountryCode {
    /// The two letters.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        TABLE.countries.get(usize::from(self.0)).map_or("", |(code, _)| code)
    }

    /// The English short name.
    #[must_use]
    pub fn name(self) -> &'static str {
        TABLE.countries.get(usize::from(self.0)).map_or("", |(_, name)| name)
    }

    /// All countries, by code.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..TABLE.countries.len()).filter_map(|at| u8::try_from(at).ok()).map(Self)
    }
}

impl fmt::Display for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CountryCode {
    type Err = ParseCountryError;

    /// `UK` is read as `GB`, and `EL` as `GR`.
    fn from_str(text: &str) -> Result<Self, ParseCountryError> {
        let code = || text.to_owned();
        match TABLE.meaning(text) {
            Some(Meaning::Country(country)) => Ok(country),
            Some(Meaning::Retired(note)) => Err(ParseCountryError::Retired { code: code(), note }),
            Some(Meaning::Reserved(note) | Meaning::Unknown(note)) => {
                Err(ParseCountryError::Reserved { code: code(), note })
            }
            None if text.is_empty() => Err(ParseCountryError::Empty),
            None if place(text).is_some() => Err(ParseCountryError::Unassigned(code())),
            None if text.is_ascii() && place(&text.to_ascii_uppercase()).is_some() => {
                Err(ParseCountryError::LowerCase(code()))
            }
            None => Err(ParseCountryError::NotTwoLetters(code())),
        }
    }
}

/// Where a viewer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Viewer {
    /// In this country.
    In(CountryCode),
    /// Nobody knows. Never read as everywhere.
    Unknown,
}

impl Viewer {
    /// How many kinds of viewers there are.
    pub const KINDS: usize = 256;

    /// Which of them: 0 if nobody knows.
    #[must_use]
    pub const fn kind(self) -> usize {
        match self {
            Self::Unknown => 0,
            Self::In(CountryCode(number)) => number as usize + 1,
        }
    }

    /// All of them, the unknown one first.
    pub fn all() -> impl Iterator<Item = Self> {
        std::iter::once(Self::Unknown).chain(CountryCode::all().map(Self::In))
    }
}

impl fmt::Display for Viewer {
    /// The country's code, or `XX`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::In(country) => country.as_str(),
            Self::Unknown => "XX",
        })
    }
}

impl FromStr for Viewer {
    type Err = ParseCountryError;

    /// Empty, `XX`, `ZZ` and `T1` mean unknown.
    fn from_str(text: &str) -> Result<Self, ParseCountryError> {
        match TABLE.meaning(text) {
            Some(Meaning::Country(country)) => Ok(Self::In(country)),
            Some(Meaning::Unknown(_)) => Ok(Self::Unknown),
            _ if text.is_empty() || text == "T1" => Ok(Self::Unknown),
            _ => CountryCode::from_str(text).map(Self::In),
        }
    }
}

/// What a viewer of unknown country sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownViewerPolicy {
    /// Everything but what is withheld worldwide.
    #[default]
    WorldwideOnly,
    /// Nothing that is withheld anywhere.
    Strict,
}

/// A set of countries, or everywhere, in 256 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CountrySet([u64; 4]);

impl CountrySet {
    /// Nowhere.
    pub const EMPTY: Self = Self([0; 4]);
    /// Everywhere.
    pub const EVERYWHERE: Self = Self([0, 0, 0, 1 << 63]);

    /// Adds a country.
    pub fn insert(&mut self, country: CountryCode) {
        if let Some(word) = self.0.get_mut(usize::from(country.0 >> 6)) {
            *word |= 1 << (country.0 & 63);
        }
    }

    fn names(&self, number: u8) -> bool {
        self.0.get(usize::from(number >> 6)).is_some_and(|word| (word >> (number & 63)) & 1 == 1)
    }

    /// Whether it holds in a country, by name or by being everywhere.
    #[must_use]
    #[inline]
    pub fn contains(&self, country: CountryCode) -> bool {
        self.names(country.0) || self.is_everywhere()
    }

    /// Whether it is everywhere.
    #[must_use]
    #[inline]
    pub fn is_everywhere(&self) -> bool {
        self.names(WORLDWIDE)
    }

    /// Whether it is nowhere.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    /// What either holds.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        Self([a | e, b | f, c | g, d | h])
    }

    /// What this names and the other does not cover.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        if other.is_everywhere() {
            return Self::EMPTY;
        }
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        Self([a & !e, b & !f, c & !g, d & !h])
    }

    /// Whether something withheld here is withheld for this viewer.
    #[must_use]
    #[inline]
    pub fn withheld_for(&self, viewer: Viewer, policy: UnknownViewerPolicy) -> bool {
        match (viewer, policy) {
            (Viewer::In(country), _) => self.contains(country),
            (Viewer::Unknown, UnknownViewerPolicy::WorldwideOnly) => self.is_everywhere(),
            (Viewer::Unknown, UnknownViewerPolicy::Strict) => !self.is_empty(),
        }
    }

    /// The countries it names, by code.
    pub fn iter(&self) -> impl Iterator<Item = CountryCode> + '_ {
        let of_word = |(at, word): (u8, &u64)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros() as u8;
                rest &= rest.checked_sub(1)?;
                Some(CountryCode(at << 6 | bit))
            })
        };
        (0..).zip(&self.0).flat_map(of_word).filter(|country| country.0 != WORLDWIDE)
    }

    /// The codes it names, sorted; `XX` stands for everywhere.
    #[must_use]
    pub fn codes(&self) -> Vec<&'static str> {
        let mut codes: Vec<_> = self.iter().map(CountryCode::as_str).collect();
        if self.is_everywhere() {
            codes.push("XX");
            codes.sort_unstable();
        }
        codes
    }
}

impl FromIterator<CountryCode> for CountrySet {
    fn from_iter<I: IntoIterator<Item = CountryCode>>(countries: I) -> Self {
        countries.into_iter().fold(Self::EMPTY, |mut set, country| {
            set.insert(country);
            set
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_file_is_understood() {
        let rows = DATA.lines().count() - 1;
        // `T1` has a digit, so it has no place among pairs of letters.
        assert_eq!(TABLE.meanings.iter().flatten().count(), rows - 1);
        assert_eq!(CountryCode::all().count(), 250);
        assert!(CountryCode::all().all(|c| !c.name().is_empty() && c.as_str().parse() == Ok(c)));
    }

    #[test]
    fn aliases_are_read_and_everything_else_is_refused_by_name() {
        let code = |text: &str| text.parse::<CountryCode>();
        assert_eq!(code("UK"), code("GB"));
        assert_eq!(code("EL"), code("GR"));
        assert!(code("XK").is_ok());
        for (text, says) in [
            ("", "missing"),
            ("in", "write `IN` for `in`"),
            ("IND", "`IND` is not a country code"),
            (" IN", "` IN` is not a country code"),
            ("QQ", "`QQ` is not assigned"),
            ("AN", "`AN` is retired: dissolved in 2010"),
            ("EU", "a group and not a country"),
            ("XX", "worldwide withholdings are named by their own field"),
        ] {
            let error = code(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn an_unknown_viewer_is_never_everywhere() {
        for text in ["", "XX", "T1", "ZZ"] {
            assert_eq!(text.parse(), Ok(Viewer::Unknown), "{text}");
        }
        for text in ["in", "EU", "AN", "QQ", "t1", "A1", " "] {
            assert!(text.parse::<Viewer>().is_err(), "{text}");
        }
        let india: CountrySet = std::iter::once("IN".parse().unwrap()).collect();
        let (loose, strict) = (UnknownViewerPolicy::WorldwideOnly, UnknownViewerPolicy::Strict);
        for (set, viewer, policy, withheld) in [
            (india, Viewer::Unknown, loose, false),
            (india, Viewer::Unknown, strict, true),
            (CountrySet::EMPTY, Viewer::Unknown, strict, false),
            (CountrySet::EVERYWHERE, Viewer::Unknown, loose, true),
            (CountrySet::EVERYWHERE, Viewer::In("US".parse().unwrap()), loose, true),
            (india, Viewer::In("US".parse().unwrap()), strict, false),
            (india, Viewer::In("IN".parse().unwrap()), loose, true),
        ] {
            assert_eq!(set.withheld_for(viewer, policy), withheld, "{set:?} {viewer:?} {policy:?}");
        }
    }

    #[test]
    fn everywhere_covers_and_keeps_the_countries_it_is_joined_with() {
        let india: CountrySet = std::iter::once("IN".parse().unwrap()).collect();
        let both = india.union(CountrySet::EVERYWHERE);
        assert_eq!(both.codes(), ["IN", "XX"]);
        assert!(india.minus(CountrySet::EVERYWHERE).is_empty());
        assert_eq!(CountrySet::EVERYWHERE.minus(india).codes(), ["XX"]);
    }
}
