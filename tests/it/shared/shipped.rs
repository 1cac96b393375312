//! The files of deploy/redis as they are shipped, changed as their README says and in no other way: three servers, three
//! Sentinels, and failovers back and forth.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::backup::marked;
use crate::harness::{BINARY, Service, serve_on};
use crate::lineage::apply_again;
use crate::redis::acl::{self, with_passwords};
use crate::redis::ports::Port;
use crate::redis::process::Process;
use crate::redis::program::ServerProgram;
use crate::redis::{PATIENCE, eventually};

const REDIS_CONF: &str = include_str!("../../../deploy/redis/redis.conf");
const SENTINEL_CONF: &str = include_str!("../../../deploy/redis/sentinel.conf");
const USERS: &str = include_str!("../../../deploy/redis/users.acl");
/// By which all servers are known, everywhere. A name, for a Sentinel that is not told of it knows the address as well.
const HOST: &str = "localhost";

/// A server or a Sentinel with its file.
struct Shipped {
    port: Port,
    dir: TempDir,
    sentinel: bool,
    process: Option<Process>,
}

impl Shipped {
    fn mk(sentinel: bool) -> Self {
        Self { port: Port::reserve(), dir: TempDir::new().unwrap(), sentinel, process: None }
    }

    fn configuration(&self) -> PathBuf {
        self.dir.path().join(if self.sentinel { "sentinel.conf" } else { "redis.conf" })
    }

    /// The lines that say where this one is.
    fn place(&self) -> String {
        let (port, dir) = (self.port.number(), self.dir.path().display());
        format!("port {port}\nbind 127.0.0.1 -::1\ndir {dir}\n")
    }

    fn start(&mut self) {
        let (configuration, log) = (self.configuration(), self.dir.path().join("log"));
        let mut arguments = vec![configuration.to_str().unwrap()];
        arguments.extend(self.sentinel.then_some("--sentinel"));
        let program = ServerProgram::from_env().file();
        self.process = Some(Process::spawn(&program, &arguments, self.dir.path(), &log));
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

/// A group of them; killed when dropped.
struct ShippedGroup {
    servers: Vec<Shipped>,
    sentinels: Vec<Shipped>,
}

/// Replaces what has to be there.
fn changed(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "the shipped file has no `{from}`");
    text.replace(from, to)
}

impl ShippedGroup {
    /// Starts it, and waits until every Sentinel knows everybody.
    async fn start() -> Self {
        let mk = |sentinel| (0..3).map(|_| Shipped::mk(sentinel)).collect::<Vec<_>>();
        let mut group = Self { servers: mk(false), sentinels: mk(true) };
        let first = format!("{HOST} {}", group.servers[0].port.number());
        for (at, server) in group.servers.iter_mut().enumerate() {
            let users = server.dir.path().join("users.acl");
            std::fs::write(&users, with_passwords(USERS)).unwrap();
            let mut lines = changed(&with_passwords(REDIS_CONF), "CHANGE-hostname", HOST);
            lines = changed(&lines, "/etc/redis/users.acl", users.to_str().unwrap());
            if at > 0 {
                lines = changed(&lines, "# replicaof redis-1 6379", &format!("replicaof {first}"));
            }
            assert!(!lines.contains("CHANGE-"), "{lines}");
            std::fs::write(server.configuration(), lines + &server.place()).unwrap();
            server.start();
        }
        for sentinel in &mut group.sentinels {
            let lines = changed(&with_passwords(SENTINEL_CONF), "redis-1 6379", &first);
            let lines = changed(&lines, "port 26379\n", &sentinel.place());
            assert!(!lines.contains("CHANGE-"), "{lines}");
            std::fs::write(sentinel.configuration(), lines).unwrap();
            sentinel.start();
        }
        group.whole().await;
        group
    }

    /// Where the service finds it; users and passwords are for the environment.
    fn url(&self) -> String {
        let sentinels: Vec<String> =
            self.sentinels.iter().map(|sentinel| format!("{HOST}:{}", sentinel.port.number())).collect();
        format!("redis+sentinel://{}/withheld", sentinels.join(","))
    }

    /// A line of a page with the ports and passwords that are in the place of the shipped ones.
    fn placed(&self, line: &str, server: usize) -> String {
        let line = line.replace("-p 26379", &format!("-p {}", self.sentinels[0].port.number()));
        with_passwords(&line.replace("-p 6379", &format!("-p {}", self.servers[server].port.number())))
    }

    /// What a Sentinel answers.
    fn ask(&self, sentinel: usize, words: &[&str]) -> String {
        let port = self.sentinels[sentinel].port.number();
        text(&cli(port, acl::SENTINEL).arg("sentinel").args(words).output().unwrap())
    }

    /// The primary by the word of all Sentinels.
    fn primary(&self) -> Option<usize> {
        let named: Vec<String> = (0..3).map(|at| self.ask(at, &["get-master-addr-by-name", "withheld"])).collect();
        let at = self.servers.iter().position(|server| named[0] == format!("{HOST}\n{}\n", server.port.number()))?;
        named.iter().all(|one| *one == named[0]).then_some(at)
    }

    /// Every Sentinel knows one primary, two replicas by the one name each has, and two others; the replicas are in sync.
    async fn whole(&self) {
        eventually("the group is whole", async || {
            let primary = self.primary()?;
            for sentinel in 0..3 {
                let replicas = self.ask(sentinel, &["replicas", "withheld"]);
                let others = self.ask(sentinel, &["sentinels", "withheld"]);
                let count = |text: &str, line: &str| text.lines().filter(|one| *one == line).count();
                let so = count(&replicas, "name") == 2
                    && count(&replicas, "ok") == 2
                    && count(&replicas, HOST) >= 2
                    && count(&others, "name") == 2;
                if !so {
                    return None;
                }
            }
            let info = text(
                &cli(self.servers[primary].port.number(), acl::KEEPER).args(["info", "replication"]).output().ok()?,
            );
            (info.contains("role:master") && info.matches("state=online").count() == 2).then_some(())
        })
        .await;
    }

    /// Kills the primary, waits for another, and brings the old one back as its replica. Tells which server is the primary.
    async fn fail_over(&mut self) -> usize {
        let before = self.primary().expect("the group was whole");
        self.servers[before].process = None;
        let after = eventually("there is another primary", async || self.primary().filter(|now| *now != before)).await;
        self.servers[before].start();
        self.whole().await;
        after
    }

    fn logs(&self) -> String {
        self.servers.iter().chain(&self.sentinels).map(|one| format!("---\n{}", one.log())).collect()
    }
}

/// `redis-cli`, as somebody.
fn cli(port: u16, who: acl::User) -> Command {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &port.to_string(), "--user", who.name]).env("REDISCLI_AUTH", who.password);
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).replace('\r', "")
}

const RUNBOOK: &str = include_str!("../../../deploy/runbook.md");

fn as_the_service(command: &mut Command) -> &mut Command {
    command.env("WITHHELD_REDIS_USER", acl::SERVICE.name).env("WITHHELD_REDIS_PASSWORD", acl::SERVICE.password);
    acl::log_in_to_sentinels(command)
}

fn on(url: &str, dir: &Path) -> Command {
    let mut command = serve_on(url);
    command.arg("--snapshot").arg(dir.join("state.snapshot"));
    as_the_service(&mut command);
    command
}

/// Waits until an order is taken; says why it is not.
async fn acknowledged(service: &Service, n: u64) {
    let last = std::cell::RefCell::new(String::new());
    let taken = async {
        while let Err(refused) = apply_again(service, &format!("order-{n}"), n).await {
            *last.borrow_mut() = refused.message().to_owned();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let taken = tokio::time::timeout(PATIENCE, taken).await;
    assert!(taken.is_ok(), "order-{n}: {}", last.borrow());
}

/// Back and forth: the third time the first primary may be it again.
#[tokio::test(flavor = "multi_thread")]
async fn three_failovers_in_a_row_with_the_shipped_files_of_redis_and_sentinel() {
    let mut group = ShippedGroup::start().await;
    let dir = TempDir::new().unwrap();
    let mut create = Command::new(BINARY);
    create.args(["journal", "create", "--actor", "operator@example.org", "--journal", &group.url(), "--history"]);
    create.arg(dir.path().join("created.history")).stdin(Stdio::null());
    let made = as_the_service(&mut create).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let service = Service::of(on(&group.url(), dir.path()));
    service.serving().await;
    for round in 1..=3_u64 {
        acknowledged(&service, round).await;
        let after = group.fail_over().await;
        let logs = group.logs();
        assert!(!logs.contains("REPLICAOF myself") && !logs.contains("+slave-reconf-sent-self"), "{logs}");
        println!("round {round}: server {after} is the primary");
    }
    acknowledged(&service, 4).await;
    the_runbook_is_followed(&mut group, &service, dir.path()).await;
}

/// The commands of the runbook's entry on failovers, as they stand there.
async fn the_runbook_is_followed(group: &mut ShippedGroup, service: &Service, dir: &Path) {
    let before = group.primary().unwrap();
    let run = |group: &ShippedGroup, name: &str| {
        let (lines, code) = marked(RUNBOOK).remove(name).unwrap_or_else(|| panic!("the page marks no `{name}`"));
        let said = lines.iter().map(|line| {
            let bin = Path::new(BINARY).parent().unwrap().display().to_string();
            let mut command = Command::new("bash");
            command.args(["-euc", &group.placed(line, before)]).stdin(Stdio::null());
            command.env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap()));
            command.env("WITHHELD_JOURNAL", group.url()).env("WITHHELD_SNAPSHOT", dir.join("state.snapshot"));
            command.env("WITHHELD_ADMIN_ENDPOINT", &service.admin);
            let output = tokio::task::block_in_place(|| as_the_service(&mut command).output().unwrap());
            let said = text(&output) + &String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{line}\n{said}");
            said
        });
        said.collect::<String>()
    };
    let said = run(group, "failover-look");
    assert!(
        said.contains("OK 3 usable Sentinels") && said.contains("num-slaves\n2") && said.contains("role:master"),
        "{said}"
    );
    run(group, "failover-by-hand");
    eventually("there is another primary", async || group.primary().filter(|now| *now != before)).await;
    group.servers[before].process = None;
    group.servers[before].start();
    group.whole().await;
    acknowledged(service, 5).await;
    let said = run(group, "failover-afterwards");
    assert!(said.contains("not sealed") && said.contains("the live journal has the same"), "{said}");
}
