//! How many instructions the hot paths take, and how many they may: `make instructions`.
//!
//! Time differs from machine to machine and from minute to minute; instructions do not, so that a change which makes a hot
//! path dearer is seen at once, on any machine, however busy. Valgrind counts those of a whole process. Each path is gone
//! through a few times and many times, and the difference divided by the difference: start and end fall out, and nothing
//! has to be told apart from what is measured. Calls go to the service as it ships, through a socket.
//!
//! Counted is what the tests are built as (the dev profile), so that CI builds nothing twice: the limits are above what the
//! release build takes, and what makes one dearer makes the other dearer. Another compiler counts differently: whoever
//! changes it writes the limits anew, from what this prints.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a benchmark stops where something is wrong"
)]

#[path = "../figures/client/mod.rs"]
#[allow(dead_code, reason = "made for the figures")]
mod client;
#[path = "../figures/data.rs"]
#[allow(dead_code, reason = "made for the figures")]
mod data;
#[path = "../../tests/it/harness.rs"]
#[allow(dead_code, clippy::expect_used, clippy::zombie_processes, reason = "made for the tests")]
mod harness;
mod paths;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, ExitCode};

use client::{Ask, Asker, Wire};
use data::{Size, copy_of};
use harness::{Service, serve};
use tempfile::TempDir;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Accounts that are withheld.
pub const SIZE: Size = Size(100_000);
/// A path that takes so much less than it may has got cheaper: the limit is to follow.
const TOO_MUCH_ROOM: f64 = 0.9;

/// A path, how often it is gone through, and how many instructions one time may take: three in a hundred more than it did
/// when this was written.
struct Limit {
    name: &'static str,
    few: u64,
    many: u64,
    most: u64,
}

const LIMITS: [Limit; 7] = [
    // One call of eight that come and go together, all that the process does for it.
    Limit { name: "check", few: 1_000, many: 11_000, most: 48_300 },
    // 500 accounts, five of them withheld.
    Limit { name: "batch", few: 200, many: 3_200, most: 109_200 },
    // 500 verdicts from a snapshot.
    Limit { name: "verdicts", few: 20, many: 520, most: 31_000 },
    // The notices of a batch of 9,000 accounts that are withheld under 3,000 of them.
    Limit { name: "notices", few: 2, many: 52, most: 4_504_000 },
    // An order of 1,435 accounts, folded in and published.
    Limit { name: "apply", few: 2, many: 22, most: 2_830_000 },
    // Its entry, written and read.
    Limit { name: "encode", few: 5, many: 55, most: 736_000 },
    // A tenth of it is finding out that nothing was left unread: an entry of a newer program says so.
    Limit { name: "decode", few: 5, many: 55, most: 277_400 },
];

/// What goes on for a fixed time, and so takes as many instructions as there is time for: at the start, the library that
/// keeps the metrics holds its clock against the system's.
const BY_THE_CLOCK: [&str; 2] = ["once_cell::imp::OnceCell<T>::initialize::{{closure}}", "clock_gettime@@GLIBC"];

/// A command that counts its instructions, function by function, into a file.
fn counting(command: &Command, file: &Path) -> Command {
    let mut counting = Command::new("valgrind");
    counting.args(["--tool=cachegrind", "--cache-sim=no", "--log-file=/dev/null"]);
    counting.arg(format!("--cachegrind-out-file={}", file.display()));
    counting.arg(command.get_program()).args(command.get_args());
    counting.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    counting
}

/// What it wrote there: after `fn=NAME`, a line `LINE COUNT` for each line of it.
fn counted(file: &Path) -> u64 {
    let text = std::fs::read_to_string(file).unwrap();
    let (mut all, mut counts) = (0, true);
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("fn=") {
            counts = !BY_THE_CLOCK.iter().any(|prefix| name.starts_with(prefix));
        } else if counts && line.starts_with(|first: char| first.is_ascii_digit()) {
            all += line.split(' ').nth(1).unwrap().parse::<u64>().unwrap();
        }
    }
    assert!(all > 0, "valgrind has not counted");
    all
}

/// The instructions of a process that goes through a path so many times.
fn instructions(name: &str, times: u64, journal: &Path) -> u64 {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("counted");
    let (ask, together) = match name {
        "check" => (Ask::Check, 8),
        "batch" => (Ask::Batch { size: 500, known: SIZE.0 }, 1),
        _ => {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args([name, &times.to_string()]);
            assert!(counting(&command, &file).status().unwrap().success());
            return counted(&file);
        }
    };
    let service = Service::of(counting(&serve(&copy_of(journal, dir.path())), &file));
    while !service.log().contains(" serving\n") {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    call(service.queries.trim_start_matches("http://"), ask, times, together);
    assert!(service.stop().success());
    counted(&file)
}

/// Calls, so many of them at once, each time once those before are all answered.
fn call(to: &str, ask: Ask, calls: u64, together: usize) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut wire = Wire::new("http", to, ask.path());
    let mut asker = Asker::new(ask, 1);
    let (mut buffer, mut events, mut answered) = (vec![0; 64 << 10], Vec::new(), 0);
    while answered < calls {
        for _ in 0..together {
            assert!(wire.may_send(asker.longest()));
            wire.call(asker.next());
        }
        while wire.waiting() > 0 {
            stream.write_all(&std::mem::take(&mut wire.out)).unwrap();
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "the service has closed the connection");
            wire.take(&buffer[..read], &mut events);
        }
        for event in events.drain(..) {
            assert!(matches!(event, client::Event::Ended { ok: true, .. }), "{event:?}");
            answered += 1;
        }
    }
}

/// A journal with a snapshot beside it.
fn mk_journal(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("journal.db");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(data::write(&path, SIZE.entries(&withheld::domain::rules::Rules::builtin()), 16));
    path
}

/// Measures the paths of these names, or all; whether none takes more than it may.
fn measure(names: &[&str]) -> bool {
    let dir = TempDir::new().unwrap();
    let journal = mk_journal(dir.path());
    let mut all_well = true;
    for limit in LIMITS.iter().filter(|limit| names.is_empty() || names.contains(&limit.name)) {
        let (few, many) = std::thread::scope(|scope| {
            let few = scope.spawn(|| instructions(limit.name, limit.few, &journal));
            let many = instructions(limit.name, limit.many, &journal);
            (few.join().unwrap(), many)
        });
        let each = many.saturating_sub(few) / (limit.many - limit.few);
        let verdict = if each > limit.most {
            all_well = false;
            "TOO MANY"
        } else if (each as f64) < limit.most as f64 * TOO_MUCH_ROOM {
            "fewer than before: lower the limit"
        } else {
            "well"
        };
        println!("{:<10} {each:>12} instructions, at most {:>12}   {verdict}", limit.name, limit.most);
    }
    all_well
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments.as_slice() {
        // `cargo test --benches` only wants to know that it builds.
        ["--test", ..] => ExitCode::SUCCESS,
        [name, times] if times.bytes().all(|digit| digit.is_ascii_digit()) => {
            paths::go(name, times.parse().unwrap());
            ExitCode::SUCCESS
        }
        ref names if measure(names) => ExitCode::SUCCESS,
        _ => {
            eprintln!("a hot path takes more instructions than it may: benches/instructions/main.rs has the limits");
            ExitCode::FAILURE
        }
    }
}
