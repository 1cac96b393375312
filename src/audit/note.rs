//! Signed notes, as <https://c2sp.org/signed-note> has them, with Ed25519 keys: a text, and lines of signatures by named keys.
//!
//! Texts and keys are those of Go's `golang.org/x/mod/sumdb/note`, so that other tools verify what is signed here. Whoever
//! verifies trusts some keys; signatures by others are ignored, so a note signed by an old and a new key holds for both.
//! Knows nothing of what a note says.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use sha2::{Digest as _, Sha256};

/// The type of an Ed25519 key, in front of its bytes.
const ED25519_KEY: u8 = 1;
const PRIVATE: &str = "PRIVATE+KEY";
const DASH: &str = "\u{2014} ";
/// Go's verifier takes no more either.
const MOST_SIGNATURES: usize = 100;

/// A text that is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A name that cannot be one.
    #[error("`{0}` cannot name a key: give it a name without spaces and `+`, such as `withheld.example.org`")]
    Name(String),
    /// Not in the form of a verifier key.
    #[error("`{0}` is no verifier key: it looks like NAME+HASH+BASE64, and `withheld journal key show FILE` prints it")]
    Verifier(String),
    /// Not in the form of a signing key. It is not repeated: it may be one after all.
    #[error("it is no signing key: it looks like {PRIVATE}+NAME+HASH+BASE64, and `withheld journal key new` makes one")]
    Signing,
    /// A signing key was given where a verifier key belongs. It is not repeated.
    #[error(
        "this is a signing key, which is to be kept secret: give the verifier key, which `withheld journal key show FILE` prints"
    )]
    Secret,
    /// Its parts do not belong together.
    #[error("the key of `{0}` is damaged: its hash does not match")]
    Hash(String),
    /// The system has none.
    #[error("the operating system gives no random bytes")]
    Random,
}

/// What makes a note's signature no signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not in the form of a note.
    #[error("it is no signed note: {0}")]
    Malformed(&'static str),
    /// A trusted key's name and hash stand there, and it did not sign this.
    #[error("the signature by the trusted key `{0}` does not match what is signed")]
    BadSignature(String),
    /// Nobody who is trusted signed it.
    #[error("no trusted key has signed it: it is signed by {0}")]
    Untrusted(String),
}

fn valid_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c == '+' || c.is_whitespace() || c.is_control())
}

/// Bytes from Base64 in the one way that encodes them.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}

pub(super) fn to_base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Names a key beside its name, so that a key and its successor may have the same one.
fn key_id(name: &str, public: &[u8]) -> [u8; 4] {
    let hash = Sha256::new().chain_update(name).chain_update(b"\n").chain_update([ED25519_KEY]).chain_update(public);
    let [a, b, c, d, ..] = <[u8; 32]>::from(hash.finalize());
    [a, b, c, d]
}

fn id_text([a, b, c, d]: [u8; 4]) -> String {
    format!("{a:02x}{b:02x}{c:02x}{d:02x}")
}

/// A public key with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    public: [u8; 32],
}

impl VerifierKey {
    fn new(name: &str, public: [u8; 32]) -> Self {
        Self { name: name.to_owned(), id: key_id(name, &public), public }
    }

    /// Whose it is.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[ED25519_KEY], self.public.as_slice()].concat();
        write!(f, "{}+{}+{}", self.name, id_text(self.id), to_base64(&key))
    }
}

/// The name, the hash and the bytes of a key, `None` if the text is not in that form.
fn parts(text: &str) -> Option<(&str, &str, [u8; 32])> {
    let mut parts = text.splitn(3, '+');
    let (name, id, key) = (parts.next()?, parts.next()?, base64(parts.next()?)?);
    let (kind, key) = key.split_first()?;
    let key = key.try_into().ok().filter(|_| *kind == ED25519_KEY && valid_name(name))?;
    Some((name, id, key))
}

impl FromStr for VerifierKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.starts_with(PRIVATE) {
            return Err(KeyError::Secret);
        }
        let (name, id, public) = parts(text).ok_or_else(|| KeyError::Verifier(text.to_owned()))?;
        let key = Self::new(name, public);
        if id_text(key.id) == id { Ok(key) } else { Err(KeyError::Hash(name.to_owned())) }
    }
}

/// A private key with its name.
pub struct SigningKey {
    verifier: VerifierKey,
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.verifier)
    }
}

impl SigningKey {
    /// A new key.
    ///
    /// # Errors
    /// If the name cannot be one, or the system has no random bytes.
    pub fn generate(name: &str) -> Result<Self, KeyError> {
        if !valid_name(name) {
            return Err(KeyError::Name(name.to_owned()));
        }
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| KeyError::Random)?;
        Self::from_seed(name, seed)
    }

    fn from_seed(name: &str, seed: [u8; 32]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| KeyError::Signing)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| KeyError::Signing)?;
        Ok(Self { verifier: VerifierKey::new(name, public), seed, pair })
    }

    /// The public half.
    #[must_use]
    pub const fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// As it is kept in a file: secret.
    #[must_use]
    pub fn secret(&self) -> String {
        let key = [&[ED25519_KEY], self.seed.as_slice()].concat();
        format!("{PRIVATE}+{}+{}+{}", self.verifier.name, id_text(self.verifier.id), to_base64(&key))
    }
}

impl FromStr for SigningKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let rest = text.trim().strip_prefix(PRIVATE).and_then(|rest| rest.strip_prefix('+'));
        let (name, id, seed) = rest.and_then(parts).ok_or(KeyError::Signing)?;
        let key = Self::from_seed(name, seed)?;
        if id_text(key.verifier.id) == id { Ok(key) } else { Err(KeyError::Hash(name.to_owned())) }
    }
}

/// Signs a text, which ends in a newline, with each of some keys.
#[must_use]
pub fn sign(text: &str, keys: &[SigningKey]) -> String {
    let mut note = format!("{text}\n");
    for key in keys {
        let signature = key.pair.sign(text.as_bytes());
        let signature = to_base64(&[&key.verifier.id, signature.as_ref()].concat());
        // Writing into a text cannot fail.
        let _ = writeln!(note, "{DASH}{} {signature}", key.verifier.name);
    }
    note
}

/// A signature of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Signature {
    name: String,
    id: [u8; 4],
    bytes: Vec<u8>,
}

/// A text with signatures, of which nothing is verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

impl Note {
    /// What is signed, only to be believed once it is verified.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a key that is trusted has signed it, and which.
    ///
    /// # Errors
    /// If none has, or a signature that bears a trusted key's name and hash is not its.
    pub fn verify<'a>(&self, trusted: &'a [VerifierKey]) -> Result<&'a VerifierKey, NoteError> {
        let mut by = None;
        for signature in &self.signatures {
            let Some(key) = trusted.iter().find(|key| key.name == signature.name && key.id == signature.id) else {
                continue;
            };
            let verified = UnparsedPublicKey::new(&ED25519, key.public).verify(self.text.as_bytes(), &signature.bytes);
            verified.map_err(|_| NoteError::BadSignature(key.name.clone()))?;
            by = by.or(Some(key));
        }
        let signers = || self.signatures.iter().map(|s| format!("`{}+{}`", s.name, id_text(s.id))).collect::<Vec<_>>();
        by.ok_or_else(|| NoteError::Untrusted(signers().join(", ")))
    }
}

impl FromStr for Note {
    type Err = NoteError;
    fn from_str(note: &str) -> Result<Self, NoteError> {
        let malformed = NoteError::Malformed;
        if note.contains(|c: char| c.is_ascii_control() && c != '\n') {
            return Err(malformed("it has control characters in it"));
        }
        let end = note.rfind("\n\n").ok_or(malformed("there is no empty line between text and signatures"))?;
        let (text, lines) = note.split_at(end + 1);
        let lines = lines.strip_prefix('\n').and_then(|lines| lines.strip_suffix('\n'));
        let lines = lines.ok_or(malformed("its last line is not whole"))?;
        let mut signatures = Vec::new();
        for line in lines.split('\n') {
            let signature = signature(line).ok_or(malformed("a line after the empty one is no signature"))?;
            signatures.push(signature);
        }
        if signatures.len() > MOST_SIGNATURES {
            return Err(malformed("it has more than a hundred signatures"));
        }
        Ok(Self { text: text.to_owned(), signatures })
    }
}

fn signature(line: &str) -> Option<Signature> {
    let (name, signature) = line.strip_prefix(DASH)?.split_once(' ')?;
    let signature = base64(signature).filter(|_| valid_name(name))?;
    let (id, bytes) = signature.split_first_chunk().filter(|(_, bytes)| !bytes.is_empty())?;
    Some(Signature { name: name.to_owned(), id: *id, bytes: bytes.to_vec() })
}
