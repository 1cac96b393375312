//! Countries, sets of them, and where a viewer is.
//!
//! Codes are ISO 3166-1 alpha-2 in upper case, from `data/countries.csv`. Nothing is guessed: a code that is unassigned,
//! retired, reserved or a group is refused by name.
//!
//! **Writes-are-readable**: that table says what may be asked and ordered today, and never what has been ordered. A code
//! is two letters, whatever the table says of them: an order that names one holds there after the table has retired it, and
//! where a newer program's table has assigned it.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

const DATA: &str = include_str!("../../data/countries.csv");
const LETTERS: usize = 26;
/// Pairs of letters.
const PAIRS: usize = LETTERS * LETTERS;
/// Words of a [`CountrySet`]: a bit for each pair of letters, and one for everywhere.
const WORDS: usize = (PAIRS + 1).div_ceil(64);

/// A country's code: two letters, as the place of their pair among all pairs in alphabetical order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CountryCode(u16);

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
    /// With its English short name.
    Assigned(&'static str),
    Alias(CountryCode),
    Unknown(&'static str),
    Retired(&'static str),
    Reserved(&'static str),
}

/// What each pair of letters means.
struct Table(Vec<Option<Meaning>>);

static TABLE: LazyLock<Table> = LazyLock::new(Table::parse);

/// All pairs of letters, in alphabetical order.
static CODES: LazyLock<Vec<String>> =
    LazyLock::new(|| ('A'..='Z').flat_map(|a| ('A'..='Z').map(move |b| format!("{a}{b}"))).collect());

/// The letters of a text that is two of them, as a code; whatever the table says of it.
fn pair(text: &str) -> Option<CountryCode> {
    match text.as_bytes() {
        [a @ b'A'..=b'Z', b @ b'A'..=b'Z'] => {
            Some(CountryCode(u16::from(a - b'A') * LETTERS as u16 + u16::from(b - b'A')))
        }
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
        let mut meanings = vec![None; PAIRS];
        for (code, status, name, note) in rows {
            let meaning = match status {
                "assigned" => Some(Meaning::Assigned(name)),
                "alias" => pair(note).map(Meaning::Alias),
                "retired" => Some(Meaning::Retired(note)),
                "reserved" => Some(Meaning::Reserved(note)),
                "unknown_viewer" => Some(Meaning::Unknown(note)),
                _ => None,
            };
            if let Some(slot) = pair(code).and_then(|code| meanings.get_mut(code.place())) {
                *slot = meaning;
            }
        }
        Self(meanings)
    }

    fn meaning(&self, code: CountryCode) -> Option<Meaning> {
        self.0.get(code.place()).copied().flatten()
    }
}

impl CountryCode {
    fn place(self) -> usize {
        self.0.into()
    }

    /// A code as an order of the past has it: any two letters, but for those that only ever stood for another code, or for
    /// no country at all.
    #[must_use]
    pub fn recorded(text: &str) -> Option<Self> {
        let code = pair(text)?;
        match TABLE.meaning(code) {
            Some(Meaning::Alias(_) | Meaning::Unknown(_)) => None,
            Some(Meaning::Assigned(_) | Meaning::Retired(_) | Meaning::Reserved(_)) | None => Some(code),
        }
    }

    /// The two letters.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        CODES.get(self.place()).map_or("", String::as_str)
    }

    /// The English short name; the code where today's table has none.
    #[must_use]
    pub fn name(self) -> &'static str {
        match TABLE.meaning(self) {
            Some(Meaning::Assigned(name)) => name,
            Some(Meaning::Alias(_) | Meaning::Unknown(_) | Meaning::Retired(_) | Meaning::Reserved(_)) | None => {
                self.as_str()
            }
        }
    }

    /// All countries of today's table, by code.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..PAIRS as u16).map(Self).filter(|code| matches!(TABLE.meaning(*code), Some(Meaning::Assigned(_))))
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
        let Some(country) = pair(text) else {
            return Err(match text {
                "" => ParseCountryError::Empty,
                _ if pair(&text.to_ascii_uppercase()).is_some() => ParseCountryError::LowerCase(code()),
                _ => ParseCountryError::NotTwoLetters(code()),
            });
        };
        match TABLE.meaning(country) {
            Some(Meaning::Assigned(_)) => Ok(country),
            Some(Meaning::Alias(country)) => Ok(country),
            Some(Meaning::Retired(note)) => Err(ParseCountryError::Retired { code: code(), note }),
            Some(Meaning::Reserved(note) | Meaning::Unknown(note)) => {
                Err(ParseCountryError::Reserved { code: code(), note })
            }
            None => Err(ParseCountryError::Unassigned(code())),
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
    pub const KINDS: usize = PAIRS + 1;

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
        std::iter::once(Self::Unknown).chain((0..PAIRS as u16).map(CountryCode).map(Self::In))
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
        match pair(text).map(|code| TABLE.meaning(code)) {
            Some(Some(Meaning::Unknown(_))) => Ok(Self::Unknown),
            None if text.is_empty() || text == "T1" => Ok(Self::Unknown),
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

/// A set of countries, or everywhere: a bit for everywhere, then one for each pair of letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CountrySet([u64; WORDS]);

impl CountrySet {
    /// Nowhere.
    pub const EMPTY: Self = Self([0; WORDS]);
    /// Everywhere.
    pub const EVERYWHERE: Self = {
        let mut words = [0; WORDS];
        words[0] = 1;
        Self(words)
    };

    /// Adds a country.
    pub fn insert(&mut self, country: CountryCode) {
        let (word, bit) = bit(country);
        if let Some(word) = self.0.get_mut(word) {
            *word |= bit;
        }
    }

    /// Whether it holds in a country, by name or by being everywhere.
    #[must_use]
    #[inline]
    pub fn contains(&self, country: CountryCode) -> bool {
        self.names(country) || self.is_everywhere()
    }

    /// Whether it names a country; everywhere names none.
    #[must_use]
    #[inline]
    pub fn names(&self, country: CountryCode) -> bool {
        let (word, bit) = bit(country);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Whether it is everywhere.
    #[must_use]
    #[inline]
    pub const fn is_everywhere(&self) -> bool {
        let [first, ..] = self.0;
        first & 1 == 1
    }

    /// Whether it is nowhere.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    /// What either holds.
    #[must_use]
    pub fn union(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word |= other);
        self
    }

    /// What this names and the other does not cover.
    #[must_use]
    pub fn minus(mut self, other: Self) -> Self {
        if other.is_everywhere() {
            return Self::EMPTY;
        }
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= !other);
        self
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
        let of_word = |(at, word): (u16, &u64)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros() as u16;
                rest &= rest.checked_sub(1)?;
                Some(at * 64 + bit)
            })
        };
        // The first bit stands for everywhere.
        (0..).zip(&self.0).flat_map(of_word).filter_map(|bit| bit.checked_sub(1)).map(CountryCode)
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

/// Where a country's bit is in a set.
#[inline]
const fn bit(country: CountryCode) -> (usize, u64) {
    let number = country.0 as usize + 1;
    (number / 64, 1 << (number % 64))
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
        assert_eq!(TABLE.0.iter().flatten().count(), rows - 1);
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
    fn a_set_has_a_place_for_every_pair_of_letters_and_one_for_everywhere() {
        let pairs: Vec<_> = (0..PAIRS as u16).map(CountryCode).collect();
        let texts: Vec<_> = pairs.iter().map(|code| code.as_str()).collect();
        assert_eq!((texts.len(), texts[0], texts[1], texts[675]), (676, "AA", "AB", "ZZ"));
        assert!(pairs.iter().zip(&texts).all(|(code, text)| pair(text) == Some(*code)));
        let all: CountrySet = pairs.iter().copied().collect();
        assert!(all.iter().eq(pairs.iter().copied()) && !all.is_everywhere());
        assert_eq!(all.minus(all), CountrySet::EMPTY);
        for code in &pairs {
            let one: CountrySet = std::iter::once(*code).collect();
            assert_eq!(one.iter().collect::<Vec<_>>(), [*code]);
            assert_eq!(pairs.iter().filter(|other| one.contains(**other)).count(), 1);
            assert!(CountrySet::EVERYWHERE.contains(*code) && !CountrySet::EVERYWHERE.names(*code));
        }
        let kinds: std::collections::BTreeSet<_> = Viewer::all().map(Viewer::kind).collect();
        assert!(kinds.len() == Viewer::KINDS && kinds.last() < Some(&Viewer::KINDS));
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
