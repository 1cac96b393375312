//! JWTs of the platform's own identity provider, verified by the keys in a file.
//!
//! The algorithm is pinned by the access file and must be that of the key: what the token says about it is only held
//! against that. So neither `none`, nor an RSA key taken for an HMAC's secret, gets anybody in.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// Seconds by which clocks may differ.
const LEEWAY: u64 = 30;
/// Tokens of which it is remembered what was found out.
const MAX_SEEN: usize = 10_000;
/// No token is longer.
const MAX_TOKEN: usize = 8_192;

/// What the access file says of JWTs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtRules {
    /// Who issues them: `iss`.
    pub issuer: String,
    /// For whom they are: `aud`.
    pub audience: String,
    /// How they are signed.
    pub algorithms: Vec<String>,
    /// The file of keys (JWKS), beside the access file if it is relative.
    pub jwks: PathBuf,
}

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    /// Not to be read.
    #[error("the key file `{path}` cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Not a JWKS.
    #[error("the key file `{path}` is no JSON Web Key Set")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// Not an algorithm with public keys.
    #[error("`{0}` is no algorithm for JWTs here: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA")]
    Algorithm(String),
    /// Nothing to verify with.
    #[error("the key file `{path}` has no key for {algorithms}")]
    NoKey {
        /// The file.
        path: PathBuf,
        /// What is pinned.
        algorithms: String,
    },
}

#[derive(Debug)]
struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// The keys, and what they have to vouch for.
#[derive(Debug)]
pub struct Jwks {
    keys: Vec<Key>,
    issuer: String,
    audience: String,
    /// What was found out of tokens by these keys.
    seen: ArcSwap<imbl::HashMap<TokenHash, Seen>>,
}

/// SHA-256 of a token: what was verified is remembered without the token itself.
type TokenHash = [u8; 32];

/// What was found out of a token.
#[derive(Debug, Clone)]
enum Seen {
    /// It holds in this time, in seconds since 1970, clocks allowed for.
    Holds { subject: Arc<str>, from: f64, until: f64 },
    /// It never will, by these keys.
    Never(Arc<str>),
}

/// Why a token does not hold, and whether it may yet.
#[derive(Debug)]
struct Fault {
    why: String,
    may_hold_later: bool,
}

impl Fault {
    fn lasting(why: impl Into<String>) -> Self {
        Self { why: why.into(), may_hold_later: false }
    }
}

#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
    nbf: Option<f64>,
}

impl Jwks {
    /// Reads the keys that fit the pinned algorithms; others in the file are for somebody else.
    ///
    /// # Errors
    /// If the file is none of keys, or has none that fits.
    pub fn read(rules: &JwtRules) -> Result<Self, JwtError> {
        let path = rules.jwks.clone();
        let text = std::fs::read(&path).map_err(|source| JwtError::Read { path: path.clone(), source })?;
        let set: JwkSet =
            serde_json::from_slice(&text).map_err(|source| JwtError::Parse { path: path.clone(), source })?;
        let pinned: Vec<Algorithm> = rules.algorithms.iter().map(|name| algorithm(name)).collect::<Result<_, _>>()?;
        let keys: Vec<Key> = set.keys.iter().filter_map(|jwk| key(jwk, &pinned)).collect();
        if keys.is_empty() {
            return Err(JwtError::NoKey { path, algorithms: rules.algorithms.join(", ") });
        }
        Ok(Self { keys, issuer: rules.issuer.clone(), audience: rules.audience.clone(), seen: ArcSwap::default() })
    }

    /// What was found out of a token before: its subject, or why it does not hold, or not any more; nothing if it was not
    /// looked at, or that is forgotten. This is quick, and verifying is not.
    #[must_use]
    pub fn recall(&self, token: &str, now: Timestamp) -> Option<Result<Arc<str>, String>> {
        let seen = self.seen.load();
        let now = now.as_millisecond() as f64 / 1e3;
        Some(match seen.get(&hash(token))? {
            Seen::Never(why) => Err(why.to_string()),
            Seen::Holds { from, .. } if now < *from => Err("it does not hold yet".to_owned()),
            Seen::Holds { until, .. } if now >= *until => Err("it has expired".to_owned()),
            Seen::Holds { subject, .. } => Ok(Arc::clone(subject)),
        })
    }

    /// Verifies a token, and remembers what was found out.
    ///
    /// # Errors
    /// Why it does not hold.
    pub fn verify_once(&self, token: &str, now: Timestamp) -> Result<(), String> {
        let (found, outcome) = match self.verify(token) {
            Ok(Claims { sub, exp, nbf }) => {
                let (from, until) = (nbf.unwrap_or(0.0) - LEEWAY as f64, exp + LEEWAY as f64);
                (Seen::Holds { subject: sub.into(), from, until }, Ok(()))
            }
            Err(fault) if fault.may_hold_later => return Err(fault.why),
            Err(Fault { why, .. }) => (Seen::Never(why.as_str().into()), Err(why)),
        };
        let now = now.as_millisecond() as f64 / 1e3;
        self.seen.rcu(|before| {
            let mut after = imbl::HashMap::clone(before);
            if after.len() >= MAX_SEEN {
                after.retain(|_, seen| matches!(seen, Seen::Holds { until, .. } if *until > now));
            }
            if after.len() >= MAX_SEEN {
                // Who is forgotten is verified once more.
                after.clear();
            }
            after.insert(hash(token), found.clone());
            after
        });
        outcome
    }

    /// What a token says that holds now.
    fn verify(&self, token: &str) -> Result<Claims, Fault> {
        if token.len() > MAX_TOKEN {
            return Err(Fault::lasting("it is too long"));
        }
        let header = decode_header(token).map_err(|error| Fault::lasting(error.to_string()))?;
        // RFC 7515, 4.1.11: nothing that can be critical is understood here.
        if header.crit.is_some() {
            return Err(Fault::lasting("its head says that something is critical (`crit`), which is not known here"));
        }
        if header.kid.is_none() && self.keys.len() > 1 {
            // Otherwise each key would be tried, which takes as many times as long.
            return Err(Fault::lasting(format!("it names no key (`kid`), and there are {}", self.keys.len())));
        }
        let named = |key: &&Key| header.kid.is_none() || key.id == header.kid;
        let mut fault = Fault::lasting("no key has its `kid`");
        for key in self.keys.iter().filter(named) {
            let [first, ..] = key.algorithms.as_slice() else { continue };
            let mut validation = Validation::new(*first);
            validation.algorithms.clone_from(&key.algorithms);
            validation.leeway = LEEWAY;
            validation.validate_nbf = true;
            validation.set_audience(&[&self.audience]);
            validation.set_issuer(&[&self.issuer]);
            validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
            match decode::<Claims>(token, &key.key, &validation) {
                Ok(held) => return Ok(held.claims),
                Err(error) => {
                    let may_hold_later = matches!(error.kind(), ErrorKind::ImmatureSignature);
                    fault = Fault { why: error.to_string(), may_hold_later };
                }
            }
        }
        Err(fault)
    }
}

fn hash(token: &str) -> TokenHash {
    Sha256::digest(token).into()
}

/// Only those with public keys: whoever can verify must not be able to sign.
fn algorithm(name: &str) -> Result<Algorithm, JwtError> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let known = [RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA];
    let named = known.into_iter().find(|algorithm| format!("{algorithm:?}") == name);
    named.ok_or_else(|| JwtError::Algorithm(name.to_owned()))
}

fn key(jwk: &Jwk, pinned: &[Algorithm]) -> Option<Key> {
    use Algorithm::{ES256, ES384, EdDSA};
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let fits = |algorithm: &Algorithm| match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => !matches!(algorithm, ES256 | ES384 | EdDSA),
        AlgorithmParameters::EllipticCurve(_) => matches!(algorithm, ES256 | ES384),
        AlgorithmParameters::OctetKeyPair(_) => matches!(algorithm, EdDSA),
        _ => false,
    };
    let own = jwk.common.key_algorithm.map(|algorithm| algorithm.to_string());
    let meant = |algorithm: &Algorithm| own.as_ref().is_none_or(|own| *own == format!("{algorithm:?}"));
    let algorithms: Vec<Algorithm> = pinned.iter().copied().filter(|a| fits(a) && meant(a)).collect();
    let key = DecodingKey::from_jwk(jwk).ok()?;
    (!algorithms.is_empty()).then(|| Key { id: jwk.common.key_id.clone(), algorithms, key })
}

#[cfg(test)]
#[path = "../../fuzz/jwts.rs"]
mod fuzz;
