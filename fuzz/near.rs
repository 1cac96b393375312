//! What the fuzz targets share: how one is run, and inputs near those of its corpus.
//!
//! Each target is a file beside this one, and a private module of what it tests, so that nothing is made public for it.
//! Under plain `cargo test` it is run for half a second: on its corpus, on random bytes, and on what lies near the corpus.
//! `make fuzz` runs it for long, led by coverage.

use std::path::Path;
use std::time::Duration;

/// How long a target is run under plain `cargo test`.
pub(crate) const SHORT: Duration = Duration::from_millis(500);

/// Defines a target: a test by this name, of a function that panics on an input that shows a fault.
macro_rules! target {
    ($name:ident, $check:path) => {
        #[test]
        fn $name() {
            let near = $crate::fuzz::Near::of(stringify!($name));
            let target = bolero::check!(name = stringify!($name)).with_test_time($crate::fuzz::SHORT);
            // An input is shown as it is: it goes into the corpus, once the fault is mended.
            let target = target.with_shrink_time(std::time::Duration::ZERO);
            target.for_each(|input: &[u8]| {
                $check(input);
                if let Some(input) = near.input(input) {
                    let _said = $crate::fuzz::Said(&input);
                    $check(&input);
                }
            });
        }
    };
}
pub(crate) use target;

/// A target's corpus, for a fuzzer that knows of none.
pub(crate) struct Near(Vec<Vec<u8>>);

impl Near {
    pub(crate) fn of(name: &str) -> Self {
        if cfg!(fuzzing) {
            return Self(Vec::new());
        }
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/__fuzz__").join(name).join("corpus");
        let files = std::fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        Self(files.iter().map(|file| std::fs::read(file).unwrap()).collect())
    }

    /// An input of the corpus with some bytes changed, inserted, removed or repeated, as a recipe says.
    pub(crate) fn input(&self, recipe: &[u8]) -> Option<Vec<u8>> {
        let (which, edits) = recipe.split_at_checked(2)?;
        let mut input = self.0.get(number(which).checked_rem(self.0.len())?)?.clone();
        for edit in edits.chunks_exact(4).take(4) {
            let at = number(&edit[..2]) % (input.len() + 1);
            match edit[2] % 4 {
                0 if at < input.len() => input[at] = edit[3],
                1 => input.insert(at, edit[3]),
                2 => drop(input.drain(at..input.len().min(at + usize::from(edit[3] % 8)))),
                _ => {
                    let again = input[at..input.len().min(at + usize::from(edit[3]))].to_vec();
                    input.splice(at..at, again);
                }
            }
        }
        Some(input)
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// Says what the input was, if its check panics.
pub(crate) struct Said<'a>(pub(crate) &'a [u8]);

impl Drop for Said<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input, near the corpus: b\"{}\"", self.0.escape_ascii());
        }
    }
}

/// The parts of an input between bytes that no text has.
pub(crate) fn parts<const N: usize>(input: &[u8]) -> Option<[String; N]> {
    let parts: Vec<String> =
        input.splitn(N, |byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    parts.try_into().ok()
}
