//! The figures of the README, measured on the program as it ships: `make bench`, or some rows of it by name:
//! `cargo bench --bench figures -- check batch`.
//!
//! What is compared is measured in turn, in one run, on the same machine: the ratio of each round is of two measurements
//! made one right after the other. What a server takes is told in time of a core, which does not change with whatever
//! else the machine has to do; it has one core, and whoever asks has the other. Baselines and load generators are this
//! same program, run again in another part.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a benchmark stops where something is wrong, and reads the clock"
)]

mod alloc;
mod client;
mod data;
mod echo;
mod load;
mod machine;
mod program;
mod rows;
mod table;

#[path = "../../tests/it/harness.rs"]
#[allow(dead_code, clippy::expect_used, clippy::zombie_processes, reason = "made for the tests")]
mod harness;
#[path = "../../tests/it/redis/mod.rs"]
#[allow(dead_code, unused_imports, clippy::expect_used, clippy::zombie_processes, reason = "made for the tests")]
mod redis;

use std::path::Path;

use table::Figure;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/FIGURES.md");

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<usize>().unwrap();
    match *arguments.as_slice() {
        // `cargo test --benches` only wants to know that it builds.
        ["--test", ..] => {}
        [echo::ROLE] => echo::run(None),
        [echo::ROLE, certificate, key] => echo::run(Some((certificate.into(), key.into()))),
        ["load", load] => load::run(load),
        ["members", members] => load::resp::run(members),
        ["index", what, size] => rows::index::run(what, data::Size(number(size) as u64)),
        ["pace", to, rate, file] => load::pace::run(to, rate.parse().unwrap(), Path::new(file)),
        ["watch", to, connections, streams, after] => {
            load::watch::run(to, number(connections), number(streams), number(after) as u64);
        }
        ref names => measure(names),
    }
}

/// Measures the rows of these names, or all, and then writes the file.
#[tokio::main]
async fn measure(names: &[&str]) {
    let known: Vec<&str> = rows::ALL.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        eprintln!("there is no row `{unknown}`; there are {}", known.join(", "));
        std::process::exit(2);
    }
    let journals = data::Journals::mk();
    let mut figures: Vec<Figure> = Vec::new();
    for (name, row) in rows::ALL.iter().filter(|(name, _)| names.is_empty() || names.contains(name)) {
        eprintln!("{name} …");
        let measured = row(&journals).await;
        println!("{}", table::plain(&measured));
        figures.extend(measured);
        if names.is_empty() {
            std::fs::write(FILE, file(&figures)).unwrap();
        }
    }
    if names.len() != 1 {
        print!("{}", table::plain(&figures));
    }
}

fn file(figures: &[Figure]) -> String {
    format!(
        "# Figures\n\nWritten by `make bench`; `cargo bench --bench figures -- NAME…` measures some rows alone: {names}.\n\n\
         {machine}\nA ratio is the median of those of the rounds, each of two measurements made one right after the other: how \
         many times as\nmuch of a core the baseline takes, where both are times.\n\n{figures}",
        names = rows::ALL.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        machine = machine::table(),
        figures = table::markdown(figures),
    )
}
