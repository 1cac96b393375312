//! A server process that cannot outlive the test: not a panic, not an abort, not a `kill -9` of the whole test run.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Becomes the server, beside a watcher that kills the server's process group once its own standard input ends: that is
/// a pipe whose other end only the test has, and the kernel closes it whatever the test dies of. If the test has not
/// said a word before, it was killed, or has the server in a static, and nobody else tidies up.
const WATCHED: &str = r#"
    exec 3<&0
    (read -r _ <&3 || { kill -KILL $$; rm -rf "$SERVER_DIR"; }; kill -KILL -$$) &
    exec 3<&-
    exec "$@" </dev/null >&2
"#;

/// A running server; killed when dropped, stopped or not.
pub struct Process {
    child: Child,
    lifeline: Option<ChildStdin>,
    watcher: ChildStdout,
}

impl Process {
    /// Starts a program in a directory of its own; what it says is appended to the log.
    pub fn spawn(program: &Path, args: &[&str], dir: &Path, log: &Path) -> Self {
        let said = File::options().create(true).append(true).open(log).unwrap();
        let mut child = Command::new("sh")
            .args(["-c", WATCHED, "sh"])
            .arg(program)
            .args(args)
            .current_dir(dir)
            .env("SERVER_DIR", dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(said)
            // A group of its own: Ctrl-C in the terminal reaches the test, which takes its servers along.
            .process_group(0)
            .spawn()
            .unwrap();
        let (lifeline, watcher) = (child.stdin.take(), child.stdout.take().unwrap());
        Self { child, lifeline, watcher }
    }

    /// The server's own process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it ended by itself.
    pub fn ended(&mut self) -> bool {
        // Not reaped here: until it is, its process id cannot become somebody else's.
        matches!(self.state(), None | Some('Z' | 'X'))
    }

    /// SIGSTOP, and waits until it stands still.
    pub fn pause(&self) {
        self.signal("-STOP");
        while self.state() != Some('T') {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.pid().to_string()]).status().unwrap();
        assert!(sent.success(), "`kill {signal} {}` failed", self.pid());
    }

    /// The kernel's letter for what it is doing.
    fn state(&self) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        // The watcher goes before the server is reaped, so that it cannot hit another process of the same id.
        if let Some(mut lifeline) = self.lifeline.take() {
            let _ = lifeline.write_all(b"\n");
        }
        let _ = self.watcher.read_to_end(&mut Vec::new());
        let _ = self.child.wait();
    }
}

mod tests {
    use tempfile::TempDir;

    use super::*;

    fn name(pid: u32) -> Option<String> {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()
    }

    /// One that stands still, once it has become what was asked for.
    fn mk_paused() -> (TempDir, Process) {
        let dir = TempDir::new().unwrap();
        let process = Process::spawn(Path::new("sleep"), &["1000"], dir.path(), &dir.path().join("log"));
        while name(process.pid()).is_none_or(|name| name != "sleep\n") {
            std::thread::sleep(Duration::from_millis(1));
        }
        process.pause();
        (dir, process)
    }

    #[test]
    fn a_process_is_gone_when_dropped_even_if_it_stands_still() {
        let (dir, process) = mk_paused();
        let pid = process.pid();
        drop(process);
        assert_eq!(name(pid), None);
        assert!(dir.path().exists(), "its data is there for the next one");
    }

    /// What happens when the test is killed: the kernel closes its end of the pipe, and nothing else.
    #[test]
    fn a_process_dies_with_the_test_and_its_directory_goes_with_it() {
        let (dir, mut process) = mk_paused();
        assert!(!process.ended());
        process.lifeline = None;
        while !process.ended() || dir.path().exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
