//! A client in another language, made from the proto files alone.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{Service, mk_journal};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_gets_along_with_the_proto_files_alone() {
    let root = Path::new(ROOT);
    let python = root.join("target/test-venv/bin/python");
    let list = |file: &str| std::fs::read_to_string(root.join(file)).ok();
    let installed = list("target/test-venv/requirements.txt");
    let wanted = list("tests/python/requirements.txt");
    assert_eq!(installed, wanted, "target/test-venv lacks these packages: run `make test`, which installs them");
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    let address = |url: &str| url.trim_start_matches("http://").to_owned();
    let output = Command::new(python)
        .arg(root.join("tests/python/smoke.py"))
        .arg(root.join("proto"))
        .args([address(&service.queries), address(&service.admin)])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said == "ok\n", "{said}\n{errors}");
}
