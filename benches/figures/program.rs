//! Processes on cores of their own, and what they have had of the processor.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde::de::DeserializeOwned;

use crate::harness::{Service, serve};

/// The core of what is measured, and that of who asks.
pub const SERVER: &str = "0";
pub const CLIENT: &str = "1";
pub const BOTH: &str = "0,1";

/// A part of this program in a process of its own; killed when dropped.
pub struct Pinned {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Pinned {
    /// This program, with these arguments, on these cores.
    pub fn this(cores: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new("taskset");
        command.args(["-c", cores]).arg(std::env::current_exe().unwrap()).args(arguments);
        Self::of(command)
    }

    /// The same before everything else that could run there, if this user may ask for that.
    pub fn urgent(cores: &str, arguments: &[&str]) -> Self {
        let real_time = ["--fifo", "1"];
        let may = Command::new("chrt").args(real_time).arg("true").stderr(Stdio::null()).status();
        if !may.is_ok_and(|status| status.success()) {
            eprintln!(
                "  without real-time priority: what is told of waits has in it what this machine makes the client wait"
            );
            return Self::this(cores, arguments);
        }
        let mut command = Command::new("taskset");
        command.args(["-c", cores, "chrt"]).args(real_time).arg(std::env::current_exe().unwrap()).args(arguments);
        Self::of(command)
    }

    fn of(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it says.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.out.read_line(&mut line).unwrap(), 0, "a part of the benchmark has ended before it was done");
        line.trim_end().to_owned()
    }

    /// The one thing that it says.
    pub fn answer<T: DeserializeOwned>(mut self) -> T {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// The same once it is told to stop.
    pub fn stop<T: DeserializeOwned>(mut self) -> T {
        drop(self.child.stdin.take());
        self.answer()
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The service as it ships on these cores, on a journal, with more flags.
pub async fn service_on(cores: &str, journal: &Path, flags: &[&str]) -> Service {
    let service = start_on(cores, journal, flags);
    service.serving().await;
    service
}

/// The same, as soon as it listens.
pub fn start_on(cores: &str, journal: &Path, flags: &[&str]) -> Service {
    let given = serve(journal);
    let mut command = Command::new("taskset");
    command.args(["-c", cores]).arg(given.get_program()).args(given.get_args()).args(flags);
    command.envs(given.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Service::of(command)
}

/// Moves a running process to these cores.
pub fn pin(pid: u32, cores: &str) {
    let pinned =
        Command::new("taskset").args(["-a", "-p", "-c", cores, &pid.to_string()]).stdout(Stdio::null()).status();
    assert!(pinned.unwrap().success());
}

/// Moves the threads for queries of a running service to these cores.
pub fn pin_queries(pid: u32, cores: &str) {
    for (thread, _) in Cpu::of(pid).queries() {
        let pinned =
            Command::new("taskset").args(["-p", "-c", cores, &thread.to_string()]).stdout(Stdio::null()).status();
        assert!(pinned.unwrap().success());
    }
}

/// How long each thread of a process has had the processor for, in nanoseconds, as the scheduler counts it.
pub struct Cpu(BTreeMap<u32, (String, u64)>);

impl Cpu {
    pub fn of(pid: u32) -> Self {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let threads = threads.filter_map(|thread| {
            // One that ends meanwhile is none any more.
            let thread = thread.ok()?;
            let read = |name| std::fs::read_to_string(thread.path().join(name)).ok();
            let nanos = read("schedstat")?.split(' ').next()?.parse().ok()?;
            Some((thread.file_name().to_str()?.parse().ok()?, (read("comm")?.trim_end().to_owned(), nanos)))
        });
        Self(threads.collect())
    }

    /// What has come since then.
    pub fn since(self, before: &Self) -> Self {
        let since = |(id, (name, nanos)): (u32, (String, u64))| {
            let had = before.0.get(&id).map_or(0, |(_, nanos)| *nanos);
            (id, (name, nanos - had))
        };
        Self(self.0.into_iter().map(since).collect())
    }

    /// Of all threads, in seconds.
    pub fn all(&self) -> f64 {
        self.0.values().map(|(_, nanos)| *nanos as f64 / 1e9).sum()
    }

    fn queries(&self) -> impl Iterator<Item = (u32, u64)> {
        self.0.iter().filter(|(_, (name, _))| name == "query").map(|(id, (_, nanos))| (*id, *nanos))
    }

    /// Of each thread for queries, in seconds.
    pub fn query_threads(&self) -> Vec<f64> {
        self.queries().map(|(_, nanos)| nanos as f64 / 1e9).collect()
    }
}

/// A line of /proc/PID/status, in bytes.
pub fn memory(pid: u32, line: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
}
