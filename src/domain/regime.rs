//! Legal frames, as data: the deadlines and the confidentiality an order has unless it says otherwise. Never code.

use std::collections::HashSet;
use std::fmt;

use jiff::SignedDuration;
use serde::Deserialize;

use super::territory::DataError;

/// Who may know of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidentiality {
    /// Anybody.
    Public,
    /// The people affected must not be told.
    NoticeProhibited,
    /// Its existence is secret.
    Sealed,
}

impl Confidentiality {
    /// The word for it in files and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::NoticeProhibited => "notice_prohibited",
            Self::Sealed => "sealed",
        }
    }
}

impl fmt::Display for Confidentiality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One legal frame.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Regime {
    /// Its name in orders.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// How long after receipt effect must be given.
    #[serde(default)]
    pub comply_within: Option<SignedDuration>,
    /// How long after receipt it must be reviewed.
    #[serde(default)]
    pub review_within: Option<SignedDuration>,
    /// Who may know of an order under it.
    pub confidentiality: Confidentiality,
    /// The source of the rule.
    pub source: String,
}

/// No such regime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no regime `{regime}`; there are: {known}")]
pub struct UnknownRegime {
    /// The name given.
    pub regime: String,
    /// Those there are.
    pub known: String,
}

/// The regimes that an order may name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Regimes(Vec<Regime>);

impl Regimes {
    /// From the text of a file like `data/regimes.toml`.
    ///
    /// # Errors
    /// If it is not such a file, naming what is wrong.
    pub fn parse(text: &str) -> Result<Self, DataError> {
        #[derive(Deserialize)]
        struct File {
            regime: Vec<Regime>,
        }
        let bad = |why: String| DataError { what: "regimes", why };
        let file: File = toml::from_str(text).map_err(|e| bad(e.to_string()))?;
        let mut names = HashSet::new();
        for regime in &file.regime {
            if !names.insert(&regime.id) {
                return Err(bad(format!("there are two regimes `{}`", regime.id)));
            }
            if [regime.comply_within, regime.review_within].iter().flatten().any(SignedDuration::is_negative) {
                return Err(bad(format!(
                    "a time of regime `{}` is negative: nothing is due before receipt",
                    regime.id
                )));
            }
        }
        Ok(Self(file.regime))
    }

    /// The file that comes with the program; a test holds it to being right.
    #[must_use]
    pub fn builtin() -> Self {
        Self::parse(include_str!("../../data/regimes.toml")).unwrap_or_default()
    }

    /// A regime by its name.
    ///
    /// # Errors
    /// If there is none of that name; the error lists those there are.
    pub fn get(&self, id: &str) -> Result<&Regime, UnknownRegime> {
        self.0.iter().find(|regime| regime.id == id).ok_or_else(|| UnknownRegime {
            regime: id.to_owned(),
            known: self.0.iter().map(|r| r.id.as_str()).collect::<Vec<_>>().join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_regimes_are_whole() {
        let regimes = Regimes::parse(include_str!("../../data/regimes.toml")).unwrap();
        let emergency = regimes.get("in-69a-emergency").unwrap();
        assert_eq!(emergency.review_within, Some(SignedDuration::from_hours(48)));
        assert_eq!(emergency.comply_within, None);
        assert_eq!(emergency.confidentiality, Confidentiality::Sealed);
        assert_eq!(regimes.get("in-it-rules-3-1-d").unwrap().comply_within, Some(SignedDuration::from_hours(3)));
        assert!(regimes.get("69a").unwrap_err().to_string().contains("in-69a-emergency"));
    }

    #[test]
    fn a_file_that_says_two_things_of_a_regime_or_what_cannot_be_is_refused() {
        let regime = |id: &str, within: &str| {
            format!("[[regime]]\nid='{id}'\nname='n'\nconfidentiality='public'\nsource='s'\ncomply_within='{within}'\n")
        };
        assert!(Regimes::parse(&(regime("a", "1h") + &regime("b", "2h"))).is_ok());
        let why = |text: String| Regimes::parse(&text).unwrap_err().to_string();
        assert!(why(regime("a", "1h") + &regime("a", "2h")).contains("two regimes `a`"));
        assert!(why(regime("a", "-1h")).contains("regime `a` is negative"));
    }
}
