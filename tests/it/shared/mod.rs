//! Services that share a journal on Redis: what becomes of them when Redis is slow, silent, gone, or has forgotten.

mod access;
mod causes;
mod durable;
mod mend;
mod old_program;
mod outage;
mod rights;
mod sentinels;
mod shelf;
mod shipped;
mod tls;

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tonic::{Code, Status};
use withheld::pb::v1 as pb;

use crate::harness::{BINARY, CREATED, Service, mk_accounts, mk_apply, mk_batch, mk_order, refusal};
use crate::redis::acl::log_in_to_sentinels;
use crate::redis::servers::RedisServer;
use crate::redis::until;
use crate::scrape::Scrape;

/// The command that runs a service on a journal on Redis, on ports and with a snapshot of its own.
pub fn on(url: &str, dir: &TempDir, flags: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
        .env("WITHHELD_QUERY_THREADS", "1")
        .args(["--journal", url, "--snapshot"])
        .arg(dir.path().join("state.snapshot"))
        .args(flags)
        .env("RUST_LOG", "info");
    log_in_to_sentinels(&mut command);
    command
}

/// Makes the journal on Redis that services of a test are to share, as an operator does once.
pub fn create_journal(url: &str, flags: &[&str]) {
    let made = create(url, flags);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Runs the command that makes a journal on Redis.
pub fn create(url: &str, flags: &[&str]) -> Output {
    // What the command knows of it is nobody's business here: each service keeps its own.
    let dir = TempDir::new().unwrap();
    let mut create = Command::new(BINARY);
    create.args(["journal", "create", "--actor", "operator@example.org", "--journal", url, "--snapshot"]);
    create.arg(dir.path().join("create.snapshot")).args(flags).stdin(Stdio::null());
    log_in_to_sentinels(&mut create).output().unwrap()
}

/// Makes the journal, if there is none, by the flags that are about Redis.
fn make_journal(url: &str, flags: &[&str]) {
    let about_redis: Vec<&str> =
        flags.chunks(2).filter(|pair| pair[0].starts_with("--redis")).flatten().copied().collect();
    tokio::task::block_in_place(|| create_journal(url, &about_redis));
}

/// A service that serves.
pub async fn serving_on(url: &str, dir: &TempDir, flags: &[&str]) -> Service {
    make_journal(url, flags);
    let service = Service::of(on(url, dir, flags));
    service.serving().await;
    service
}

pub fn mk_dir() -> TempDir {
    TempDir::new().unwrap()
}

/// Orders to withhold one account in India.
async fn apply(service: &Service, order: &str, account: u64) -> Result<pb::ApplyOrderResponse, Status> {
    let mut request = mk_apply(mk_order(order, &["IN"]), mk_accounts([account]));
    request.context.as_mut().unwrap().request_id = format!("request-{order}");
    service.orders().await.apply_order(request).await.map(tonic::Response::into_inner)
}

/// Is it withheld in India, at which revision, and how fresh is that?
async fn look(service: &Service, account: u64) -> (bool, pb::Freshness) {
    let answer = service.visibility().await.batch_check(mk_batch("IN", [account])).await.unwrap().into_inner();
    (!answer.accounts.is_empty(), answer.freshness.unwrap())
}

fn age(freshness: &pb::Freshness) -> Duration {
    Duration::try_from(freshness.age.unwrap()).unwrap()
}

async fn until_withheld(service: &Service, account: u64) {
    until(format!("account {account} is withheld"), async || look(service, account).await.0).await;
}

/// A refusal within a second, that says whether anything was written, and that trying again can help.
async fn refused_at_once(service: &Service, order: &str, account: u64) -> (String, String) {
    let (reason, written, retry) = refused(service, order, account).await;
    assert!(retry, "{reason}");
    (reason, written)
}

/// A refusal within a second: its reason, whether anything was written, and whether trying again can help.
async fn refused(service: &Service, order: &str, account: u64) -> (String, String, bool) {
    use tonic_types::StatusExt as _;
    let began = Instant::now();
    let refused = apply(service, order, account).await.unwrap_err();
    // Generous: a machine that runs many tests at once must not fail it. What hangs would take much longer.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let (code, reason, _) = refusal(&refused);
    assert_eq!(code, Code::Unavailable, "{refused}");
    let details = refused.get_error_details();
    (reason, details.error_info().unwrap().metadata["written"].clone(), details.retry_info().is_some())
}

/// Runs `withheld journal` on a journal: exit code, standard output, standard error.
fn journal(url: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(BINARY);
    command.args(["journal", args[0], "--journal", url]).args(&args[1..]);
    let output = tokio::task::block_in_place(|| command.stdin(Stdio::null()).output().unwrap());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The hash that the journal on a server has at a revision, in hexadecimal digits.
async fn hash_of(server: &RedisServer, revision: u64) -> String {
    let id = format!("{revision}-0");
    let found: Vec<(String, Vec<Vec<u8>>)> = server.ask(&["XRANGE", "{withheld}:journal", &id, &id]).await;
    found[0].1[1].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the journal on a server is called, by the documentation: 16 bytes of the hash of its first entry.
async fn name_of(server: &RedisServer) -> String {
    hash_of(server, CREATED).await[..32].to_owned()
}

/// A value of `/metrics`.
async fn metric(service: &Service, name: &str) -> u64 {
    Scrape::of(service).await.count(name)
}
