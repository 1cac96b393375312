//! Every decoder that sees outside bytes, over the fuzzer's corpus and what comes of that by chance: a second or two of what
//! `make fuzz` does for minutes. The changes are the same in every run.

use std::path::Path;
use std::time::{Duration, Instant};

#[path = "../../fuzz/targets.rs"]
mod targets;

/// How long each is tried; the corpus itself is always gone through.
const TIME: Duration = Duration::from_secs(1);

/// Bytes of which decoders make something else.
const ODD: &[&[u8]] = &[
    &[0],
    &[0xff],
    &[0x80],
    b"\n",
    b"\"",
    b"'",
    b",",
    b"=",
    b"[",
    b"0",
    &[0xff; 9],
    b"\xef\xbb\xbf",
    b"\xf0\x9f\x87\xae",
];

/// One input, changed as a careless disk or a careful stranger would.
fn bent(from: &[u8], other: &[u8], chance: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = from.to_vec();
    for _ in 0..chance.usize(1..=4) {
        let at = chance.usize(..=bytes.len());
        match chance.u8(..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << chance.u8(..8),
            1 => bytes.truncate(at),
            2 => drop(bytes.splice(at..at, chance.choice(ODD).unwrap_or(&ODD[0]).iter().copied())),
            3 => drop(bytes.drain(at..(at + chance.usize(..=8)).min(bytes.len()))),
            4 => {
                let from = chance.usize(..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => {
                let twice = bytes[at..(at + chance.usize(..=32)).min(bytes.len())].to_vec();
                bytes.splice(at..at, twice);
            }
        }
    }
    bytes
}

/// Goes through a target's corpus, and on from there.
fn try_out(name: &str, target: fn(&[u8])) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
    let mut paths: Vec<_> = std::fs::read_dir(&seeds).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let corpus: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(!corpus.is_empty(), "{name} has nothing to begin with");
    corpus.iter().for_each(|bytes| target(bytes));
    let (began, mut chance) = (Instant::now(), fastrand::Rng::with_seed(1_435));
    while began.elapsed() < TIME {
        let [from, other] = [chance.usize(..corpus.len()), chance.usize(..corpus.len())];
        let bytes = bent(&corpus[from], &corpus[other], &mut chance);
        let shown = bytes.clone();
        if std::panic::catch_unwind(move || target(&bytes)).is_err() {
            panic!("{name} does not bear these bytes: {}", shown.escape_ascii());
        }
    }
}

macro_rules! fuzzed {
    ($($name:ident)*) => { $(
        #[test]
        fn $name() {
            try_out(stringify!($name), targets::$name);
        }
    )* };
}

fuzzed!(entry snapshot request list order_file data_files access_file credential certificate locator note);
