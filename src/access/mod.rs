//! Who may do what: from what a caller shows to a principal with roles, and from a method to the roles that may call it.
//!
//! ```text
//!  certificate ─┐
//!  bearer token ┼─► Credential ─► the access file: Principal { name, roles } ─► Guard: may it call this method? ─► service
//!  JWT ─────────┘
//! ```
//!
//! Everything that is read here comes from files that people change while the service runs: [`Access`] is replaced as a
//! whole, or, if a file makes no sense, stays what it was. Knows gRPC's paths and headers; nothing of orders.

mod file;
mod guard;
mod jwt;
mod refusals;
mod roles;
mod tokens;
mod verifying;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;

use crate::net::Names;
use crate::rate::Rate;

pub use file::{AccessError, AccessFile, Person};
pub use guard::{Guard, Guarded, Refusal};
pub use jwt::{Jwks, JwtError};
pub use refusals::Refusals;
pub use roles::{MATRIX, Role, Roles, Rule, rule_of};
pub use tokens::{NewToken, StoredToken, TokenError, TokenFile};

/// By what somebody was known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A client certificate, by its SPIFFE ID or its subject.
    Certificate(Arc<str>),
    /// A bearer token, by its id.
    Token(Arc<str>),
    /// A JWT, by its subject.
    Jwt(Arc<str>),
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(name) => write!(f, "certificate {name}"),
            Self::Token(id) => write!(f, "token {id}"),
            Self::Jwt(subject) => write!(f, "jwt {subject}"),
        }
    }
}

/// Somebody who calls; in the extensions of the request.
#[derive(Debug, Clone)]
pub struct Principal {
    /// As the record has it.
    pub name: Arc<str>,
    /// The human being or program behind it: one person may have several names.
    pub person: Arc<str>,
    /// What it may do.
    pub roles: Roles,
    /// By what it was known.
    pub credential: Credential,
    /// How often it may call; `None`: as often as it likes.
    rate: Option<Arc<Rate>>,
}

/// Why somebody is not known. Said without detail to who calls, and with it in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// Nothing was shown.
    #[error("no certificate and no token was shown")]
    Nobody,
    /// The header is not `Bearer …`.
    #[error("the authorization header is not `Bearer TOKEN`")]
    NotBearer,
    /// No such token, or not any more.
    #[error("the token is {0}")]
    Token(&'static str),
    /// The JWT does not hold.
    #[error("the JWT does not hold: {0}")]
    Jwt(String),
    /// A JWT that has to be verified first, which takes a while.
    #[error("the JWT was not verified yet")]
    Unverified,
    /// More tokens are to be verified than can be.
    #[error("too many JWTs are to be verified, {0}")]
    TooManyToVerify(&'static str),
    /// A good credential of nobody in the access file.
    #[error("`{0}` is nobody in the access file")]
    Stranger(String),
}

/// What the files say, all read together.
#[derive(Debug)]
pub struct Access {
    file: AccessFile,
    tokens: TokenFile,
    jwks: Option<Jwks>,
}

impl Access {
    /// Reads the access file, and what it refers to.
    ///
    /// # Errors
    /// If a file cannot be read or makes no sense; the error names it.
    pub fn read(path: &Path) -> Result<Self, AccessError> {
        let file = AccessFile::read(path)?;
        let tokens = match file.tokens_file() {
            Some(path) => TokenFile::read(path).map_err(AccessError::Tokens)?,
            None => TokenFile::default(),
        };
        let jwks = file.jwt().map(Jwks::read).transpose().map_err(AccessError::Jwt)?;
        Ok(Self { file, tokens, jwks })
    }

    /// Has what was used of calls stay used, for those whose limit is what it was.
    pub fn keep_rates_of(&mut self, old: &Self) {
        self.file.keep_rates_of(&old.file);
    }

    /// The files it was read from.
    #[must_use]
    pub fn files(&self, path: &Path) -> Vec<PathBuf> {
        let more = [self.file.tokens_file(), self.file.jwt().map(|jwt| jwt.jwks.as_path())];
        std::iter::once(path).chain(more.into_iter().flatten()).map(Path::to_owned).collect()
    }

    /// Who shows this: an `authorization` header, which counts before a certificate.
    ///
    /// # Errors
    /// If that is nobody.
    pub fn who(
        &self,
        authorization: Option<&str>,
        certificate: Option<&Names>,
        now: Timestamp,
    ) -> Result<Principal, Unknown> {
        match (authorization, certificate) {
            (Some(header), _) => {
                let (scheme, token) = header.split_once(' ').ok_or(Unknown::NotBearer)?;
                if !scheme.eq_ignore_ascii_case("bearer") {
                    return Err(Unknown::NotBearer);
                }
                match &self.jwks {
                    Some(jwks) if !tokens::looks_like_one(token) => {
                        let subject = jwks.recall(token, now).ok_or(Unknown::Unverified)?.map_err(Unknown::Jwt)?;
                        let person = self.file.by_subject(&subject);
                        self.principal(person, Credential::Jwt(subject))
                    }
                    _ => {
                        let (id, name) = self.tokens.verify(token, now).map_err(Unknown::Token)?;
                        self.principal(self.file.by_name(name), Credential::Token(id.into()))
                    }
                }
            }
            (None, Some(names)) => {
                let name = names.name();
                self.principal(self.file.by_certificate(name), Credential::Certificate(name.into()))
            }
            (None, None) => Err(Unknown::Nobody),
        }
    }

    /// Verifies the JWT of an `authorization` header: from then on [`Access::who`] knows it. It takes a while, and is not for
    /// threads that answer queries.
    ///
    /// # Errors
    /// If it does not hold.
    pub fn verify(&self, authorization: &str, now: Timestamp) -> Result<(), Unknown> {
        let (_, token) = authorization.split_once(' ').ok_or(Unknown::NotBearer)?;
        let jwks = self.jwks.as_ref().ok_or(Unknown::Unverified)?;
        jwks.verify_once(token, now).map_err(Unknown::Jwt)
    }

    /// What anybody may do, of whom nothing is known: never more than a reader.
    #[must_use]
    pub const fn anybody(&self) -> Roles {
        self.file.anonymous()
    }

    fn principal(&self, person: Option<&Person>, credential: Credential) -> Result<Principal, Unknown> {
        let person = person.ok_or_else(|| Unknown::Stranger(credential.to_string()))?;
        Ok(Principal {
            name: Arc::clone(&person.name),
            person: Arc::clone(person.person()),
            roles: person.roles,
            rate: person.rate.clone(),
            credential,
        })
    }
}

/// What holds now; replaced as a whole. None if nobody is asked.
pub type Current = Arc<ArcSwapOption<Access>>;

#[cfg(test)]
#[path = "../../fuzz/access_files.rs"]
mod fuzz;
