//! The data that decisions rest on beside the state: regimes, country groups, which links are ours, and
//! what takes two people.
//!
//! A decision rests on one version of them. What it took from them is recorded in its event, so that a later version of
//! the data changes nothing already decided.

use super::locator::Links;
use super::policy::Policy;
use super::regime::Regimes;
use super::territory::Groups;

/// The data files, parsed.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Legal frames and their defaults.
    pub regimes: Regimes,
    /// Named groups of countries.
    pub groups: Groups,
    /// Which links name an account or a post of this platform.
    pub links: Links,
    /// What takes a second person.
    pub policy: Policy,
}

impl Rules {
    /// The data that comes with the program.
    #[must_use]
    pub fn builtin() -> Self {
        Self {
            regimes: Regimes::builtin(),
            groups: Groups::builtin(),
            links: Links::builtin(),
            policy: Policy::builtin(),
        }
    }
}
