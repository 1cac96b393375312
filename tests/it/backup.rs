//! Backup and restore, by the commands of deploy/backup.md as they stand there; and what they refuse.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::harness::{BINARY, Service, mk_journal, serve_on};
use crate::lineage::{apply_again, check};
use crate::redis::acl::{KEEPER, SERVICE, ServiceUser, log_in_to_sentinels};
use crate::redis::cluster::Cluster;
use crate::redis::sentinel::SentinelGroup;
use crate::redis::servers::RedisServer;
use crate::redis::until;

const PAGE: &str = include_str!("../../deploy/backup.md");

/// The commands of a page that are marked to be run, by name, each with the exit code it is to have.
pub fn marked(page: &str) -> BTreeMap<String, (Vec<String>, i32)> {
    let mut blocks = BTreeMap::new();
    for part in page.split("<!-- run").skip(1) {
        let (head, rest) = part.split_once(" -->").unwrap();
        let (how, name) = head.split_once(": ").unwrap();
        let code = how.strip_prefix(", exit ").map_or(0, |code| code.parse().unwrap());
        let (_, rest) = rest.split_once("```sh\n").unwrap();
        let (commands, _) = rest.split_once("```").unwrap();
        let commands = commands.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
        assert!(blocks.insert(name.to_owned(), (commands, code)).is_none(), "`{name}` is there twice");
    }
    blocks
}

/// A machine on which the page is followed: a service, its settings in the environment, and a directory for copies.
struct Machine {
    dir: TempDir,
    journal: String,
    service: Option<Service>,
    /// The last copy.
    copy: Option<PathBuf>,
    /// The name that `accept` has printed.
    name: String,
}

impl Machine {
    fn mk(journal: String) -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("backup")).unwrap();
        Self { dir, journal, service: None, copy: None, name: String::new() }
    }

    fn on_sqlite() -> Self {
        let mut machine = Self::mk(String::new());
        machine.journal = format!("sqlite:{}", machine.file().display());
        machine
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("journal.db")
    }

    /// What the service's environment has.
    fn environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("WITHHELD_JOURNAL", &self.journal).env("WITHHELD_ACTOR", "operator@example.org");
        if !self.journal.starts_with("sqlite:") {
            command.env("WITHHELD_SNAPSHOT", self.dir.path().join("state.snapshot"));
            command.env("WITHHELD_REDIS_USER", SERVICE.name).env("WITHHELD_REDIS_PASSWORD", SERVICE.password);
            log_in_to_sentinels(command);
        }
        command
    }

    async fn start(&mut self) {
        let mut command = serve_on(&self.journal);
        let service = Service::of({
            self.environment(&mut command);
            command
        });
        self.service = Some(service);
    }

    fn stop(&mut self) {
        assert!(self.service.take().unwrap().stop().success());
    }

    fn service(&self) -> &Service {
        self.service.as_ref().unwrap()
    }

    /// Runs a line of the page, with this machine's places in it.
    fn shell(&self, line: &str) -> Output {
        let bin = Path::new(BINARY).parent().unwrap().display().to_string();
        let path = format!("{bin}:{}", std::env::var("PATH").unwrap());
        let mut line = line.replace("/backup", &self.dir.path().join("backup").display().to_string());
        if let Some(copy) = &self.copy {
            line = line.replace("journal-….db", &copy.file_name().unwrap().to_string_lossy());
        }
        line = line.replace("NAME", &self.name).replace("CHANGE-keeper", KEEPER.password);
        let mut command = Command::new("bash");
        command.args(["-euc", &line]).env("PATH", path).stdin(Stdio::null());
        if let Some(service) = &self.service {
            command.env("WITHHELD_ENDPOINT", &service.queries).env("WITHHELD_ADMIN_ENDPOINT", &service.admin);
        }
        self.environment(&mut command).output().unwrap()
    }

    /// Runs what is marked so on the page; gives what was said.
    async fn follow(&mut self, name: &str) -> String {
        let (lines, code) = marked(PAGE).remove(name).unwrap_or_else(|| panic!("the page marks no `{name}`"));
        let mut said = String::new();
        for line in lines {
            match line.as_str() {
                "systemctl stop withheld" => self.stop(),
                "systemctl start withheld" => self.start().await,
                line => {
                    let output = tokio::task::block_in_place(|| self.shell(line));
                    let text = text(&output);
                    assert_eq!(output.status.code(), Some(code), "{line}\n{text}");
                    said += &text;
                }
            }
            if line.starts_with("withheld journal backup") {
                let path = said.split('`').nth(1).unwrap();
                self.copy = Some(path.into());
            }
        }
        if let Some((_, names)) = said.split_once("say it by name: --known ") {
            let (known, found) = names.split_once(" --found ").unwrap();
            assert_eq!(known, found.split_whitespace().next().unwrap(), "it is one journal");
            self.name = known.to_owned();
        }
        said
    }

    /// The orders of accounts 1 and so on that are in force.
    async fn withheld(&self, accounts: std::ops::RangeInclusive<u64>) -> Vec<u64> {
        let mut found = Vec::new();
        for account in accounts {
            if check(self.service(), account).await.unwrap().0 {
                found.push(account);
            }
        }
        found
    }

    async fn apply(&self, account: u64) {
        let order = format!("order-{account}");
        until("an order is acknowledged", async || apply_again(self.service(), &order, account).await.is_ok()).await;
    }

    /// Files in a directory whose name begins so.
    fn files(&self, begin: &str) -> Vec<PathBuf> {
        let all = fs::read_dir(self.dir.path()).unwrap().map(|file| file.unwrap().path());
        let mut all: Vec<_> =
            all.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(begin)).collect();
        all.sort();
        all
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn verify(journal: &str) -> (Option<i32>, String) {
    crate::lineage::journal(&["verify", "--journal", journal])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_in_a_file_is_restored_twice_as_the_page_says() {
    let mut machine = Machine::on_sqlite();
    machine.start().await;
    machine.service().serving().await;
    machine.apply(1).await;
    let said = machine.follow("backup").await;
    assert!(said.contains("the live journal has the same"), "{said}");
    let copy = machine.copy.clone().unwrap();
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(copy.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    let bytes = fs::read(&copy).unwrap();
    fs::set_permissions(machine.file(), fs::Permissions::from_mode(0o640)).unwrap();
    // Root may give it to somebody, as systemd does.
    let owner = if rustix::process::geteuid().is_root() { 12_345 } else { rustix::process::geteuid().as_raw() };
    std::os::unix::fs::chown(machine.file(), Some(owner), None).unwrap();
    for round in 1..=2_u64 {
        machine.apply(1 + round).await;
        if round == 2 {
            // What a kill leaves: the last entries are in the write-ahead log only.
            machine.service.take().unwrap().kill();
            assert!(fs::metadata(machine.dir.path().join("journal.db-wal")).unwrap().len() > 0);
            machine.start().await;
            machine.service().serving().await;
        }
        let said = machine.follow("restore-sqlite").await;
        assert!(said.contains("2 entries") && said.contains("withheld journal accept"), "{said}");
        let metadata = fs::metadata(machine.file()).unwrap();
        assert_eq!((metadata.permissions().mode() & 0o777, metadata.uid()), (0o640, owner));
        assert!(machine.files("journal.db-").is_empty(), "no log of another file is beside it");
        machine.follow("accept-asks").await;
        machine.follow("accept").await;
        let said = machine.follow("start").await;
        assert!(said.contains("the live journal has the same"), "{said}");
        assert_eq!(machine.withheld(1..=3).await, [1]);
        // Each time what was there is kept, and is whole.
        let aside =
            machine.files("journal.db.before-").into_iter().filter(|path| !path.to_string_lossy().contains("db-"));
        let aside: Vec<_> = aside
            .filter(|path| !path.to_string_lossy().ends_with("-wal") && !path.to_string_lossy().ends_with("-shm"))
            .collect();
        assert_eq!(aside.len() as u64, round, "{aside:?}");
        for path in aside {
            let (code, said) = verify(&format!("sqlite:{}", path.display()));
            assert!(code == Some(0) && said.contains("is whole: 3 entries"), "{said}");
        }
    }
    assert_eq!(fs::read(&copy).unwrap(), bytes, "the copy is as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_under_sentinels_is_restored_twice_as_the_page_says() {
    let group = SentinelGroup::start().await;
    let url = group.url().replace(&ServiceUser::shipped().login(), "");
    crate::shared::create_journal(&group.url(), &[]);
    let mut machine = Machine::mk(url);
    machine.start().await;
    machine.service().serving().await;
    machine.apply(1).await;
    let said = machine.follow("backup").await;
    assert!(said.contains("the live journal has the same"), "{said}");
    for round in 1..=2_u64 {
        machine.apply(1 + round).await;
        machine.stop();
        // Nothing is done to the journal that is there unless it is asked for.
        let refused = machine.shell("withheld journal restore /backup/journal-….db");
        let said = text(&refused);
        assert!(refused.status.code() == Some(1) && said.contains("nothing was changed"), "{said}");
        assert!(said.contains("up to revision 3") && said.contains("--set-aside"), "{said}");
        let refused = machine.shell("withheld journal restore --set-aside /backup/journal-….db");
        let said = text(&refused);
        assert!(refused.status.code() == Some(1) && said.contains("RENAMENX") && said.contains("keeper"), "{said}");
        let (code, said) = tokio::task::block_in_place(|| {
            let output = machine.shell("withheld journal verify");
            (output.status.code(), text(&output))
        });
        assert!(code == Some(0) && said.contains("is whole: 3 entries"), "{said}");
        let said = machine.follow("restore-redis").await;
        assert!(said.contains("2 entries") && said.contains("withheld journal accept"), "{said}");
        machine.follow("accept-asks").await;
        machine.follow("accept").await;
        let said = machine.follow("start-redis").await;
        assert!(said.contains("the live journal has the same") && said.contains("not sealed"), "{said}");
        assert_eq!(machine.withheld(1..=3).await, [1]);
        let primary = group.server(group.primary().await);
        let aside: Vec<String> = primary.ask(&["KEYS", "{withheld}:before-*:journal"]).await;
        assert_eq!(aside.len() as u64, round, "{aside:?}");
        for key in aside {
            assert_eq!(primary.ask::<u64>(&["XLEN", &key]).await, 3);
        }
    }
    // Orders are taken again, and known to be committed.
    machine.apply(9).await;
}

/// Everything on Redis is lost, twice, and a copy is put into it; on one server and on a cluster.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_redis_gets_a_copy_and_one_copy_restores_into_either_kind_of_journal() {
    let (redis, cluster) = (RedisServer::start().await, Cluster::start().await);
    let login = |url: String| {
        url.replace(&ServiceUser::shipped().login(), "").replace(&ServiceUser::shipped().on_cluster().login(), "")
    };
    crate::shared::create_journal(&redis.url(), &[]);
    let mut machine = Machine::mk(login(redis.url()));
    machine.start().await;
    machine.service().serving().await;
    machine.apply(1).await;
    machine.follow("backup").await;
    for _ in 0..2 {
        machine.stop();
        redis.command(&["FLUSHALL"]).await;
        let (code, said) = tokio::task::block_in_place(|| {
            let output = machine.shell("withheld journal verify");
            (output.status.code(), text(&output))
        });
        assert!(code == Some(1) && said.contains("there is no journal under `withheld`"), "{said}");
        let said = machine.follow("restore-redis-empty").await;
        assert!(said.contains("2 entries") && !said.contains("accept"), "{said}");
        machine.follow("start-redis").await;
        assert_eq!(machine.withheld(1..=2).await, [1]);
    }
    machine.stop();
    // The same copy, into a cluster, and into a file.
    let copy = machine.copy.clone().unwrap();
    let mut other = Machine::mk(login(cluster.url()));
    other.copy = Some(other.dir.path().join("backup").join(copy.file_name().unwrap()));
    fs::copy(&copy, other.copy.as_ref().unwrap()).unwrap();
    let mut in_file = Machine::on_sqlite();
    in_file.copy = Some(in_file.dir.path().join("backup").join(copy.file_name().unwrap()));
    fs::copy(&copy, in_file.copy.as_ref().unwrap()).unwrap();
    other.follow("restore-redis-empty").await;
    other.follow("start-redis").await;
    in_file.follow("restore-redis-empty").await;
    in_file.follow("start").await;
    for machine in [&other, &in_file] {
        assert_eq!(machine.withheld(1..=2).await, [1]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_destroy_something_is_refused_and_changes_nothing() {
    let mut machine = Machine::on_sqlite();
    machine.start().await;
    machine.service().serving().await;
    machine.apply(1).await;
    machine.follow("backup").await;
    let refused = |machine: &Machine, line: &str, code: i32, says: &str| {
        let output = tokio::task::block_in_place(|| machine.shell(line));
        let said = text(&output);
        assert!(output.status.code() == Some(code) && said.contains(says), "{line}: {said}");
    };
    refused(&machine, "withheld journal restore /backup/journal-….db", 1, "is in use by process");
    refused(&machine, "withheld journal backup /backup/journal-….db", 2, "is there already");
    assert_eq!(machine.withheld(1..=1).await, [1]);
    machine.apply(2).await;
    // A later journal held against an earlier copy, and the other way round.
    refused(&machine, "withheld journal verify --against sqlite:/backup/journal-….db", 1, "revision went back");
    machine.stop();
    let before = fs::read(machine.file()).unwrap();
    let copy = machine.copy.clone().unwrap();
    let whole = fs::read(&copy).unwrap();
    for at in [whole.len() / 2, whole.len() - 40, 3_000] {
        let mut bytes = whole.clone();
        bytes.truncate(at);
        fs::write(&copy, bytes).unwrap();
        let output = machine.shell("withheld journal restore /backup/journal-….db");
        assert!(!output.status.success(), "{}", text(&output));
    }
    fs::write(&copy, b"").unwrap();
    refused(&machine, "withheld journal restore /backup/journal-….db", 1, "is empty");
    refused(&machine, "withheld journal restore /backup/no-such.db", 2, "there is no copy");
    assert_eq!(fs::read(machine.file()).unwrap(), before);
    assert!(machine.files("journal.db.before-").is_empty() && machine.files("journal.db.new-").is_empty());
}

/// Nothing is not whole: a namespace, a file or a service's journal that is not there.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_is_not_there_is_not_whole() {
    let redis = RedisServer::start().await;
    let url = redis.url();
    for (args, says) in [
        (vec!["--journal", &url, "--redis-namespace", "withheld"], "there is no journal under `withheld`"),
        (vec!["--journal", "sqlite:/no/such/journal.db"], "there is no journal"),
    ] {
        let (code, said) = crate::lineage::journal(&[&["verify"], args.as_slice()].concat());
        assert!(code != Some(0) && said.contains(says) && !said.contains("whole"), "{said}");
    }
    // The ACL user of one namespace is told which keys another one takes.
    let other = ["verify", "--journal", &url, "--redis-namespace", "withheld-production"];
    let (code, said) = crate::lineage::journal(&other);
    assert!(code == Some(1) && said.contains("~{withheld-production}:*"), "{said}");
    let (_dir, path) = mk_journal();
    let empty = path.with_extension("empty");
    drop(withheld::journal::sqlite::SqliteJournal::open(&empty).unwrap());
    let (code, said) = verify(&format!("sqlite:{}", empty.display()));
    assert!(code == Some(1) && said.contains("there is no journal"), "{said}");
}
