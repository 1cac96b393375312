//! Signed checkpoints and keys: what opens is what a trusted key has signed, and a key reads as it is printed.

use std::sync::LazyLock;

use super::{Checkpoint, SigningKey, VerifierKey};
use crate::journal::Position;

crate::fuzz::target!(notes, check);

struct Signed {
    trusted: [VerifierKey; 1],
    note: String,
    text: String,
}

static SIGNED: LazyLock<Signed> = LazyLock::new(|| {
    let key = SigningKey::generate("fuzz.example.org").unwrap();
    let trusted = [key.verifier().clone()];
    let made = Checkpoint { origin: "fuzz.example.org".to_owned(), position: Position::START, at: None };
    Signed { trusted, note: made.sign(std::slice::from_ref(&key)), text: made.text() }
});

/// As it came, and as places and bytes to bend a good note with.
fn check(input: &[u8]) {
    let Signed { trusted, note, text } = &*SIGNED;
    assert_eq!(Checkpoint::open(note, trusted).unwrap().text(), *text);
    let mut bent = note.clone().into_bytes();
    for change in input.chunks_exact(2) {
        let at = usize::from(change[0]) % bent.len();
        bent[at] = change[1];
    }
    if let Ok(bent) = String::from_utf8(bent)
        && let Ok(opened) = Checkpoint::open(&bent, trusted)
    {
        assert_eq!(opened.text(), *text, "{bent}");
    }
    let Ok(given) = std::str::from_utf8(input) else { return };
    assert!(Checkpoint::open(given, trusted).is_err(), "{given}");
    if let Ok(key) = given.parse::<VerifierKey>() {
        assert_eq!(key.to_string().parse(), Ok(key));
    }
    if let Ok(key) = given.parse::<SigningKey>() {
        assert_eq!(key.secret().parse::<SigningKey>().unwrap().secret(), key.secret());
    }
    if let Ok(checkpoint) = given.parse::<Checkpoint>() {
        assert_eq!(checkpoint.text().parse(), Ok(checkpoint));
    }
}
