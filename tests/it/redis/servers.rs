//! A real redis-server on a port and in a directory of its own, kept as the service asks for, that can be killed,
//! stopped, damaged and started again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, RedisResult, Value};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::acl::{self, ServiceUser};
use super::ports::Port;
use super::process::Process;
use super::program::ServerProgram;
use super::proxy::Proxy;
use super::setup::{Setup, tls_lines};
use super::tls::Certificates;
use super::{PATIENCE, eventually, until};

/// What keeps an acknowledged write through a crash, and what makes tests quick.
const DURABLE: &str = "\
appendonly yes
appendfsync always
maxmemory-policy noeviction
save \"\"
repl-diskless-sync-delay 0
repl-ping-replica-period 1
enable-debug-command yes
";

/// Who may do what there.
enum Access {
    /// Everybody everything.
    Open,
    /// As deploy/redis ships it.
    Shipped(ServiceUser),
    /// The same, of a Sentinel.
    Sentinel,
}

impl Access {
    /// The harness's own user, who may do everything.
    const fn keeper(&self) -> Option<acl::User> {
        match self {
            Self::Open => None,
            Self::Shipped(_) => Some(acl::KEEPER),
            Self::Sentinel => Some(acl::SENTINEL),
        }
    }
}

/// A redis-server; killed when dropped.
///
/// The service is the user `withheld` there, with the rights that deploy/redis ships, and nobody else is let in but the
/// harness.
pub struct RedisServer {
    process: Mutex<Option<Process>>,
    dir: TempDir,
    port: Port,
    scheme: &'static str,
    access: Access,
    program: ServerProgram,
    arguments: &'static [&'static str],
}

impl RedisServer {
    /// Starts one and waits until it answers.
    pub async fn start() -> Self {
        Self::start_as(&Setup::default()).await
    }

    /// The same with more lines in its configuration.
    pub async fn start_with(lines: &[&str]) -> Self {
        Self::start_as(&Setup { lines, ..Setup::default() }).await
    }

    /// The same of any kind.
    pub async fn start_as(setup: &Setup<'_>) -> Self {
        let port = Port::reserve();
        let lines = setup.all_lines(&port);
        Self::start_on(port, setup, ServiceUser::shipped(), &lines).await
    }

    /// One that speaks only TLS. With `client_certificates` it refuses who has none of the same authority.
    pub async fn start_tls(program: ServerProgram, certificates: &Certificates, client_certificates: bool) -> Self {
        let port = Port::reserve();
        let lines = tls_lines(certificates, &port, client_certificates);
        let setup = Setup { program, tls: Some(certificates), lines: &[] };
        Self::start_on(port, &setup, ServiceUser::shipped(), &lines).await
    }

    /// One on which everybody may do everything, for who wants a Redis and no journal.
    pub async fn start_open(lines: &[&str]) -> Self {
        Self::configured(Port::reserve(), &Setup::default(), Access::Open, DURABLE, lines).started().await
    }

    /// On a port chosen before, because others are told of it first.
    pub(super) async fn start_on(port: Port, setup: &Setup<'_>, service: ServiceUser, lines: &[String]) -> Self {
        let lines = [&acl::replication_lines(), lines].concat();
        Self::configured(port, setup, Access::Shipped(service), DURABLE, &lines).started().await
    }

    /// A Sentinel, which is the same program.
    pub(super) async fn start_sentinel(setup: &Setup<'_>, lines: &[String]) -> Self {
        let port = Port::reserve();
        let tls = setup.tls.map(|certificates| tls_lines(certificates, &port, true)).unwrap_or_default();
        let lines = [&tls, lines, &acl::sentinel_lines()].concat();
        let configured = Self::configured(port, setup, Access::Sentinel, "", &lines);
        Self { arguments: &["--sentinel"], ..configured }.started().await
    }

    /// Not started yet. The file is the server's own from here on: Sentinel has it rewritten, and a restart reads that.
    fn configured(port: Port, setup: &Setup<'_>, access: Access, defaults: &str, lines: &[impl AsRef<str>]) -> Self {
        let dir = TempDir::new().unwrap();
        let mut file = format!("port {}\nbind 127.0.0.1\nprotected-mode no\n{defaults}", port.number());
        for line in [format!("dir {}", dir.path().display()), format!("unixsocket {}", socket(dir.path()).display())] {
            file.push_str(&line);
            file.push('\n');
        }
        if let Access::Shipped(service) = &access {
            let users = dir.path().join("users.acl");
            std::fs::write(&users, acl::users(service)).unwrap();
            file.push_str(&format!("aclfile {}\n", users.display()));
        }
        lines.iter().for_each(|line| file.extend([line.as_ref(), "\n"]));
        std::fs::write(dir.path().join("redis.conf"), file).unwrap();
        let scheme = if setup.tls.is_some() { "rediss" } else { "redis" };
        Self { process: Mutex::new(None), dir, port, scheme, access, program: setup.program, arguments: &[] }
    }

    async fn started(self) -> Self {
        self.restart().await;
        self
    }

    pub const fn port(&self) -> u16 {
        self.port.number()
    }

    /// Where the service finds it, and as whom.
    pub fn url(&self) -> String {
        self.url_at(self.port())
    }

    /// The same by way of a proxy in front of it.
    pub fn url_through(&self, proxy: &Proxy) -> String {
        self.url_at(proxy.port())
    }

    fn url_at(&self, port: u16) -> String {
        let login = if let Access::Shipped(service) = &self.access { service.login() } else { String::new() };
        format!("{}://{login}127.0.0.1:{port}", self.scheme)
    }

    /// The URL for another user, who is there from now on.
    pub async fn url_as(&self, service: &ServiceUser) -> String {
        self.add_user(service).await;
        format!("{}://{}127.0.0.1:{}", self.scheme, service.login(), self.port())
    }

    /// Lets another user of the service in, also after a restart.
    pub async fn add_user(&self, service: &ServiceUser) {
        self.command(&[&["ACL", "SETUSER"], service.words().as_slice()].concat()).await;
        self.command(&["ACL", "SAVE"]).await;
    }

    /// What it has logged so far, over all its lives.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("redis.log")
    }

    pub fn pid(&self) -> u32 {
        self.with_process(Process::pid)
    }

    pub fn is_up(&self) -> bool {
        self.process.lock().unwrap().is_some()
    }

    /// SIGKILL, and gone when this returns. A pause ends with it.
    pub fn kill(&self) {
        let killed = self.process.lock().unwrap().take();
        assert!(killed.is_some(), "the server on port {} is not running", self.port());
    }

    /// SIGSTOP: it keeps its connections and says nothing on them. The kernel goes on accepting new ones for it.
    pub fn pause(&self) {
        self.with_process(Process::pause);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.with_process(Process::resume);
    }

    fn with_process<T>(&self, act: impl FnOnce(&Process) -> T) -> T {
        let process = self.process.lock().unwrap();
        act(process.as_ref().unwrap_or_else(|| panic!("the server on port {} is not running", self.port())))
    }

    /// Waits until it has, as a replica, all that a primary has written until now.
    ///
    /// WAIT would not do: it waits for what its own connection has written, and each command here has a new one.
    pub async fn catch_up_with(&self, primary: &Self) {
        let offset = |info: &HashMap<String, String>, field| info.get(field).and_then(|n| n.parse::<u64>().ok());
        let written = offset(&primary.info("replication").await, "master_repl_offset");
        until(format!("the server on port {} is level with port {}", self.port(), primary.port()), async || {
            let (own, theirs) = (self.info("replication").await, primary.info("replication").await);
            own["role"] == "slave"
                && own["master_link_status"] == "up"
                && own["master_replid"] == theirs["master_replid"]
                && offset(&own, "slave_repl_offset") >= written
        })
        .await;
    }

    /// Starts it again, on the same port, directory and settings, and waits until it has loaded its data and answers.
    pub async fn restart(&self) {
        self.spawn();
        let answers = async || {
            let ended = self.process.lock().unwrap().as_mut().is_none_or(Process::ended);
            assert!(!ended, "it stopped at once:\n{}", self.log());
            self.try_command::<()>(&["PING"]).await.ok()
        };
        eventually(format!("the server on port {} answers", self.port()), answers).await;
    }

    /// Starts it again without waiting, so that it can be met while it is loading.
    pub fn spawn(&self) {
        let mut process = self.process.lock().unwrap();
        assert!(process.is_none(), "the server on port {} is already running", self.port());
        let mut arguments = vec!["./redis.conf"];
        arguments.extend(self.arguments);
        *process = Some(Process::spawn(&self.program.file(), &arguments, self.dir.path(), &self.log_file()));
    }

    /// The file that the latest writes are appended to.
    pub fn aof(&self) -> PathBuf {
        let files = std::fs::read_dir(self.dir.path().join("appendonlydir")).unwrap();
        let number = |path: &PathBuf| -> Option<u64> {
            path.file_name()?.to_str()?.strip_suffix(".incr.aof")?.rsplit('.').next()?.parse().ok()
        };
        files.map(|file| file.unwrap().path()).filter(|path| number(path).is_some()).max_by_key(number).unwrap()
    }

    /// Cuts bytes off the end of that file, as a crash of the machine does; the server must be down.
    pub fn truncate_aof(&self, bytes: u64) {
        assert!(!self.is_up(), "the server on port {} is still running", self.port());
        let file = std::fs::File::options().write(true).open(self.aof()).unwrap();
        let length = file.metadata().unwrap().len();
        file.set_len(length.checked_sub(bytes).expect("the file is shorter than that")).unwrap();
    }

    /// A connection with all rights and by a way of its own, a socket in the server's directory: no proxy, no TLS.
    ///
    /// # Errors
    /// What the server answered, or that it did not.
    pub async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        let mut url = format!("unix://{}", socket(self.dir.path()).display());
        if let Some(acl::User { name, password }) = self.access.keeper() {
            url = format!("{url}?user={name}&pass={password}");
        }
        let patient = AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(None);
        Client::open(url)?.get_multiplexed_async_connection_with_config(&patient).await
    }

    /// Runs a command on such a connection. Each has a new one: WAIT and WATCH, which look at what theirs did before, are
    /// of no use.
    ///
    /// # Errors
    /// What the server answered, or that it did not.
    pub async fn try_command<T: FromRedisValue>(&self, command: &[&str]) -> RedisResult<T> {
        let mut request = redis::Cmd::new();
        request.arg(command);
        request.query_async(&mut self.connection().await?).await
    }

    /// The same, and the answer in a type of choice; the test fails if there is none.
    pub async fn ask<T: FromRedisValue>(&self, command: &[&str]) -> T {
        let answer = tokio::time::timeout(PATIENCE, self.try_command(command)).await;
        let answer = answer.unwrap_or_else(|_| panic!("no answer to {command:?} in {PATIENCE:?}"));
        answer.unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// The same, and the answer as it is.
    pub async fn command(&self, command: &[&str]) -> Value {
        self.ask(command).await
    }

    /// The answer of a server that may be down, paused or busy, if it comes within a second.
    pub async fn ask_soon<T: FromRedisValue>(&self, command: &[&str]) -> Option<T> {
        tokio::time::timeout(Duration::from_secs(1), self.try_command(command)).await.ok()?.ok()
    }

    /// A replica that follows it, says so again and again, and never confirms a thing; gone when dropped.
    pub fn follow_without_confirming(&self) -> AbortOnDropHandle<()> {
        let port = self.port();
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let acl::User { name, password } = acl::REPLICATION;
            stream.write_all(format!("AUTH {name} {password}\r\n").as_bytes()).await.unwrap();
            // A server with an answer under way refuses PSYNC.
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"+OK\r\n");
            stream.write_all(b"PSYNC ? -1\r\n").await.unwrap();
            let (mut from, mut to) = stream.split();
            let hear = async { tokio::io::copy(&mut from, &mut tokio::io::sink()).await.map(drop) };
            let tell = async {
                let mut often = tokio::time::interval(Duration::from_millis(100));
                while to.write_all(b"REPLCONF ACK 0\r\n").await.is_ok() {
                    often.tick().await;
                }
            };
            // The server may be gone first.
            let _ = tokio::join!(hear, tell);
        }))
    }

    pub async fn config_set(&self, key: &str, value: &str) {
        self.command(&["CONFIG", "SET", key, value]).await;
    }

    /// A section of INFO, by field.
    pub async fn info(&self, section: &str) -> HashMap<String, String> {
        // Again where it fails: Sentinel kills every connection of a server whose part it changes.
        let info = eventually("INFO", async || self.ask_soon::<String>(&["INFO", section]).await).await;
        fields(&info)
    }
}

fn fields(info: &str) -> HashMap<String, String> {
    info.lines().filter_map(|line| line.split_once(':')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("redis.sock")
}

mod tests;
