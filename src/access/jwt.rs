//! JWTs of the platform's own identity provider, verified by the keys in a file.
//!
//! The algorithm is pinned by the access file and must be that of the key: what the token says about it is only held
//! against that. So neither `none`, nor an RSA key taken for an HMAC's secret, gets anybody in.

use std::path::PathBuf;

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

/// Seconds by which clocks may differ.
const LEEWAY: u64 = 30;
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
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
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
        Ok(Self { keys, issuer: rules.issuer.clone(), audience: rules.audience.clone() })
    }

    /// The subject of a token that holds now.
    ///
    /// # Errors
    /// Why it does not.
    pub fn verify(&self, token: &str) -> Result<String, String> {
        if token.len() > MAX_TOKEN {
            return Err("it is too long".to_owned());
        }
        let header = decode_header(token).map_err(|error| error.to_string())?;
        // RFC 7515, 4.1.11: nothing that can be critical is understood here.
        if header.crit.is_some() {
            return Err("its head says that something is critical (`crit`), which is not known here".to_owned());
        }
        let named = |key: &&Key| header.kid.is_none() || key.id == header.kid;
        let mut why = "no key has its `kid`".to_owned();
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
                Ok(held) => return Ok(held.claims.sub),
                Err(error) => why = error.to_string(),
            }
        }
        Err(why)
    }
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
