//! Where an order holds. It always says so itself: an empty territory is refused, and never means everywhere.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;

use super::country::{CountryCode, CountrySet};

/// A data file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the data file of {what} cannot be used: {why}")]
pub struct DataError {
    pub(crate) what: &'static str,
    pub(crate) why: String,
}

/// A named group of countries, at a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name in orders.
    pub code: Arc<str>,
    /// Since when it has had these members.
    pub version: Arc<str>,
    /// The members.
    pub countries: CountrySet,
}

/// The groups that an order may name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups(Vec<Group>);

impl Groups {
    /// From the text of a file like `data/groups.toml`.
    ///
    /// # Errors
    /// If it is not such a file, naming what is wrong.
    pub fn parse(text: &str) -> Result<Self, DataError> {
        #[derive(Deserialize)]
        struct Row {
            code: String,
            version: String,
            countries: Vec<String>,
        }
        #[derive(Deserialize)]
        struct File {
            group: Vec<Row>,
        }
        let bad = |why: String| DataError { what: "country groups", why };
        let file: File = toml::from_str(text).map_err(|e| bad(e.to_string()))?;
        // **Writes-are-readable**: an order that names a group records both.
        for (row, place) in file.group.iter().zip(1..) {
            for (what, text) in [("code", &row.code), ("version", &row.version)] {
                if text.trim().is_empty() {
                    return Err(bad(format!(
                        "the {what} of group `{}`, number {place}, is empty: write one",
                        row.code
                    )));
                }
            }
        }
        let group = |row: Row| {
            let countries: Result<CountrySet, _> = row.countries.iter().map(|c| c.parse::<CountryCode>()).collect();
            let countries = countries.map_err(|e| bad(format!("group `{}`: {e}", row.code)))?;
            if countries.is_empty() {
                return Err(bad(format!("group `{}` has no countries", row.code)));
            }
            Ok(Group { code: row.code.into(), version: row.version.into(), countries })
        };
        let groups: Vec<Group> = file.group.into_iter().map(group).collect::<Result<_, _>>()?;
        let mut names = HashSet::new();
        match groups.iter().find(|group| !names.insert(&group.code)) {
            Some(group) => Err(bad(format!("there are two groups `{}`", group.code))),
            None => Ok(Self(groups)),
        }
    }

    /// The file that comes with the program; a test holds it to being right.
    #[must_use]
    pub fn builtin() -> Self {
        Self::parse(include_str!("../../data/groups.toml")).unwrap_or_default()
    }

    /// A group by its name.
    #[must_use]
    pub fn get(&self, code: &str) -> Option<&Group> {
        self.0.iter().find(|group| &*group.code == code)
    }

    /// All names, as a list for people.
    #[must_use]
    pub fn known(&self) -> String {
        self.0.iter().map(|g| &*g.code).collect::<Vec<_>>().join(", ")
    }
}

/// A territory that cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TerritoryError {
    /// It names nothing.
    #[error("the territory names no country: name at least one; everywhere is said with `worldwide`")]
    Empty,
    /// No such group.
    #[error("there is no group `{group}`; there are: {known}")]
    UnknownGroup {
        /// The name given.
        group: String,
        /// Those there are.
        known: String,
    },
}

/// A territory as an order states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TerritorySpec {
    /// These countries.
    Countries(Vec<CountryCode>),
    /// The members of a group.
    Group(String),
    /// Everywhere.
    Worldwide,
}

impl TerritorySpec {
    /// The countries it means now.
    ///
    /// # Errors
    /// If it names none, or a group there is not.
    pub fn expand(&self, groups: &Groups) -> Result<Territory, TerritoryError> {
        match self {
            Self::Countries(codes) if codes.is_empty() => Err(TerritoryError::Empty),
            Self::Countries(codes) => Ok(Territory::Countries(codes.iter().copied().collect())),
            Self::Group(name) => groups
                .get(name)
                .map(|g| Territory::Group {
                    code: Arc::clone(&g.code),
                    version: Arc::clone(&g.version),
                    countries: g.countries,
                })
                .ok_or_else(|| TerritoryError::UnknownGroup { group: name.clone(), known: groups.known() }),
            Self::Worldwide => Ok(Territory::Worldwide),
        }
    }
}

/// A territory as an order records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Territory {
    /// These countries; never none.
    Countries(CountrySet),
    /// The members that a group had.
    Group {
        /// Its name.
        code: Arc<str>,
        /// The version of its list.
        version: Arc<str>,
        /// The members; never none.
        countries: CountrySet,
    },
    /// Everywhere.
    Worldwide,
}

impl Territory {
    /// Where it holds.
    #[must_use]
    pub const fn countries(&self) -> CountrySet {
        match self {
            Self::Countries(countries) | Self::Group { countries, .. } => *countries,
            Self::Worldwide => CountrySet::EVERYWHERE,
        }
    }
}

impl fmt::Display for Territory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Countries(countries) => f.write_str(&countries.codes().join(", ")),
            Self::Group { code, version, countries } => {
                write!(f, "{code} ({} countries, version {version})", countries.codes().len())
            }
            Self::Worldwide => f.write_str("worldwide"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_groups_are_whole() {
        let groups = Groups::parse(include_str!("../../data/groups.toml")).unwrap();
        let (eu, eea) = (groups.get("EU").unwrap().countries, groups.get("EEA").unwrap().countries);
        assert_eq!((eu.codes().len(), eea.codes().len()), (27, 30));
        assert_eq!(eea.minus(eu).codes(), ["IS", "LI", "NO"]);
        assert!(!eu.codes().contains(&"GB"));
    }

    #[test]
    fn a_group_has_one_list() {
        let twice =
            ["DE", "FR"].map(|code| format!("[[group]]\ncode='X'\nversion='1'\ncountries=['{code}']\n")).concat();
        assert!(Groups::parse(&twice).unwrap_err().to_string().contains("two groups `X`"));
    }

    #[test]
    fn a_group_has_a_code_and_a_version_to_be_recorded_by() {
        let group = |code: &str, version: &str| {
            let first = "[[group]]\ncode='X'\nversion='1'\ncountries=['DE']\n";
            Groups::parse(&format!("{first}[[group]]\ncode='{code}'\nversion='{version}'\ncountries=['DE']\n"))
        };
        assert!(group("Y", "1").is_ok());
        for (code, version, says) in [
            ("", "1", "the code of group ``, number 2, is empty"),
            ("  ", "1", "the code of group `  `, number 2, is empty"),
            ("Y", "", "the version of group `Y`, number 2, is empty"),
            ("Y", " ", "the version of group `Y`, number 2, is empty"),
        ] {
            let error = group(code, version).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn an_empty_territory_never_means_everywhere() {
        let groups = Groups::builtin();
        assert_eq!(TerritorySpec::Countries(vec![]).expand(&groups), Err(TerritoryError::Empty));
        let error = TerritorySpec::Group("NATO".into()).expand(&groups).unwrap_err().to_string();
        assert_eq!(error, "there is no group `NATO`; there are: EU, EEA");
    }
}
