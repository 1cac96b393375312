//! What is fuzzed: one function for each decoder that sees outside bytes. Each takes any bytes, and panics if something
//! does not hold that has to hold for all of them.
//!
//! The fuzzer runs them under `cargo fuzz`, and `make test` runs them over the corpus and what comes of it by chance
//! (tests/it/fuzz.rs).

use std::cell::RefCell;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;
use sha2::{Digest as _, Sha256};
use tonic::{Code, Request, Status};
use withheld::access::{Access, AccessFile, TokenFile};
use withheld::api::{Context, Orders, Protections, Visibility};
use withheld::audit::checkpoint::Checkpoint;
use withheld::audit::note::{SigningKey, VerifierKey};
use withheld::clock::Clock;
use withheld::domain::country::UnknownViewerPolicy;
use withheld::domain::locator::Links;
use withheld::domain::policy::Policy;
use withheld::domain::regime::Regimes;
use withheld::domain::rules::Rules;
use withheld::domain::state::State;
use withheld::domain::territory::Groups;
use withheld::journal::memory::MemoryJournal;
use withheld::journal::redis::{RedisUrl, redacted};
use withheld::net::Names;
use withheld::pb::v1::order_service_server::OrderService as _;
use withheld::pb::v1::protection_service_server::ProtectionService as _;
use withheld::pb::v1::visibility_service_server::VisibilityService as _;
use withheld::record::snapshot::SnapshotFile;
use withheld::record::{decode, encode};
use withheld::replica::{self, Replica, Snapshots};
use withheld::{cli, desk};

/// An entry of the journal: read, written and read again it is the same, and folding it gives a state or an error.
pub fn entry(bytes: &[u8]) {
    let Ok(entry) = decode(bytes) else { return };
    assert_eq!(decode(&encode(&entry)).as_ref(), Ok(&entry));
    let mut state = State::default();
    let next = state.revision().next();
    if state.apply(next, &entry).is_ok() {
        assert_eq!(state.revision(), next);
        // Told again, it changes nothing.
        let digest = state.digest();
        let _ = state.apply(next, &entry);
        assert_eq!((state.revision(), state.digest()), (next, digest));
    }
}

/// A file that is gone when its thread is.
fn in_a_file<T>(bytes: &[u8], read: impl FnOnce(&Path) -> T) -> T {
    thread_local!(static DIR: tempfile::TempDir = tempfile::TempDir::new().unwrap());
    DIR.with(|dir| {
        let path = dir.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        read(&path)
    })
}

/// A snapshot whose checksum is right, whatever is in it; and one as it came, which is refused.
pub fn snapshot(bytes: &[u8]) {
    let sealed = [bytes, Sha256::digest(bytes).as_slice()].concat();
    if let Ok(read) = in_a_file(&sealed, |path| SnapshotFile::at(path).read()) {
        let (state, position) = read.unwrap();
        assert_eq!(state.revision(), position.revision);
        let again = in_a_file(&[], |path| {
            let file = SnapshotFile::at(path);
            file.write(&state, position.hash).unwrap();
            file.read().unwrap().unwrap()
        });
        assert_eq!((again.0.digest(), again.1), (state.digest(), position));
    }
    if let Some((last, rest)) = sealed.split_last() {
        let bent = [rest, &[last ^ 1]].concat();
        assert!(in_a_file(&bent, |path| SnapshotFile::at(path).read()).is_err());
    }
}

/// Everything that answers, over a journal in memory.
struct Service {
    runtime: tokio::runtime::Runtime,
    visibility: Visibility,
    orders: Orders,
    protections: Protections,
}

impl Service {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let context = runtime.block_on(async {
            let journal = Arc::new(MemoryJournal::default());
            let replica = Replica::new(Clock::system(), Duration::from_secs(5));
            let rules = Arc::new(ArcSwap::from_pointee(Rules::builtin()));
            let limit = Duration::from_secs(5);
            let (desk, work) = desk::open(replica.clone(), Arc::clone(&journal) as _, Arc::clone(&rules), limit);
            tokio::spawn(work);
            let stop = tokio_util::sync::CancellationToken::new();
            tokio::spawn(replica::run(replica.clone(), journal, Snapshots::none(), stop));
            replica.ready().await;
            let unknown_viewer = UnknownViewerPolicy::WorldwideOnly;
            Context { replica, desk, rules, unknown_viewer, max_batch: 10_000 }
        });
        let verdicts = withheld::metrics::verdicts::Verdicts::default();
        Self {
            visibility: Visibility::new(context.clone(), verdicts.tally()),
            orders: Orders::new(context.clone(), Duration::from_secs(3_600)),
            protections: Protections::new(context),
            runtime,
        }
    }
}

thread_local!(static SERVICE: RefCell<(Service, usize)> = RefCell::new((Service::new(), 0)));

/// Calls before what they have left behind is forgotten.
const CALLS: usize = 5_000;

/// What may be said of any request: an answer, or an error that is the caller's, and says of what.
fn told<T>(answer: Result<T, Status>) {
    let Err(status) = answer else { return };
    let of_the_caller = [
        Code::InvalidArgument,
        Code::NotFound,
        Code::AlreadyExists,
        Code::FailedPrecondition,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::Unavailable,
    ];
    assert!(of_the_caller.contains(&status.code()), "{status:?}");
    assert!(!status.message().is_empty() && status.message().len() <= 1_100, "{status:?}");
    // More than this does not get through to many a client.
    assert!(status.details().len() <= 5_000, "{} bytes of details", status.details().len());
}

/// A request: its first byte says which method, the rest is the message.
pub fn request(bytes: &[u8]) {
    let Some((method, message)) = bytes.split_first() else { return };
    macro_rules! call {
        ($service:ident . $method:ident) => {{
            let Ok(message) = Message::decode(message) else { return };
            SERVICE.with_borrow_mut(|(service, calls)| {
                *calls += 1;
                if *calls > CALLS {
                    (*service, *calls) = (Service::new(), 0);
                }
                told(service.runtime.block_on(service.$service.$method(Request::new(message))));
            });
        }};
    }
    match method % 19 {
        0 => call!(visibility.check),
        1 => call!(visibility.batch_check),
        2 => call!(visibility.list_withheld_countries),
        3 => call!(orders.preview_order),
        4 => call!(orders.apply_order),
        5 => call!(orders.approve_order),
        6 => call!(orders.reject_order),
        7 => call!(orders.lift_order),
        8 => call!(orders.lift_items),
        9 => call!(orders.stay_order),
        10 => call!(orders.resume_order),
        11 => call!(orders.record_correspondence),
        12 => call!(orders.get_order),
        13 => call!(orders.list_orders),
        14 => call!(orders.list_due_orders),
        15 => call!(orders.list_order_items),
        16 => call!(orders.explain_account),
        17 => call!(protections.protect_accounts),
        _ => call!(protections.list_protected_accounts),
    }
}

/// A list of items as people save it. What was read is no more than what was there.
pub fn list(bytes: &[u8]) {
    let Ok(items) = cli::parse_item_list(bytes.to_vec()) else { return };
    let lines = bytes.iter().filter(|byte| matches!(byte, b'\r' | b'\n')).count() + 1;
    assert!(items.len() <= lines, "{} items of {lines} lines", items.len());
    let text = String::from_utf8_lossy(bytes);
    let mut before = 0;
    for item in &items {
        assert!(item.line > before && item.line as usize <= lines, "line {} after {before}", item.line);
        before = item.line;
        // Never-guess: an id is what stands there, digit for digit.
        if !text.contains('"') {
            assert!(text.contains(item.locator.trim()), "{:?}", item.locator);
        }
    }
}

/// An order file.
pub fn order_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match cli::parse_order_file(text) {
        // Where it holds is always said.
        Ok(order) => assert!(order.territory.is_some_and(|territory| territory.territory.is_some())),
        Err(why) => assert!(!why.is_empty()),
    }
}

/// The data files, and a journal's URL, of which no password is shown.
pub fn data_files(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = Regimes::parse(text);
    let _ = Groups::parse(text);
    let _ = Policy::parse(text);
    if let Ok(links) = Links::parse(text) {
        let _ = links.resolve("url", text);
    }
    if let Ok(url) = text.parse::<RedisUrl>() {
        if let Some(password) = &url.credentials.password {
            let shown = url.to_string();
            assert!(password.is_empty() || !shown.contains(&format!(":{password}@")), "{shown}");
        }
        let _ = redacted(text);
    }
}

/// The access file, and that of tokens.
pub fn access_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(file) = AccessFile::parse(text, Path::new("access.toml")) {
        let mut names: Vec<&str> = file.names().collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "a name is somebody's alone");
        assert!(names.iter().all(|name| file.by_name(name).is_some_and(|person| &*person.name == *name)));
    }
    in_a_file(bytes, |path| {
        if let Ok(tokens) = TokenFile::read(path) {
            // Whoever writes the file does not know the secret of any of these.
            assert!(tokens.verify("withheld_00000000_AAAA", jiff::Timestamp::UNIX_EPOCH).is_err());
        }
    });
}

/// Somebody whom a JWT makes known, and a JWT of theirs.
static KNOWN: LazyLock<(Access, String)> = LazyLock::new(|| {
    let key = rcgen::KeyPair::generate().unwrap();
    let point = key.public_key_raw();
    let [x, y] = [&point[1..33], &point[33..]].map(|half| URL_SAFE_NO_PAD.encode(half));
    let jwk = serde_json::json!({"kty": "EC", "crv": "P-256", "kid": "k", "alg": "ES256", "x": x, "y": y});
    let dir = tempfile::TempDir::new().unwrap();
    std::fs::write(dir.path().join("jwks.json"), serde_json::json!({"keys": [jwk]}).to_string()).unwrap();
    std::fs::write(dir.path().join("tokens.toml"), "").unwrap();
    let access = "tokens = \"tokens.toml\"\n[jwt]\nissuer = \"i\"\naudience = \"a\"\nalgorithms = [\"ES256\"]\n\
        jwks = \"jwks.json\"\n[[identity]]\nname = \"known\"\nroles = [\"reader\"]\nsubjects = [\"s\"]\n";
    std::fs::write(dir.path().join("access.toml"), access).unwrap();
    let access = Access::read(&dir.path().join("access.toml")).unwrap();
    let claims = serde_json::json!({"iss": "i", "aud": "a", "sub": "s", "exp": 4_000_000_000_u64});
    let header =
        jsonwebtoken::Header { kid: Some("k".into()), ..jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256) };
    let secret = jsonwebtoken::EncodingKey::from_ec_der(&key.serialize_der());
    (access, jsonwebtoken::encode(&header, &claims, &secret).unwrap())
});

/// An `authorization` header: any text, and a JWT that holds with some of its bytes replaced. Only what was signed gets in.
pub fn credential(bytes: &[u8]) {
    let (access, good) = &*KNOWN;
    let who = |header: &str| access.who(Some(header), None, jiff::Timestamp::UNIX_EPOCH);
    assert!(who(&format!("Bearer {good}")).is_ok());
    let text = String::from_utf8_lossy(bytes);
    assert!(who(&text).is_err() && who(&format!("Bearer {text}")).is_err(), "{text}");
    let mut bent = good.clone().into_bytes();
    for change in bytes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bent.len();
        bent[at] = change[2];
    }
    let Ok(bent) = String::from_utf8(bent) else { return };
    if who(&format!("Bearer {bent}")).is_ok() {
        // Of the last character of a signature, Base64 does not use every bit.
        let signed = |token: &str| token.rsplit_once('.').map(|(signed, _)| signed.to_owned());
        assert_eq!(signed(&bent), signed(good));
    }
}

/// A certificate: whoever is named by it is named by one thing.
pub fn certificate(bytes: &[u8]) {
    let Some(names) = Names::of(bytes) else { return };
    let name = names.name();
    if let Some(id) = name.strip_prefix("spiffe://") {
        let domain = id.split('/').next().unwrap_or_default();
        assert!(!domain.is_empty() && !domain.contains(['@', ':', '?', '#', '%']), "{name}");
        assert!(!id.split('/').any(|part| part == ".."), "{name}");
        assert!(name.len() <= 2_048);
    }
}

/// What a line of a list names. Never-guess: an account's id is these very digits.
pub fn locator(bytes: &[u8]) {
    use withheld::domain::ids::Subject;
    use withheld::domain::locator::Resolution;
    static LINKS: LazyLock<Links> = LazyLock::new(Links::builtin);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (kind, locator) = text.split_once('\n').unwrap_or(("account_id", text));
    for kind in [kind, "account_id", "post_id", "url"] {
        let resolution = LINKS.resolve(kind, locator);
        if let (Resolution::Subject(Subject::Account(id)), "account_id") = (resolution, kind) {
            assert!(locator.trim().trim_start_matches('0').contains(&id.get().to_string()), "{locator} {id:?}");
        }
        if let (Resolution::Subject(Subject::Post(id)), "url") = (resolution, kind) {
            assert!(locator.contains(&id.get().to_string()), "{locator} {id:?}");
        }
    }
}

/// A signed checkpoint and keys: what opens was signed by a key that is trusted.
pub fn note(bytes: &[u8]) {
    static KEY: LazyLock<(SigningKey, VerifierKey, String)> = LazyLock::new(|| {
        let key = SigningKey::generate("fuzz.example.org").unwrap();
        let verifier = key.verifier().clone();
        let checkpoint = Checkpoint {
            origin: "fuzz.example.org".into(),
            position: withheld::journal::Position::START,
            at: Some(jiff::Timestamp::UNIX_EPOCH),
        };
        let note = checkpoint.sign(std::slice::from_ref(&key));
        (key, verifier, note)
    });
    let (_, verifier, good) = &*KEY;
    let trusted = std::slice::from_ref(verifier);
    let opened = Checkpoint::open(good, trusted).unwrap();
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = text.parse::<VerifierKey>();
    let _ = text.parse::<SigningKey>();
    assert!(Checkpoint::open(text, trusted).is_err(), "{text}");
    let mut bent = good.clone().into_bytes();
    for change in bytes.chunks_exact(2) {
        let at = usize::from(change[0]) % bent.len();
        bent[at] = change[1];
    }
    if let Ok(bent) = String::from_utf8(bent)
        && let Ok(read) = Checkpoint::open(&bent, trusted)
    {
        assert_eq!(read.text(), opened.text(), "{bent}");
    }
}
