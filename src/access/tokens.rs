//! Bearer tokens: random, kept as hashes, with an end, revocable while the service runs.
//!
//! A token is `withheld_ID_SECRET`: the id finds its line in the file, the secret is 256 random bits. A hash without salt or
//! stretching is enough for that: nobody guesses it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

const PREFIX: &str = "withheld_";
const SECRET_BYTES: usize = 32;
const ID_BYTES: usize = 4;

/// Whether it is one of ours, right or wrong; a JWT is not.
pub(super) fn looks_like_one(token: &str) -> bool {
    token.starts_with(PREFIX)
}

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredToken {
    /// Whose it is: a name in the access file.
    pub name: String,
    /// The hash of all of it, in hexadecimal.
    pub sha256: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends by itself.
    pub expires: Timestamp,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Timestamp>,
}

impl StoredToken {
    /// Why it does not hold, or nothing if it does.
    #[must_use]
    pub fn fault(&self, now: Timestamp) -> Option<&'static str> {
        if self.revoked.is_some() {
            Some("revoked")
        } else if self.expires <= now {
            Some("expired")
        } else {
            None
        }
    }
}

/// A token that was made just now: it is nowhere to be read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// By which it is listed and revoked.
    pub id: String,
    /// What is shown by who calls.
    pub token: String,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Not to be read or written.
    #[error("the token file `{path}` cannot be {what}")]
    File {
        /// The file.
        path: PathBuf,
        /// Read or written.
        what: &'static str,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Not what this program wrote.
    #[error("the token file `{path}` makes no sense")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// Nobody has it.
    #[error("the token file has no token `{0}`: `withheld token list` shows them")]
    NoSuch(String),
    /// There is no randomness to be had.
    #[error("the operating system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

/// All tokens, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenFile {
    #[serde(default, rename = "token")]
    tokens: BTreeMap<String, StoredToken>,
}

impl TokenFile {
    /// Reads it.
    ///
    /// # Errors
    /// If it is not there, or makes no sense.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let file = |source| TokenError::File { path: path.to_owned(), what: "read", source };
        let text = std::fs::read_to_string(path).map_err(file)?;
        toml::from_str(&text).map_err(|source| TokenError::Parse { path: path.to_owned(), source: Box::new(source) })
    }

    /// The same; an empty one if there is none yet.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_or_new(path: &Path) -> Result<Self, TokenError> {
        match Self::read(path) {
            Err(TokenError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            read => read,
        }
    }

    /// Writes it whole, or leaves what was there. Whose file it is, and who may read it, stays what it was: a service that
    /// runs as somebody else would have its tokens taken away by a `revoke` of root's, and go on with those it has read.
    fn write(&self, path: &Path) -> Result<(), TokenError> {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
        let beside = path.with_extension("new");
        let writing = || {
            let text = toml::to_string(self).map_err(std::io::Error::other)?;
            let before = match std::fs::metadata(path) {
                Ok(before) => Some(before),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            let mut file =
                std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            if let Some(before) = before {
                // Only root can give a file away; who is not can replace their own, which stays theirs.
                fchown(&file, Some(before.uid()), Some(before.gid()))?;
                file.set_permissions(std::fs::Permissions::from_mode(before.mode() & 0o7777))?;
            }
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&beside, path)
        };
        writing().map_err(|source| TokenError::File { path: path.to_owned(), what: "written", source })
    }

    /// Changes what a file has, and nobody else does meanwhile; if the change fails, the file is what it was.
    ///
    /// # Errors
    /// If it cannot be read or written, or the change fails.
    pub fn change<T>(path: &Path, change: impl FnOnce(&mut Self) -> Result<T, TokenError>) -> Result<T, TokenError> {
        // The file itself is replaced, so that it is not what can be locked.
        let beside = path.with_extension("lock");
        let locked = std::fs::File::create(&beside).and_then(|file| file.lock().map(|()| file));
        let lock = locked.map_err(|source| TokenError::File { path: beside, what: "locked", source })?;
        let mut tokens = Self::read_or_new(path)?;
        let changed = change(&mut tokens)?;
        tokens.write(path)?;
        drop(lock);
        Ok(changed)
    }

    /// All tokens, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &StoredToken)> {
        self.tokens.iter().map(|(id, token)| (id.as_str(), token))
    }

    /// Makes one.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn create(&mut self, name: &str, now: Timestamp, expires: Timestamp) -> Result<NewToken, TokenError> {
        let id = loop {
            let mut id = [0; ID_BYTES];
            getrandom::fill(&mut id).map_err(TokenError::Random)?;
            let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
            if !self.tokens.contains_key(&id) {
                break id;
            }
        };
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(TokenError::Random)?;
        let token = format!("{PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(secret));
        let sha256 = hash(&token);
        self.tokens
            .insert(id.clone(), StoredToken { name: name.to_owned(), sha256, created: now, expires, revoked: None });
        Ok(NewToken { id, token })
    }

    /// Ends one. Ending it again changes nothing.
    ///
    /// # Errors
    /// If there is none of this id.
    pub fn revoke(&mut self, id: &str, now: Timestamp) -> Result<(), TokenError> {
        let token = self.tokens.get_mut(id).ok_or_else(|| TokenError::NoSuch(id.to_owned()))?;
        token.revoked.get_or_insert(now);
        Ok(())
    }

    /// The id of a token, and whose it is.
    ///
    /// # Errors
    /// Why it does not hold.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<(&str, &str), &'static str> {
        let id = token.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).map_or("", |(id, _)| id);
        let Some((id, stored)) = self.tokens.get_key_value(id) else { return Err("unknown") };
        if !bool::from(hash(token).as_bytes().ct_eq(stored.sha256.as_bytes())) {
            return Err("unknown");
        }
        match stored.fault(now) {
            Some(fault) => Err(fault),
            None => Ok((id, &stored.name)),
        }
    }
}

fn hash(token: &str) -> String {
    Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
}
