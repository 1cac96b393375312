//! The access file: who there is, by what each is known, and what each may do.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::jwt::{JwtError, JwtRules};
use super::roles::{Role, Roles};
use super::tokens::TokenError;
use crate::rate::Rate;

/// Why it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Not to be read.
    #[error("the access file `{path}` cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML, or not of this kind.
    #[error("the access file `{path}` makes no sense")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// The same name or credential twice: it could not be told who is meant.
    #[error("the access file `{path}` has {what} `{value}` twice")]
    Twice {
        /// The file.
        path: PathBuf,
        /// Of what.
        what: &'static str,
        /// What.
        value: String,
    },
    /// A name that the record could not keep.
    #[error("the access file `{path}` has {what} `{value}`: write 1 to 256 bytes, and not only spaces")]
    Name {
        /// The file.
        path: PathBuf,
        /// Of what.
        what: &'static str,
        /// The name.
        value: String,
    },
    /// A credential that could be anybody's who shows none.
    #[error(
        "the access file `{path}` gives `{name}` {what} `{value}`, which says nothing: leave it out, or write what it is"
    )]
    Blank {
        /// The file.
        path: PathBuf,
        /// Whose.
        name: String,
        /// Of what.
        what: &'static str,
        /// What is written.
        value: String,
    },
    /// The record would not say who did it.
    #[error("the access file `{path}` lets anybody be {roles}: `anonymous` can be [\"reader\"] at most")]
    Anonymous {
        /// The file.
        path: PathBuf,
        /// What it says.
        roles: Roles,
    },
    /// The tokens cannot be used.
    #[error(transparent)]
    Tokens(TokenError),
    /// The keys cannot be used.
    #[error(transparent)]
    Jwt(JwtError),
}

/// Somebody, or a program.
#[derive(Debug, Clone)]
pub struct Person {
    /// As the record has it.
    pub name: Arc<str>,
    person: Arc<str>,
    /// What it may do.
    pub roles: Roles,
    /// How often it may call.
    pub rate: Option<Arc<Rate>>,
}

impl Person {
    /// Who is behind it: those with one of these are one person, whatever their names.
    #[must_use]
    pub const fn person(&self) -> &Arc<str> {
        &self.person
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    anonymous: Vec<Role>,
    tokens: Option<PathBuf>,
    jwt: Option<JwtRules>,
    #[serde(default, rename = "identity")]
    identities: Vec<WrittenIdentity>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenIdentity {
    name: String,
    person: Option<String>,
    roles: Vec<Role>,
    #[serde(default)]
    certificates: Vec<String>,
    #[serde(default)]
    subjects: Vec<String>,
    calls_per_second: Option<NonZeroU32>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct AccessFile {
    anonymous: Roles,
    tokens: Option<PathBuf>,
    jwt: Option<JwtRules>,
    people: Vec<Person>,
    by_name: HashMap<String, usize>,
    by_certificate: HashMap<String, usize>,
    by_subject: HashMap<String, usize>,
}

impl AccessFile {
    /// Reads it. Files that it names are beside it, unless they are named from the root.
    ///
    /// # Errors
    /// If it cannot be read, or makes no sense.
    pub fn read(path: &Path) -> Result<Self, AccessError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| AccessError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// See [`super::Access::keep_rates_of`].
    pub(super) fn keep_rates_of(&mut self, old: &Self) {
        for person in &mut self.people {
            let before = old.by_name(&person.name).and_then(|before| before.rate.as_ref());
            if let (Some(rate), Some(before)) = (&mut person.rate, before)
                && rate.a_second() == before.a_second()
            {
                *rate = Arc::clone(before);
            }
        }
    }

    /// The same of a text; the path is for errors and for the files that it names.
    ///
    /// # Errors
    /// If it makes no sense.
    pub fn parse(text: &str, path: &Path) -> Result<Self, AccessError> {
        let written: Written = toml::from_str(text)
            .map_err(|source| AccessError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        let anonymous = Roles::of(&written.anonymous);
        if anonymous != Roles::NONE && anonymous != Roles::of(&[Role::Reader]) {
            return Err(AccessError::Anonymous { path: path.to_owned(), roles: anonymous });
        }
        let beside = |file: PathBuf| path.parent().map_or_else(|| file.clone(), |parent| parent.join(&file));
        let mut file = Self {
            anonymous,
            tokens: written.tokens.map(beside),
            jwt: written.jwt.map(|jwt| JwtRules { jwks: beside(jwt.jwks.clone()), ..jwt }),
            ..Self::default()
        };
        for (at, identity) in written.identities.into_iter().enumerate() {
            let WrittenIdentity { name, person, roles, certificates, subjects, calls_per_second } = identity;
            // **Writes-are-readable**: both are in every entry that is written for them.
            for (what, value) in [("the name", Some(&name)), ("the person", person.as_ref())] {
                if let Some(value) = value.filter(|value| value.trim().is_empty() || value.len() > 256) {
                    return Err(AccessError::Name { path: path.to_owned(), what, value: value.clone() });
                }
            }
            let certificate = certificates.iter().map(|value| ("the certificate", value));
            let all = certificate.chain(subjects.iter().map(|value| ("the subject", value)));
            if let Some((what, value)) = all.into_iter().find(|(_, value)| value.trim().is_empty()) {
                return Err(AccessError::Blank { path: path.to_owned(), name, what, value: value.clone() });
            }
            let mut once = |map: fn(&mut Self) -> &mut HashMap<String, usize>, what, value: String| match map(&mut file)
                .insert(value.clone(), at)
            {
                None => Ok(()),
                Some(_) => Err(AccessError::Twice { path: path.to_owned(), what, value }),
            };
            once(|file| &mut file.by_name, "the name", name.clone())?;
            for certificate in certificates {
                once(|file| &mut file.by_certificate, "the certificate", certificate)?;
            }
            for subject in subjects {
                once(|file| &mut file.by_subject, "the subject", subject)?;
            }
            let person = person.unwrap_or_else(|| name.clone()).into();
            let rate = calls_per_second.map(|calls| Arc::new(Rate::new(calls.get())));
            file.people.push(Person { name: name.into(), person, roles: Roles::of(&roles), rate });
        }
        Ok(file)
    }

    /// What somebody may do of whom nothing is known.
    #[must_use]
    pub const fn anonymous(&self) -> Roles {
        self.anonymous
    }

    /// Where tokens are.
    #[must_use]
    pub fn tokens_file(&self) -> Option<&Path> {
        self.tokens.as_deref()
    }

    /// Which JWTs hold.
    #[must_use]
    pub const fn jwt(&self) -> Option<&JwtRules> {
        self.jwt.as_ref()
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.people.iter().map(|person| &*person.name)
    }

    /// Somebody by name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Person> {
        self.by_name.get(name).and_then(|at| self.people.get(*at))
    }

    /// Somebody by the name in a certificate.
    #[must_use]
    pub fn by_certificate(&self, name: &str) -> Option<&Person> {
        self.by_certificate.get(name).and_then(|at| self.people.get(*at))
    }

    /// Somebody by a JWT's subject.
    #[must_use]
    pub fn by_subject(&self, subject: &str) -> Option<&Person> {
        self.by_subject.get(subject).and_then(|at| self.people.get(*at))
    }
}
