//! Only the right people: TLS, certificates, tokens and JWTs, what each role may call, and the name that the record has.

mod certificates;
mod jwt;
mod limits;
mod matrix;
mod pem;
mod pki;
mod record;
mod reload;
mod sealed;
mod strangers;
mod tokens;
mod unseen;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic::{Code, Request, Status};
use withheld::pb::v1 as pb;
use withheld::pb::v1::order_service_client::OrderServiceClient;
use withheld::pb::v1::visibility_service_client::VisibilityServiceClient;

use crate::harness::{BINARY, Service, refusal, serve};
use crate::redis::until;
use pki::{Authority, Issued};

/// A desk of several people: an access file, and the files that it names.
pub struct Desk {
    dir: TempDir,
    /// Vouches for the service.
    services: Authority,
    /// Vouches for people.
    people: Authority,
}

impl Desk {
    pub fn mk() -> Self {
        let desk = Self { dir: TempDir::new().unwrap(), services: Authority::mk(), people: Authority::mk() };
        std::fs::write(desk.path("services.pem"), desk.services.pem()).unwrap();
        std::fs::write(desk.path("people.pem"), desk.people.pem()).unwrap();
        desk.show(&desk.services.for_service());
        std::fs::write(desk.path("tokens.toml"), "").unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Has the service show this certificate. The key is written first: a pair that does not fit is refused, and looked at
    /// again.
    fn show(&self, issued: &Issued) {
        std::fs::write(self.path("service.key"), &issued.key).unwrap();
        std::fs::write(self.path("service.pem"), &issued.certificate).unwrap();
    }

    /// Writes the access file.
    pub fn access(&self, text: &str) -> &Self {
        std::fs::write(self.path("access.toml"), format!("tokens = \"tokens.toml\"\n{text}")).unwrap();
        self
    }

    /// A service without TLS whose access file this is.
    async fn service(&self) -> Service {
        Service::start_with(&self.path("journal.db"), &["--access", &self.text("access.toml")]).await
    }

    /// One that speaks TLS, with more flags.
    pub async fn with_tls(&self, flags: &[&str]) -> Service {
        let mut command = serve(&self.path("journal.db"));
        command.args(["--tls-cert", &self.text("service.pem"), "--tls-key", &self.text("service.key")]);
        command.args(["--tls-client-ca", &self.text("people.pem"), "--access", &self.text("access.toml")]);
        command.args(flags);
        let service = Service::of(command);
        until("it serves", async || service.log().contains(" serving\n")).await;
        service
    }

    /// A channel to one that speaks TLS, of somebody who shows nothing.
    pub async fn stranger(&self, address: &str) -> Channel {
        channel(address, tls(&self.path("services.pem"), None)).await.unwrap()
    }

    /// Runs `withheld token …` on this desk's file.
    fn token_cli(&self, args: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.arg("token").args(args).args(["--access", &self.text("access.toml")]).output().unwrap()
    }

    fn token_json(&self, args: &[&str]) -> serde_json::Value {
        let output = self.token_cli(&[args, &["--output", "json"]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A token of somebody.
    fn token(&self, name: &str) -> String {
        self.token_json(&["create", name])["token"].as_str().unwrap().to_owned()
    }
}

/// What TLS asks for, seen from a client that trusts the desk's services.
fn tls(ca: &Path, shown: Option<&Issued>) -> ClientTlsConfig {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(std::fs::read(ca).unwrap()));
    match shown {
        Some(issued) => tls.identity(Identity::from_pem(&issued.certificate, &issued.key)),
        None => tls,
    }
}

/// A channel with TLS, or why there is none.
async fn channel(address: &str, tls: ClientTlsConfig) -> Result<Channel, tonic::transport::Error> {
    let url = address.replace("http://", "https://");
    Channel::from_shared(url).unwrap().tls_config(tls).unwrap().connect().await
}

/// A request that shows a token.
fn with_token<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let header: AsciiMetadataValue = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", header);
    request
}

/// What comes of asking for a verdict.
async fn ask(channel: Channel, request: Request<pb::CheckRequest>) -> Result<bool, Status> {
    Ok(VisibilityServiceClient::new(channel).check(request).await?.into_inner().withheld)
}

fn mk_check() -> pb::CheckRequest {
    pb::CheckRequest { account_id: 7, viewer_country: "IN".to_owned(), ..Default::default() }
}

async fn plain(address: &str) -> Channel {
    Channel::from_shared(address.to_owned()).unwrap().connect().await.unwrap()
}

async fn orders(service: &Service) -> OrderServiceClient<Channel> {
    OrderServiceClient::new(plain(&service.admin).await)
}

/// Code and reason of a refusal.
fn refused(status: &Status) -> (Code, String) {
    let (code, reason, _) = refusal(status);
    (code, reason)
}

fn unauthenticated() -> (Code, String) {
    (Code::Unauthenticated, "UNAUTHENTICATED".to_owned())
}
