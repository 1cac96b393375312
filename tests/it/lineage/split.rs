//! A network that comes apart: the primary with one of its replicas and a desk here, the Sentinels with the other replicas and
//! another desk there. Neither side may acknowledge what the other may contradict.
//!
//! Each side is a network namespace of its own, which takes root; elsewhere the test says that it was skipped.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::BINARY;
use crate::redis::program::ServerProgram;

const SENTINELS: [u16; 3] = [26_001, 26_002, 26_003];
const LIMIT: Duration = Duration::from_secs(60);

/// One side of the network.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Here,
    There,
}

impl Side {
    const fn address(self) -> &'static str {
        match self {
            Self::Here => "10.77.0.1",
            Self::There => "10.77.0.2",
        }
    }
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Two namespaces with a cable in between, and what runs in them; gone when dropped.
struct Network {
    dir: TempDir,
    names: [String; 2],
    running: Vec<Child>,
}

impl Network {
    fn mk() -> Self {
        let names = ["here", "there"].map(|side| format!("wh-{}-{side}", std::process::id()));
        for name in &names {
            run("ip", &["netns", "add", name]);
            run("ip", &["-n", name, "link", "set", "lo", "up"]);
        }
        let [here, there] = &names;
        run("ip", &["-n", here, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", there]);
        for (name, side) in names.iter().zip([Side::Here, Side::There]) {
            run("ip", &["-n", name, "address", "add", &format!("{}/24", side.address()), "dev", "cable"]);
            run("ip", &["-n", name, "link", "set", "cable", "up"]);
        }
        Self { dir: TempDir::new().unwrap(), names, running: Vec::new() }
    }

    fn name(&self, side: Side) -> &str {
        &self.names[usize::from(side == Side::There)]
    }

    fn cut(&self) {
        run("ip", &["-n", self.name(Side::Here), "link", "set", "cable", "down"]);
    }

    fn mend(&self) {
        run("ip", &["-n", self.name(Side::Here), "link", "set", "cable", "up"]);
    }

    fn inside(&self, side: Side, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.name(side), program]).stdin(Stdio::null());
        command
    }

    fn start(&mut self, name: &str, mut command: Command) {
        let log = std::fs::File::create(self.dir.path().join(format!("{name}.log"))).unwrap();
        self.running.push(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    }

    fn redis(&mut self, side: Side, port: u16, replica: bool) {
        let dir = self.dir.path().join(port.to_string());
        std::fs::create_dir(&dir).unwrap();
        let mut command = self.inside(side, &ServerProgram::from_env().file().display().to_string());
        command.args(["--port", &port.to_string(), "--bind", "0.0.0.0", "--protected-mode", "no", "--save", ""]);
        command.args(["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"]);
        command.args(["--repl-diskless-sync-delay", "0", "--repl-timeout", "5", "--repl-ping-replica-period", "1"]);
        command.args(["--replica-announce-ip", side.address(), "--dir", &dir.display().to_string()]);
        if replica {
            command.args(["--replicaof", &format!("{} 7001", Side::Here.address())]);
        }
        self.start(&format!("redis-{port}"), command);
    }

    fn sentinel(&mut self, port: u16) {
        let dir = self.dir.path().join(port.to_string());
        std::fs::create_dir(&dir).unwrap();
        let file = dir.join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 0.0.0.0\nprotected-mode no\ndir {}\nsentinel announce-ip {}\nsentinel monitor withheld {} 7001 2\n\
             sentinel down-after-milliseconds withheld 1000\nsentinel failover-timeout withheld 4000\n",
            dir.display(),
            Side::There.address(),
            Side::Here.address(),
        );
        std::fs::write(&file, text).unwrap();
        let mut command = self.inside(Side::There, &ServerProgram::from_env().file().display().to_string());
        command.arg(&file).arg("--sentinel");
        self.start(&format!("sentinel-{port}"), command);
    }

    fn url() -> String {
        let sentinels = SENTINELS.map(|port| format!("{}:{port}", Side::There.address()));
        format!("redis+sentinel://{}/withheld", sentinels.join(","))
    }

    fn history(&self, side: Side) -> PathBuf {
        self.dir.path().join(format!("{}.history", self.name(side)))
    }

    fn service(&mut self, side: Side) {
        let mut command = self.inside(side, BINARY);
        command.args(["serve", "--journal", &Self::url(), "--history"]).arg(self.history(side));
        command.arg("--snapshot").arg(self.history(side).with_extension("snapshot")).args(["--stale-after", "2s"]);
        self.start(&format!("service-{}", side.address()), command);
    }

    /// What a server has said.
    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(format!("{name}.log"))).unwrap_or_default()
    }

    /// What a command of the command line comes to, on one side.
    fn command(&self, side: Side, args: &[&str]) -> Output {
        let mut command = self.inside(side, BINARY);
        command.args(args).env("WITHHELD_ACTOR", "desk@example.org").output().unwrap()
    }

    fn journal(&self, side: Side, args: &[&str]) -> Output {
        let mut command = self.inside(side, BINARY);
        command
            .arg("journal")
            .args(args)
            .args(["--journal", &Self::url()])
            .env("WITHHELD_ACTOR", "operator@example.org");
        command.env("WITHHELD_HISTORY", self.history(side)).output().unwrap()
    }

    fn apply(&self, side: Side, account: u64) -> Output {
        let (order, items) = (self.dir.path().join("order.toml"), self.dir.path().join("list.csv"));
        let text = format!(
            "order_id = 'order-{account}'\ninstrument = 'court_order'\nissuing_authority = 'A court'\nlegal_basis = ['s. 1']\n\
             territory = {{ countries = ['IN'] }}\n"
        );
        std::fs::write(&order, text).unwrap();
        std::fs::write(&items, format!("locator_type,locator\naccount_id,{account}\n")).unwrap();
        let [order, items] = [order, items].map(|path| path.display().to_string());
        self.command(side, &["order", "apply", "--yes", "--file", &order, "--items", &items])
    }

    /// Whether an account is withheld, and whether that is LIVE.
    fn check(&self, side: Side, account: u64) -> Option<(bool, bool)> {
        let output = self.command(side, &["--output", "json", "check", "IN", &account.to_string()]);
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        let text = said.to_string();
        Some((text.contains("\"withheld\":true"), text.contains("\"live\"")))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}

fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < LIMIT, "still not so: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn of_two_sides_of_a_network_neither_acknowledges_what_the_other_may_contradict() {
    let root = rustix::process::geteuid().is_root();
    if !root || Command::new("ip").arg("netns").output().is_err() {
        eprintln!("skipped: it takes root and iproute2 to make network namespaces");
        return;
    }
    let mut network = Network::mk();
    network.redis(Side::Here, 7_001, false);
    network.redis(Side::Here, 7_002, true);
    network.redis(Side::There, 7_003, true);
    network.redis(Side::There, 7_004, true);
    SENTINELS.iter().for_each(|port| network.sentinel(*port));
    for port in SENTINELS {
        until("a Sentinel knows the others and the three replicas", || {
            let log = network.log(&format!("sentinel-{port}"));
            log.matches("+sentinel sentinel").count() >= 2 && log.matches("+slave slave").count() >= 3
        });
    }
    until("the journal is made", || network.journal(Side::There, &["create", "--servers", "4"]).status.success());
    network.service(Side::Here);
    network.service(Side::There);
    until("an order is acknowledged here", || network.apply(Side::Here, 1).status.success());
    for side in [Side::Here, Side::There] {
        until("it is enforced on both sides", || network.check(side, 1) == Some((true, true)));
    }

    network.cut();
    let mut since = Instant::now();
    let (mut live_there, mut failed_over) = (true, false);
    while since.elapsed() < Duration::from_secs(if failed_over { 6 } else { 90 }) {
        for (side, account) in [(Side::Here, 2), (Side::There, 3)] {
            let applied = network.apply(side, account);
            assert!(!applied.status.success(), "acknowledged on one side: {}", text(&applied));
        }
        if let Some((withheld, live)) = network.check(Side::There, 1) {
            assert!(withheld);
            live_there = live;
        }
        let log = network.log("sentinel-26001");
        if !failed_over && log.contains("+switch-master") {
            (failed_over, since) = (true, Instant::now());
        }
    }
    let log = network.log("sentinel-26001");
    assert!(failed_over, "the Sentinels replaced the primary:\n{log}");
    assert!(!live_there, "the heir is not proven to have all that was acknowledged");
    assert_eq!(network.check(Side::Here, 1), Some((true, false)), "and the old primary may have been replaced");

    network.mend();
    // What the old side had was overwritten unseen, so it takes a person to say that the heir's is what counts.
    let mut said = String::new();
    until("a person is asked", || {
        said = text(&network.journal(Side::There, &["accept"]));
        said.contains("--known none --found")
    });
    let name = said.split("--found ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    until("it is accepted by name", || {
        network.journal(Side::There, &["accept", "--known", "none", "--found", &name]).status.success()
    });
    for (side, account) in [(Side::There, 4), (Side::Here, 5)] {
        until("orders are acknowledged again", || network.apply(side, account).status.success());
    }
    for side in [Side::Here, Side::There] {
        for account in [1, 4, 5] {
            until("both sides are one again", || network.check(side, account) == Some((true, true)));
        }
    }
    let verified = network.journal(Side::There, &["verify"]);
    assert!(verified.status.success(), "{}", text(&verified));
}
