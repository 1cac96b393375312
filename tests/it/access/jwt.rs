//! JWTs of an identity provider: only as they were signed, for us, by its key, with the pinned algorithm.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::{Value, json};

use super::{Desk, ask, mk_check, plain, refused, unauthenticated, with_token};
use crate::redis::until;

/// An identity provider's key, of the curve P-256.
struct Provider {
    key: KeyPair,
    id: &'static str,
}

impl Provider {
    fn mk(id: &'static str) -> Self {
        Self { key: KeyPair::generate().unwrap(), id }
    }

    /// As a JWKS has it.
    fn jwk(&self) -> Value {
        let point = self.key.public_key_raw();
        assert_eq!((point[0], point.len()), (4, 65), "an uncompressed point");
        let [x, y] = [&point[1..33], &point[33..]].map(|half| URL_SAFE_NO_PAD.encode(half));
        json!({"kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig", "alg": "ES256", "x": x, "y": y})
    }

    fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.id.to_owned()), ..Header::new(Algorithm::ES256) };
        encode(&header, claims, &EncodingKey::from_ec_der(&self.key.serialize_der())).unwrap()
    }
}

fn in_seconds(seconds: i64) -> i64 {
    jiff::Timestamp::now().as_second() + seconds
}

fn mk_claims() -> Value {
    json!({"iss": "https://id.example.org", "aud": "withheld", "sub": "timeline-1", "exp": in_seconds(300)})
}

fn with(mut claims: Value, key: &str, value: Value) -> Value {
    claims[key] = value;
    claims
}

fn without(mut claims: Value, key: &str) -> Value {
    claims.as_object_mut().unwrap().remove(key);
    claims
}

/// Head and claims in base64, to be signed by hand or not at all.
fn unsigned(header: &Value, claims: &Value) -> String {
    [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".")
}

fn write_keys(desk: &Desk, keys: &[Value]) {
    // As whole files are replaced: it is never half there.
    let text = json!({"keys": keys}).to_string();
    std::fs::write(desk.path("jwks.new"), text).unwrap();
    std::fs::rename(desk.path("jwks.new"), desk.path("jwks.json")).unwrap();
}

const ACCESS: &str = "
[jwt]
issuer = \"https://id.example.org\"
audience = \"withheld\"
algorithms = [\"ES256\"]
jwks = \"jwks.json\"
[[identity]]
name = \"timeline\"
roles = [\"reader\"]
subjects = [\"timeline-1\"]
";

#[tokio::test(flavor = "multi_thread")]
async fn a_jwt_holds_as_it_was_signed_and_forged_ones_do_not() {
    let desk = Desk::mk();
    let [provider, stranger] = [Provider::mk("key-1"), Provider::mk("key-1")];
    write_keys(&desk, &[provider.jwk()]);
    desk.access(ACCESS);
    let service = desk.service().await;
    let queries = plain(&service.queries).await;
    let good = provider.sign(&mk_claims());
    assert!(!ask(queries.clone(), with_token(&good, mk_check())).await.unwrap());

    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (head, _) = signed.split_once('.').unwrap();
    let (alg, kid) = ("alg", "kid");
    let none = unsigned(&json!({alg: "none", "typ": "JWT"}), &mk_claims());
    // Taken for an HMAC's secret, the public key would be one that everybody has.
    let confused = |secret: &[u8]| {
        let header = Header { kid: Some("key-1".to_owned()), ..Header::new(Algorithm::HS256) };
        encode(&header, &mk_claims(), &EncodingKey::from_secret(secret)).unwrap()
    };
    let point = provider.key.public_key_raw();
    for (what, forged) in [
        ("none", format!("{none}.")),
        ("None", format!("{}.", unsigned(&json!({alg: "None"}), &mk_claims()))),
        ("none, with a signature", format!("{none}.{signature}")),
        ("the key's PEM as a secret", confused(provider.key.public_key_pem().as_bytes())),
        ("the key's DER as a secret", confused(&provider.key.subject_public_key_info())),
        ("the key's point as a secret", confused(point)),
        ("the key's x as a secret", confused(provider.jwk()["x"].as_str().unwrap().as_bytes())),
        (
            "another algorithm by name",
            format!("{}.{signature}", unsigned(&json!({alg: "ES384", kid: "key-1"}), &mk_claims())),
        ),
        ("a key of its own in the head", {
            let header = json!({alg: "ES256", "jwk": stranger.jwk()});
            format!("{}.{}", unsigned(&header, &mk_claims()), stranger.sign(&mk_claims()).rsplit_once('.').unwrap().1)
        }),
        ("another key by the same id", stranger.sign(&mk_claims())),
        ("an id that no key has", Provider { key: KeyPair::generate().unwrap(), id: "key-2" }.sign(&mk_claims())),
        (
            "other claims",
            format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(with(mk_claims(), "sub", json!("x")).to_string())),
        ),
        ("no signature", format!("{signed}.")),
        ("two parts", signed.to_owned()),
        ("expired", provider.sign(&with(mk_claims(), "exp", json!(in_seconds(-60))))),
        ("never expires", provider.sign(&without(mk_claims(), "exp"))),
        ("not yet", provider.sign(&with(mk_claims(), "nbf", json!(in_seconds(300))))),
        ("for somebody else", provider.sign(&with(mk_claims(), "aud", json!("other")))),
        ("for nobody", provider.sign(&without(mk_claims(), "aud"))),
        ("by somebody else", provider.sign(&with(mk_claims(), "iss", json!("https://id.example.com")))),
        ("by nobody", provider.sign(&without(mk_claims(), "iss"))),
        ("of nobody", provider.sign(&without(mk_claims(), "sub"))),
        ("of a stranger", provider.sign(&with(mk_claims(), "sub", json!("timeline-2")))),
        ("with something critical in the head", {
            let crit = Some(vec!["exp".to_owned()]);
            let header = Header { kid: Some("key-1".to_owned()), crit, ..Header::new(Algorithm::ES256) };
            encode(&header, &mk_claims(), &EncodingKey::from_ec_der(&provider.key.serialize_der())).unwrap()
        }),
        ("too long", provider.sign(&with(mk_claims(), "more", json!("x".repeat(9_000))))),
        ("nonsense", "a.b.c".to_owned()),
        ("dots", "..".to_owned()),
    ] {
        let status = ask(queries.clone(), with_token(&forged, mk_check())).await.expect_err(what);
        assert_eq!(refused(&status), unauthenticated(), "{what}");
    }
    assert!(!ask(queries.clone(), with_token(&good, mk_check())).await.unwrap(), "it goes on");
    // The provider changes its key: tokens by the new one hold soon, and those by the old one do not any more.
    let next = Provider::mk("key-2");
    write_keys(&desk, &[next.jwk()]);
    let by_next = next.sign(&mk_claims());
    until("the new key counts", async || ask(queries.clone(), with_token(&by_next, mk_check())).await.is_ok()).await;
    assert_eq!(refused(&ask(queries.clone(), with_token(&good, mk_check())).await.unwrap_err()), unauthenticated());
    // Half a file changes nothing, for who was verified before and for who comes now.
    std::fs::write(desk.path("jwks.json"), "{\"keys\": [").unwrap();
    until("it is told", async || service.log().contains("configuration reload failed")).await;
    assert!(!ask(queries, with_token(&by_next, mk_check())).await.unwrap());
}

#[test]
fn an_algorithm_by_which_whoever_verifies_can_sign_is_refused_at_the_start() {
    let desk = Desk::mk();
    write_keys(&desk, &[Provider::mk("key-1").jwk()]);
    for (algorithm, said) in
        [("HS256", "`HS256` is no algorithm"), ("none", "`none` is no algorithm"), ("RS256", "no key for RS256")]
    {
        desk.access(&ACCESS.replace("ES256", algorithm));
        let output = std::process::Command::new(crate::harness::BINARY)
            .args(["serve", "--validate", "--journal", "memory:", "--access", &desk.text("access.toml")])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(said), "{algorithm}: {told}");
    }
}

/// How many signatures were looked at, by outcome.
async fn verified(service: &crate::harness::Service) -> [u64; 2] {
    let scrape = crate::scrape::Scrape::of(service).await;
    ["holds", "does_not"]
        .map(|outcome| scrape.count(&format!("withheld_jwt_verifications_total{{outcome=\"{outcome}\"}}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jwt_is_verified_once_and_until_it_ends() {
    let desk = Desk::mk();
    let provider = Provider::mk("key-1");
    write_keys(&desk, &[provider.jwk()]);
    desk.access(ACCESS);
    let service = desk.service().await;
    let queries = plain(&service.queries).await;
    let (long, short) = (provider.sign(&mk_claims()), provider.sign(&with(mk_claims(), "exp", json!(in_seconds(-27)))));
    for _ in 0..50 {
        assert!(!ask(queries.clone(), with_token(&long, mk_check())).await.unwrap());
    }
    assert_eq!(verified(&service).await, [1, 0], "fifty calls, one signature");
    // On another connection, and to operators' services, it is the same token.
    assert!(!ask(plain(&service.queries).await, with_token(&long, mk_check())).await.unwrap());
    assert_eq!(verified(&service).await, [1, 0]);
    // Within the seconds by which clocks may differ one that has ended still holds, and then does not, without being looked
    // at again.
    assert!(!ask(queries.clone(), with_token(&short, mk_check())).await.unwrap());
    until("it has ended", async || ask(queries.clone(), with_token(&short, mk_check())).await.is_err()).await;
    assert_eq!(verified(&service).await, [2, 0]);
    // Other keys: what was verified by those before is verified anew.
    write_keys(&desk, &[Provider::mk("key-2").jwk()]);
    until("it is by no key any more", async || ask(queries.clone(), with_token(&long, mk_check())).await.is_err())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_are_several_keys_a_jwt_says_by_which_it_was_signed() {
    let desk = Desk::mk();
    let keys = ["key-1", "key-2"].map(Provider::mk);
    write_keys(&desk, &keys.each_ref().map(Provider::jwk));
    desk.access(ACCESS);
    let service = desk.service().await;
    let queries = plain(&service.queries).await;
    for provider in &keys {
        assert!(!ask(queries.clone(), with_token(&provider.sign(&mk_claims()), mk_check())).await.unwrap());
        let header = Header::new(Algorithm::ES256);
        let key = EncodingKey::from_ec_der(&provider.key.serialize_der());
        let nameless = encode(&header, &mk_claims(), &key).unwrap();
        let status = ask(queries.clone(), with_token(&nameless, mk_check())).await.unwrap_err();
        assert_eq!(refused(&status), unauthenticated());
    }
    assert!(service.log().contains("it names no key (`kid`), and there are 2"), "{}", service.log());
}

/// Whoever shows one forged token after another has few of them looked at, and those whose tokens hold are answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_forged_jwts_is_refused_without_looking_at_them() {
    const FORGED: u64 = 2_000;
    let desk = Desk::mk();
    let [provider, stranger] = [Provider::mk("key-1"), Provider::mk("key-1")];
    write_keys(&desk, &[provider.jwk()]);
    desk.access(ACCESS);
    let service = desk.service().await;
    let (honest, flood) = (plain(&service.queries).await, plain(&service.queries).await);
    let good = provider.sign(&mk_claims());
    assert!(!ask(honest.clone(), with_token(&good, mk_check())).await.unwrap());
    let mut codes = std::collections::BTreeMap::<String, u64>::new();
    let began = std::time::Instant::now();
    for number in 0..FORGED {
        let forged = stranger.sign(&with(mk_claims(), "jti", json!(number)));
        let status = ask(flood.clone(), with_token(&forged, mk_check())).await.unwrap_err();
        *codes.entry(refused(&status).1).or_default() += 1;
        if number % 100 == 0 {
            assert!(!ask(honest.clone(), with_token(&good, mk_check())).await.unwrap(), "others are answered");
        }
    }
    let [holds, does_not] = verified(&service).await;
    // Fifty a second of one connection, and as many that may come at once.
    let most = 50 * (began.elapsed().as_secs() + 2);
    assert!(holds == 1 && does_not <= most, "{does_not} of {FORGED} were looked at in {:?}", began.elapsed());
    assert_eq!(codes.get("UNAUTHENTICATED").copied(), Some(does_not), "{codes:?}");
    if most < FORGED {
        assert!(codes["OVERLOADED"] >= FORGED - most, "{codes:?}");
    }
}
