//! When a change takes a second person, as data. Never code.
//!
//! The desk asks this once, when something is proposed; what it said is recorded in the entry. Folding never asks it, so
//! that replicas with different files, and files that change, still agree on the state.

use jiff::SignedDuration;
use serde::Deserialize;

use super::approval::Ground;
use super::effect::Effect;
use super::item::{Disposition, Items, subject_of};
use super::spec::OrderSpec;
use super::territory::DataError;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// How long a proposal waits before it lapses.
    pub expires_after: SignedDuration,
    /// When applying an order takes two.
    pub applying: Applying,
    /// When lifting takes two.
    pub lifting: Lifting,
    /// How much there may be.
    #[serde(default)]
    pub limits: Limits,
}

/// How much somebody may have the desk hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The most items of an order.
    pub items: u64,
    /// The most staged lists of one person that no order has used.
    pub staged_lists: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { items: 5_000_000, staged_lists: 100 }
    }
}

/// When applying an order takes two.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Applying {
    /// If it holds worldwide.
    pub worldwide: bool,
    /// If it names more accounts and posts; `None`: however many.
    #[serde(default)]
    pub names_more_than: Option<u64>,
    /// If more accounts and posts would go dark somewhere; `None`: however many.
    #[serde(default)]
    pub withholds_more_than: Option<u64>,
}

/// When lifting takes two.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lifting {
    /// An order as a whole.
    pub orders: bool,
    /// Items of one.
    pub items: bool,
}

/// The strictest one: everything takes two.
impl Default for Policy {
    fn default() -> Self {
        Self {
            expires_after: SignedDuration::from_hours(24),
            applying: Applying { worldwide: true, names_more_than: Some(0), withholds_more_than: Some(0) },
            lifting: Lifting { orders: true, items: true },
            limits: Limits::default(),
        }
    }
}

impl Policy {
    /// From the text of a file like `data/policy.toml`.
    ///
    /// # Errors
    /// If it is not such a file, naming what is wrong.
    pub fn parse(text: &str) -> Result<Self, DataError> {
        let bad = |why: String| DataError { what: "policy", why };
        let policy: Self = toml::from_str(text).map_err(|e| bad(e.to_string()))?;
        if !policy.expires_after.is_positive() {
            return Err(bad(format!(
                "expires_after = `{}` is no time at all: write it like 24h",
                policy.expires_after
            )));
        }
        Ok(policy)
    }

    /// The file that comes with the program; a test holds it to being right.
    #[must_use]
    pub fn builtin() -> Self {
        Self::parse(include_str!("../../data/policy.toml")).unwrap_or_default()
    }

    /// Why applying an order takes two; nothing if it does not.
    #[must_use]
    pub fn grounds_for_applying(
        &self,
        spec: &OrderSpec,
        items: &Items,
        dispositions: &[Disposition],
        effect: &Effect,
    ) -> Vec<Ground> {
        // What is declined as a whole changes nothing for anybody, whatever it names.
        if !dispositions.iter().any(|done| done.takes_effect()) {
            return Vec::new();
        }
        let more = |count: u64, than: Option<u64>| than.is_some_and(|than| count > than);
        let named = items
            .resolutions()
            .zip(dispositions)
            .filter(|(resolution, done)| **done != Disposition::Duplicate && subject_of(*resolution).is_some());
        let found = [
            (Ground::Worldwide, self.applying.worldwide && spec.territory.countries().is_everywhere()),
            (Ground::ProtectedOverride, dispositions.contains(&Disposition::WithheldByOverride)),
            (Ground::ManyNamed, more(named.count() as u64, self.applying.names_more_than)),
            (
                Ground::ManyWithheld,
                more(effect.changed.accounts + effect.changed.posts, self.applying.withholds_more_than),
            ),
        ];
        found.into_iter().filter(|(_, holds)| *holds).map(|(ground, _)| ground).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policies_that_come_along_are_whole() {
        let policy = Policy::parse(include_str!("../../data/policy.toml")).unwrap();
        assert_eq!(policy, Policy::builtin());
        assert_eq!(policy.expires_after, SignedDuration::from_hours(24));
        assert_eq!((policy.applying.names_more_than, policy.applying.withholds_more_than), (Some(1_000), Some(500)));
        assert_eq!(policy.lifting, Lifting { orders: false, items: false });
        let alone = Policy::parse(include_str!("../../data/policy-one-person.toml")).unwrap();
        assert_eq!(alone.applying, Applying { worldwide: false, names_more_than: None, withholds_more_than: None });
    }

    #[test]
    fn mistakes_in_a_policy_are_named() {
        let text = include_str!("../../data/policy.toml");
        for (from, to, says) in [
            ("worldwide = true", "worldwide = 1", "expected a boolean"),
            ("names_more_than", "names_more", "names_more"),
            ("orders = false", "", "orders"),
            ("\"24h\"", "\"0s\"", "no time at all"),
            ("\"24h\"", "\"-1h\"", "no time at all"),
            ("\"24h\"", "\"soon\"", "expires_after"),
        ] {
            let changed = text.replace(from, to);
            assert_ne!(changed, text, "{from}");
            let error = Policy::parse(&changed).unwrap_err().to_string();
            assert!(error.contains("policy") && error.contains(says), "{error}");
        }
    }
}
