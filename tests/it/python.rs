//! Clients in another language, made from the proto files alone.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::{Service, mk_accounts, mk_apply, mk_journal, mk_order, serve_on};
use crate::shared::create_journal;

use crate::redis::ports::Port;
use crate::redis::servers::RedisServer;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Python with the packages that a client needs.
pub fn python() -> PathBuf {
    let list = |file: &str| std::fs::read_to_string(root().join(file)).ok();
    let installed = list("target/test-venv/requirements.txt");
    let wanted = list("tests/python/requirements.txt");
    assert_eq!(installed, wanted, "target/test-venv lacks these packages: run `make test`, which installs them");
    root().join("target/test-venv/bin/python")
}

fn address(url: &str) -> String {
    url.trim_start_matches("http://").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_gets_along_with_the_proto_files_alone() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let output = Command::new(python())
        .arg(root().join("tests/python/smoke.py"))
        .arg(root().join("proto"))
        .args([address(&service.queries), address(&service.admin)])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said == "ok\n", "{said}\n{errors}");
}

/// A replica on a port that stays its own.
async fn replica(redis: &RedisServer, port: &Port, snapshot: &Path) -> Service {
    tokio::task::block_in_place(|| create_journal(&redis.url(), &[]));
    let mut command = serve_on(&redis.url());
    command.env("WITHHELD_LISTEN", format!("127.0.0.1:{}", port.number()));
    command.env("WITHHELD_SNAPSHOT", snapshot).env("WITHHELD_DRAIN_PAUSE", "1s");
    let service = Service::of(command);
    service.serving().await;
    service
}

/// Every replica is stopped and started again, one after the other, twice, and no request of a client with the shipped
/// service configuration is lost or answered wrongly.
#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_loses_no_request_of_a_client_with_the_shipped_service_configuration() {
    let redis = RedisServer::start().await;
    let dir = tempfile::tempdir().unwrap();
    let ports = [Port::reserve(), Port::reserve(), Port::reserve()];
    let snapshot = |at: usize| dir.path().join(format!("{at}.snapshot"));
    let mut replicas = Vec::new();
    for (at, port) in ports.iter().enumerate() {
        replicas.push(replica(&redis, port, &snapshot(at)).await);
    }
    let mut orders = replicas[0].orders().await;
    orders.apply_order(mk_apply(mk_order("order", &["IN"]), mk_accounts([1]))).await.unwrap();
    drop(orders);

    let addresses: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{}", port.number())).collect();
    let mut client = Command::new(python())
        .arg(root().join("tests/python/rolling.py"))
        .arg(addresses.join(","))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(client.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "asking\n");

    for at in (0..3).chain(0..3) {
        let stopped = replicas.remove(0);
        assert!(tokio::task::spawn_blocking(|| stopped.stop()).await.unwrap().success());
        replicas.push(replica(&redis, &ports[at], &snapshot(at)).await);
    }
    drop(client.stdin.take());
    let mut result = String::new();
    said.read_to_string(&mut result).unwrap();
    assert!(client.wait().unwrap().success());
    println!("rolling restart of 3 replicas, twice: {result}");
    let result: serde_json::Value = serde_json::from_str(&result).unwrap();
    assert!(result["requests"].as_u64().unwrap() > 500, "{result}");
    assert_eq!(result["errors"], serde_json::json!([]), "{result}");
}
