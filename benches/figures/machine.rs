//! On what, and of what, the figures are.

use std::process::Command;

fn first(text: &str, name: &str) -> String {
    let found = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    found.trim_start_matches([' ', '\t', ':']).trim().to_owned()
}

fn file(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn locked(package: &str) -> String {
    let lock = include_str!("../../Cargo.lock");
    let entry = lock.split("[[package]]\n").find(|entry| first(entry, "name = ") == format!("\"{package}\""));
    first(entry.unwrap_or_default(), "version = ").trim_matches('"').to_owned()
}

/// As a table of Markdown.
pub fn table() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory: f64 = first(&file("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse().unwrap_or_default();
    let changed =
        if said("git", &["status", "--porcelain", "--untracked-files=no", ".", ":!benches/FIGURES.md"]).is_empty() {
            ""
        } else {
            ", changed"
        };
    let redis = said("redis-server", &["--version"]);
    let redis = if redis.is_empty() { said("target/test-redis/redis-server", &["--version"]) } else { redis };
    let redis = redis.split_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or("none").to_owned();
    let rows = [
        ("processor", format!("{}, {cores} cores", first(&file("/proc/cpuinfo"), "model name"))),
        ("memory", format!("{:.0} GiB", memory / f64::from(1 << 20))),
        ("kernel", file("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("rustc", said("rustc", &["--version"])),
        ("this program", format!("commit {}{changed}", said("git", &["rev-parse", "--short=12", "HEAD"]))),
        ("tonic, h2, tokio", ["tonic", "h2", "tokio"].map(locked).join(", ")),
        ("redis-server", redis),
        ("date", said("date", &["-u", "+%Y-%m-%d"])),
    ];
    let rows: String = rows.iter().map(|(what, is)| format!("| {what} | {is} |\n")).collect();
    format!("| | |\n|---|---|\n{rows}")
}
