//! JWTs: nothing holds but what the key has signed, and of that only what is for us, by the issuer, and not over.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use rcgen::KeyPair;
use serde_json::{Value, json};

use super::{Algorithm, ArcSwap, Jwk, JwkSet, Jwks, algorithm, key};

crate::fuzz::target!(jwts, check_token);
crate::fuzz::target!(jwt_claims, check_claims);
crate::fuzz::target!(jwt_keys, check_keys);

/// When everything here is over.
const EXP: i64 = 4_102_444_800;

struct Provider {
    key: EncodingKey,
    keys: Jwks,
}

static PROVIDER: LazyLock<Provider> = LazyLock::new(|| {
    let pair = KeyPair::generate().unwrap();
    let [x, y] = [1..33, 33..65].map(|half| URL_SAFE_NO_PAD.encode(&pair.public_key_raw()[half]));
    let jwk: Jwk =
        serde_json::from_value(json!({"kty": "EC", "crv": "P-256", "kid": "key-1", "alg": "ES256", "x": x, "y": y}))
            .unwrap();
    let keys = vec![key(&jwk, &[Algorithm::ES256]).unwrap()];
    Provider {
        key: EncodingKey::from_ec_der(&pair.serialize_der()),
        keys: Jwks {
            keys,
            issuer: "https://id.example.org".to_owned(),
            audience: "withheld".to_owned(),
            seen: ArcSwap::default(),
        },
    }
});

fn signed(header: &[u8], claims: &[u8]) -> String {
    let message = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &PROVIDER.key, Algorithm::ES256).unwrap();
    format!("{message}.{signature}")
}

static GOOD: LazyLock<String> = LazyLock::new(|| {
    let claims = json!({"iss": "https://id.example.org", "aud": "withheld", "sub": "timeline-1", "exp": EXP});
    signed(br#"{"alg":"ES256","kid":"key-1"}"#, claims.to_string().as_bytes())
});

/// A token as it is, and what is left of a good one after some edits.
fn check_token(bytes: &[u8]) {
    let (good, keys) = (&*GOOD, &PROVIDER.keys);
    assert_eq!(keys.verify(good).map(|claims| claims.sub).ok().as_deref(), Some("timeline-1"));
    let (message, signature) = good.rsplit_once('.').unwrap();
    let text = String::from_utf8_lossy(bytes);
    let mut forged = vec![text.clone().into_owned(), format!("{text}.{signature}"), format!("{text}{good}")];
    if let [at, value, ..] = bytes {
        let mut edited = good.clone().into_bytes();
        let at = usize::from(*at) % edited.len();
        edited[at] = value & 0x7f;
        forged.extend(String::from_utf8(edited));
    }
    for forged in forged {
        let held = keys.verify(&forged);
        // The same message may have several good signatures, or ways to write one.
        assert!(held.is_err() || forged.rsplit_once('.').unwrap().0 == message, "{forged}: {held:?}");
    }
}

/// Header and claims as they may be, rightly signed.
fn check_claims(bytes: &[u8]) {
    let (header, claims) = bytes.split_at(bytes.iter().position(|byte| *byte == 0).unwrap_or(0));
    let header = if header.is_empty() { br#"{"alg":"ES256"}"#.as_slice() } else { header };
    let claims = claims.strip_prefix(b"\0").unwrap_or(claims);
    let Ok(subject) = PROVIDER.keys.verify(&signed(header, claims)) else { return };
    let claims: Value = serde_json::from_slice(claims).unwrap();
    let header: Value = serde_json::from_slice(header).unwrap();
    assert_eq!(claims["sub"], subject.sub);
    assert_eq!(claims["iss"], "https://id.example.org");
    let audience = &claims["aud"];
    assert!(audience == "withheld" || audience.as_array().unwrap().contains(&"withheld".into()), "{audience}");
    assert!(claims["exp"].as_f64().unwrap() > 1.7e9, "{claims}");
    assert!(claims["nbf"].as_f64().is_none_or(|from| from < EXP as f64), "{claims}");
    assert_eq!(header["alg"], "ES256");
    assert!(header["kid"].is_null() || header["kid"] == "key-1");
    // RFC 7515, 4.1.11: who does not understand what is critical must not take it.
    assert!(header["crit"].is_null(), "{header}");
}

/// A file of keys: none that whoever verifies could sign with, and none for another algorithm than it is pinned to.
fn check_keys(bytes: &[u8]) {
    let Ok(set) = serde_json::from_slice::<JwkSet>(bytes) else { return };
    let pinned = ["RS256", "PS512", "ES256", "EdDSA"].map(|name| algorithm(name).unwrap());
    let written: Value = serde_json::from_slice(bytes).unwrap();
    // A list can stand for an object: its values in the order of the fields.
    let keys = written.get("keys").or(written.get(0)).unwrap().as_array().unwrap();
    for (jwk, written) in set.keys.iter().zip(keys) {
        let Some(key) = key(jwk, &pinned) else { continue };
        assert!(!key.algorithms.is_empty() && key.algorithms.iter().all(|algorithm| pinned.contains(algorithm)));
        let kind = written["kty"].as_str().unwrap();
        for algorithm in &key.algorithms {
            let fits = match algorithm {
                Algorithm::RS256 | Algorithm::PS512 => kind == "RSA",
                Algorithm::ES256 => kind == "EC" && written["crv"] == "P-256",
                _ => kind == "OKP" && written["crv"] == "Ed25519",
            };
            assert!(fits, "{algorithm:?}: {written}");
        }
        assert!(["sig", ""].contains(&written["use"].as_str().unwrap_or_default()));
    }
}
