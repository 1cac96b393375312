//! A service as its users have it: the real binary, on ports of its own, with a journal in a directory of its own.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;
use withheld::pb::v1 as pb;
use withheld::pb::v1::audit_service_client::AuditServiceClient;
use withheld::pb::v1::order_service_client::OrderServiceClient;
use withheld::pb::v1::protection_service_client::ProtectionServiceClient;
use withheld::pb::v1::visibility_service_client::VisibilityServiceClient;

pub const BINARY: &str = env!("CARGO_BIN_EXE_withheld");

/// The revision of the entry that creates a journal: where a new one is.
pub const CREATED: u64 = 1;

/// That of the nth entry that a test writes, counted from 1.
pub const fn nth(n: u64) -> u64 {
    CREATED + n
}

/// A running service; killed when dropped.
pub struct Service {
    child: Child,
    pub queries: String,
    pub admin: String,
    /// Host and port of the HTTP listener; `off` if it has none.
    pub http: String,
    log: Arc<Mutex<String>>,
}

impl Service {
    /// Starts one on a journal and waits until it is serving.
    pub async fn start(journal: &Path) -> Self {
        Self::start_with(journal, &[]).await
    }

    /// The same with more flags.
    pub async fn start_with(journal: &Path, flags: &[&str]) -> Self {
        let service = Self::spawn(journal, flags);
        service.serving().await;
        service
    }

    /// Starts one and waits until it listens.
    pub fn spawn(journal: &Path, flags: &[&str]) -> Self {
        let mut command = serve(journal);
        command.args(flags);
        Self::of(command)
    }

    /// The service that a command runs, once it listens.
    pub fn of(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "the service stopped at once:\n{said}");
            said.push_str(&line);
            let address = |key: &str| {
                // Of a log for people, or for programs.
                let from =
                    line.split(&format!(" {key}=")).nth(1).or_else(|| line.split(&format!("\"{key}\":\"")).nth(1))?;
                Some(from.split([' ', '\n', '"']).next()?.to_owned())
            };
            if let (Some(queries), Some(admin), Some(http)) = (address("queries"), address("admin"), address("http")) {
                let [queries, admin] = [queries, admin].map(|address| format!("http://{address}"));
                // The rest of the log is read away, so that the service never waits for its reader.
                let kept = Arc::new(Mutex::new(said));
                let keep = Arc::clone(&kept);
                std::thread::spawn(move || {
                    let mut line = String::new();
                    while log.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                        keep.lock().unwrap().push_str(&line);
                        line.clear();
                    }
                });
                return Self { child, queries, admin, http, log: kept };
            }
        }
    }

    /// Waits until it reports itself SERVING, and says so in its log.
    pub async fn serving(&self) {
        serving(&self.queries).await;
        // What it has logged before is then in the log here, too, however late its reader is.
        let logged = async {
            while ![" serving\n", "\"serving\""].iter().any(|said| self.log().contains(said)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), logged).await.expect("it has not logged that it serves");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How long it has had a core for, over all its threads.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // Of the fields after the name, which may have anything in it, utime and stime are the 12th and the 13th.
        let ticks = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
        ticks.map(|ticks| Duration::from_millis(10) * ticks.parse::<u32>().unwrap()).sum()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Ends it as a supervisor does, with SIGTERM, and waits.
    pub fn stop(mut self) -> ExitStatus {
        self.terminate();
        self.child.wait().unwrap()
    }

    /// SIGTERM, without waiting.
    pub fn terminate(&self) {
        assert!(Command::new("kill").arg(self.pid().to_string()).status().unwrap().success());
    }

    /// Waits until it ends by itself.
    pub fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// The same, with all that it has logged to its very end.
    pub fn ended(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        // Whoever reads the log lets go of it when there is no more.
        while Arc::strong_count(&self.log) > 1 {
            std::thread::sleep(Duration::from_millis(5));
        }
        (status, self.log())
    }

    /// Runs a command of the command line against this service.
    pub fn cli(&self, args: &[&str]) -> Output {
        Command::new(BINARY)
            .args(args)
            .env("WITHHELD_ENDPOINT", &self.queries)
            .env("WITHHELD_ADMIN_ENDPOINT", &self.admin)
            .env("WITHHELD_ACTOR", "desk@example.org")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs a command that must do what it is told, and gives its JSON.
    pub fn cli_json(&self, args: &[&str]) -> serde_json::Value {
        let output = self.cli(&[&["--output", "json"], args].concat());
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub async fn visibility(&self) -> VisibilityServiceClient<Channel> {
        let client = VisibilityServiceClient::connect(self.queries.clone()).await.unwrap();
        client.max_decoding_message_size(64 << 20)
    }

    pub async fn orders(&self) -> OrderServiceClient<Channel> {
        let client = OrderServiceClient::connect(self.admin.clone()).await.unwrap();
        client.max_decoding_message_size(64 << 20).max_encoding_message_size(64 << 20)
    }

    pub async fn audit(&self) -> AuditServiceClient<Channel> {
        AuditServiceClient::connect(self.admin.clone()).await.unwrap()
    }

    pub async fn protections(&self) -> ProtectionServiceClient<Channel> {
        ProtectionServiceClient::connect(self.admin.clone()).await.unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until who listens there reports itself SERVING, as a balancer does.
pub async fn serving(queries: &str) {
    let health = async {
        let channel = Channel::from_shared(queries.to_owned()).unwrap().connect().await.unwrap();
        let mut health = HealthClient::new(channel);
        let request = HealthCheckRequest { service: String::new() };
        let mut changes = health.watch(request).await.unwrap().into_inner();
        while changes.message().await.unwrap().unwrap().status != i32::from(ServingStatus::Serving) {}
    };
    tokio::time::timeout(Duration::from_secs(120), health).await.expect("not serving after two minutes");
}

/// The command that runs a service on ports of its own.
pub fn serve(journal: &Path) -> Command {
    serve_on(&format!("sqlite:{}", journal.display()))
}

/// The same on a journal of any kind, by its URL.
pub fn serve_on(journal: &str) -> Command {
    let mut command = Command::new(BINARY);
    command
        .args(["serve", "--journal", journal])
        // Not flags, so that a test can give others.
        .env("WITHHELD_QUERY_THREADS", "1")
        .env("WITHHELD_LISTEN", "127.0.0.1:0")
        .env("WITHHELD_ADMIN_LISTEN", "127.0.0.1:0")
        .env("WITHHELD_HTTP_LISTEN", "127.0.0.1:0")
        .env("WITHHELD_DRAIN_PAUSE", "0s")
        .env("RUST_LOG", "info");
    command
}

/// The status and body of an HTTP GET.
pub async fn get(address: &str, path: &str) -> (u16, String) {
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(!head.to_lowercase().contains("chunked"), "{head}");
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// An error's code, its documented reason, and the fields it names.
pub fn refusal(status: &Status) -> (Code, String, Vec<String>) {
    let details = status.get_error_details();
    let fields = details.bad_request().map(|bad| bad.field_violations.iter().map(|v| v.field.clone()).collect());
    let reason = details.error_info().map(|info| info.reason.clone());
    (status.code(), reason.unwrap_or_default(), fields.unwrap_or_default())
}

/// A directory for a journal.
pub fn mk_journal() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let journal = dir.path().join("journal.db");
    (dir, journal)
}

pub fn mk_context(reason: &str, request_id: &str) -> Option<pb::CommandContext> {
    let (actor, reason) = ("desk@example.org".to_owned(), reason.to_owned());
    Some(pb::CommandContext { actor, reason, request_id: request_id.to_owned() })
}

/// A policy by which one person is enough, for tests about something else that need many accounts.
pub const ONE_PERSON: [&str; 2] = ["--policy", concat!(env!("CARGO_MANIFEST_DIR"), "/data/policy-one-person.toml")];

/// The same of the second person at the desk.
pub fn mk_second(reason: &str) -> Option<pb::CommandContext> {
    Some(pb::CommandContext { actor: "second@example.org".to_owned(), ..mk_context(reason, "").unwrap() })
}

/// What a second person sees of what waits.
pub async fn look(
    orders: &mut OrderServiceClient<Channel>,
    order_id: &str,
) -> Result<pb::ApproveOrderResponse, Status> {
    let (order_id, context) = (order_id.to_owned(), mk_second(""));
    let request = pb::ApproveOrderRequest { order_id, context, validate_only: true, ..Default::default() };
    Ok(orders.approve_order(request).await?.into_inner())
}

/// The second person sees what waits, and approves exactly that.
pub async fn approve(
    orders: &mut OrderServiceClient<Channel>,
    order_id: &str,
) -> Result<pb::ApproveOrderResponse, Status> {
    let digest = look(orders, order_id).await?.digest;
    let (order_id, context) = (order_id.to_owned(), mk_second("as it should be"));
    let request = pb::ApproveOrderRequest { order_id, context, digest, validate_only: false };
    Ok(orders.approve_order(request).await?.into_inner())
}

/// Puts an order into force, with a second person where that takes two: the order then, and the revision of that.
pub async fn put_into_force(service: &Service, request: pb::ApplyOrderRequest) -> pb::ApplyOrderResponse {
    let mut orders = service.orders().await;
    let applied = orders.apply_order(request).await.unwrap().into_inner();
    let order = applied.order.clone().unwrap();
    if order.state() != pb::OrderState::PendingApproval {
        return applied;
    }
    let approved = approve(&mut orders, &order.spec.unwrap().order_id).await.unwrap();
    pb::ApplyOrderResponse { order: approved.order, revision: approved.revision, already_applied: false }
}

/// The least order that is one.
pub fn mk_order(id: &str, countries: &[&str]) -> pb::OrderSpec {
    let country_codes = countries.iter().map(|code| (*code).to_owned()).collect();
    pb::OrderSpec {
        order_id: id.to_owned(),
        instrument: pb::Instrument::CourtOrder.into(),
        issuing_authority: "A court".to_owned(),
        legal_basis: vec!["An act, s. 1".to_owned()],
        territory: Some(pb::Territory {
            territory: Some(pb::territory::Territory::Countries(pb::CountryList { country_codes })),
        }),
        ..Default::default()
    }
}

/// The same for all countries.
pub fn mk_worldwide(id: &str) -> pb::OrderSpec {
    let territory = Some(pb::Territory { territory: Some(pb::territory::Territory::Worldwide(true)) });
    pb::OrderSpec { territory, ..mk_order(id, &[]) }
}

/// Items that name accounts, one a line from line 1.
pub fn mk_accounts(ids: impl IntoIterator<Item = u64>) -> pb::ItemList {
    let item =
        |id: u64| pb::Item { locator_type: "account_id".to_owned(), locator: id.to_string(), ..Default::default() };
    pb::ItemList { items: ids.into_iter().map(item).collect() }
}

/// Items as a list has them: type and locator.
pub fn mk_items<'a>(items: impl IntoIterator<Item = (&'a str, &'a str)>) -> pb::ItemList {
    let item = |(kind, locator): (&str, &str)| pb::Item {
        locator_type: kind.to_owned(),
        locator: locator.to_owned(),
        ..Default::default()
    };
    pb::ItemList { items: items.into_iter().map(item).collect() }
}

/// Puts an order into force without a preview.
pub fn mk_apply(order: pb::OrderSpec, items: pb::ItemList) -> pb::ApplyOrderRequest {
    pb::ApplyOrderRequest {
        order: Some(order),
        items: Some(pb::apply_order_request::Items::ItemList(items)),
        context: mk_context("", ""),
        preview_digest: Vec::new(),
    }
}

/// Which of these accounts are withheld for a viewer in a country.
pub fn mk_batch(country: &str, accounts: impl IntoIterator<Item = u64>) -> pb::BatchCheckRequest {
    pb::BatchCheckRequest {
        viewer_country: country.to_owned(),
        account_ids: accounts.into_iter().collect(),
        ..Default::default()
    }
}
