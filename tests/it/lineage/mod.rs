//! One history: a journal that was lost, cut short, replaced, or is from the future, is never taken for the one that was
//! followed, and never says that nobody is withheld.

mod entries;
mod on_redis;
mod on_sqlite;
mod split;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use withheld::pb::v1 as pb;

use crate::harness::{BINARY, Service, get, mk_accounts, mk_apply, mk_order};

/// Applies an order that withholds an account in India.
pub async fn apply(service: &Service, order: &str, account: u64) -> Result<u64, tonic::Status> {
    let request = mk_apply(mk_order(order, &["IN"]), mk_accounts([account]));
    Ok(service.orders().await.apply_order(request).await?.into_inner().revision)
}

/// The same under a request id of its own: whoever is told that the outcome is unknown may say it again.
pub async fn apply_again(service: &Service, order: &str, account: u64) -> Result<u64, tonic::Status> {
    let mut request = mk_apply(mk_order(order, &["IN"]), mk_accounts([account]));
    request.context.as_mut().unwrap().request_id = format!("request-{order}");
    Ok(service.orders().await.apply_order(request).await?.into_inner().revision)
}

/// Whether an account is withheld in India, and how fresh that is.
pub async fn check(service: &Service, account: u64) -> Result<(bool, pb::Freshness), tonic::Status> {
    let request = pb::CheckRequest { account_id: account, viewer_country: "IN".to_owned(), ..Default::default() };
    let answer = service.visibility().await.check(request).await?.into_inner();
    Ok((answer.withheld, answer.freshness.unwrap()))
}

/// What `/readyz` says once it says so with 503.
pub async fn not_ready(service: &Service, because: &str) -> String {
    let said = async {
        loop {
            let (status, text) = get(&service.http, "/readyz").await;
            assert_eq!(status, 503, "it is never ready: {text}");
            if text.contains(because) {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), said).await.expect("it does not say why")
}

/// A command about a journal, with what it printed.
pub fn journal(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(BINARY)
        .arg("journal")
        .args(args)
        .env("WITHHELD_ACTOR", "operator@example.org")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

/// The name in a history file.
pub fn name_in(history: &Path) -> String {
    let text = std::fs::read_to_string(history).unwrap();
    text.split("name = \"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}
