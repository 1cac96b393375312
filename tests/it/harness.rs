//! A service as its users have it: the real binary, on ports of its own, with a journal in a directory of its own.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;
use tonic::transport::Channel;
use withheld::pb::v1 as pb;
use withheld::pb::v1::order_service_client::OrderServiceClient;
use withheld::pb::v1::protection_service_client::ProtectionServiceClient;
use withheld::pb::v1::visibility_service_client::VisibilityServiceClient;

pub const BINARY: &str = env!("CARGO_BIN_EXE_withheld");

/// A running service; killed when dropped.
pub struct Service {
    child: Child,
    pub queries: String,
    pub admin: String,
}

impl Service {
    /// Starts one on a journal and waits until it is serving.
    pub async fn start(journal: &Path) -> Self {
        let service = Self::spawn(journal);
        service.serving().await;
        service
    }

    /// Starts one and waits until it listens.
    pub fn spawn(journal: &Path) -> Self {
        let mut child = Command::new(BINARY)
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--query-threads", "1"])
            .arg("--journal")
            .arg(format!("sqlite:{}", journal.display()))
            .env("RUST_LOG", "info")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "the service stopped at once:\n{said}");
            said.push_str(&line);
            let address = |key: &str| {
                let from = line.split(key).nth(1)?;
                Some(format!("http://{}", from.split_whitespace().next()?))
            };
            if let (Some(queries), Some(admin)) = (address("queries="), address("admin=")) {
                // The rest of the log is read away, so that the service never waits for its reader.
                std::thread::spawn(move || {
                    let mut rest = Vec::new();
                    let _ = log.read_to_end(&mut rest);
                });
                return Self { child, queries, admin };
            }
        }
    }

    pub async fn serving(&self) {
        for _ in 0..600 {
            let output = self.cli(&["healthcheck"]);
            if output.status.success() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("not serving after 30 s");
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
