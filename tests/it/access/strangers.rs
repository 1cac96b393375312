//! Those of whom nothing is known: they keep nobody out, leave no traces, and go when a certificate ends.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::{Code, Request};
use withheld::pb::v1 as pb;

use super::{Desk, ask, channel, mk_check, orders, plain, refused, tls, with_token};
use crate::frames::Wire;
use crate::harness::{Service, get, mk_accounts, mk_apply, mk_context, mk_order};
use crate::redis::until;
use crate::scrape::Scrape;

const PEOPLE: &str = "
[[identity]]
name = \"desk@example.org\"
roles = [\"operator\"]
[[identity]]
name = \"other@example.org\"
roles = [\"operator\"]
[[identity]]
name = \"second@example.org\"
roles = [\"approver\"]
[[identity]]
name = \"timeline\"
roles = [\"reader\"]
";

#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_take_all_connections_go_when_somebody_comes_who_is_let_in() {
    let desk = Desk::mk();
    desk.access(PEOPLE);
    let token = desk.token("timeline");
    let flags = ["--access", &desk.text("access.toml"), "--max-connections", "50"];
    let service = Service::start_with(&desk.path("journal.db"), &flags).await;
    // Somebody is there already, and stays whatever comes.
    let early = plain(&service.queries).await;
    assert!(!ask(early.clone(), with_token(&token, mk_check())).await.unwrap());
    let mut strangers = Vec::new();
    for _ in 0..200 {
        strangers.push(Wire::greet(&service.queries).await);
    }
    assert!(Scrape::of(&service).await.count("withheld_connections{listener=\"queries\"}") <= 50);
    for _ in 0..20 {
        let late = plain(&service.queries).await;
        assert!(!ask(late, with_token(&token, mk_check())).await.unwrap());
    }
    assert!(!ask(early, with_token(&token, mk_check())).await.unwrap(), "who was let in is not closed for others");
    // The last of the strangers is there still: only as many went as were needed.
    let last = strangers.last_mut().unwrap();
    last.begin(1, "grpc.health.v1.Health/Check").await;
    assert!(last.next().await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_ask_for_nothing_keep_nobody_from_the_pages() {
    let desk = Desk::mk();
    desk.access(PEOPLE);
    let service = desk.service().await;
    let mut idle = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(&service.http).await.unwrap();
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\n").await.unwrap();
        idle.push(stream);
    }
    let (code, body) = get(&service.http, "/readyz").await;
    assert_eq!((code, body.as_str()), (200, "ready\n"));
    let mut first = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(30), idle[0].read_to_end(&mut first)).await;
    assert!(matches!(closed, Ok(Ok(0) | Err(_))), "the oldest one went: {closed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_the_certificate_that_opened_it_and_nobody_comes_back_by_a_ticket() {
    let desk = Desk::mk();
    let people =
        "[[identity]]\nname = \"timeline\"\nroles = [\"reader\"]\ncertificates = [\"spiffe://example.org/timeline\"]\n";
    desk.access(people);
    let service = desk.with_tls(&["--client-cert", "required"]).await;
    let ca = desk.path("services.pem");
    let short = desk.people.for_spiffe_until("spiffe://example.org/timeline", 4);
    let open = channel(&service.queries, tls(&ca, Some(&short))).await.unwrap();
    assert!(!ask(open.clone(), Request::new(mk_check())).await.unwrap());
    // A new connection is refused in the handshake; the open one is ended.
    until("it has ended", async || ask(open.clone(), Request::new(mk_check())).await.is_err()).await;

    // openssl keeps the ticket that it is given, and shows it when it comes back.
    let issued = desk.people.for_spiffe("spiffe://example.org/timeline");
    std::fs::write(desk.path("client.pem"), &issued.certificate).unwrap();
    std::fs::write(desk.path("client.key"), &issued.key).unwrap();
    let session = desk.text("session");
    for (flag, version) in [("-sess_out", "-tls1_3"), ("-sess_in", "-tls1_3")] {
        if flag == "-sess_in" && !desk.path("session").exists() {
            // No ticket was given at all.
            break;
        }
        let address = service.queries.trim_start_matches("http://").to_owned();
        let arguments = ["s_client", "-connect", &address, "-alpn", "h2", version, flag, &session];
        let output = std::process::Command::new("openssl")
            .args(arguments)
            .args([
                "-cert",
                &desk.text("client.pem"),
                "-key",
                &desk.text("client.key"),
                "-CAfile",
                &desk.text("services.pem"),
            ])
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("New, TLSv1.3") && !said.contains("Reused"), "{said}");
    }
}

/// README: a proposal is rejected by an approver, or withdrawn by who made it.
#[tokio::test(flavor = "multi_thread")]
async fn who_proposed_may_withdraw_it_and_another_operator_may_not() {
    let desk = Desk::mk();
    desk.access(PEOPLE);
    let [own, other, second] =
        ["desk@example.org", "other@example.org", "second@example.org"].map(|name| desk.token(name));
    let service = desk.service().await;
    let mut orders = orders(&service).await;
    for (number, by) in [(1, &own), (2, &second)] {
        let id = format!("order-{number}");
        let mut request = mk_apply(mk_order(&id, &["IN"]), mk_accounts(1..700));
        request.context = Some(pb::CommandContext { actor: String::new(), ..request.context.unwrap() });
        let applied = orders.apply_order(with_token(&own, request)).await.unwrap().into_inner();
        assert_eq!(applied.order.unwrap().state(), pb::OrderState::PendingApproval);
        let reject = || pb::RejectOrderRequest {
            order_id: id.clone(),
            context: Some(pb::CommandContext { actor: String::new(), ..mk_context("a slip", "").unwrap() }),
        };
        let status = orders.reject_order(with_token(&other, reject())).await.unwrap_err();
        assert_eq!(refused(&status), (Code::PermissionDenied, "ROLE_MISSING".to_owned()), "{status}");
        let rejected = orders.reject_order(with_token(by, reject())).await.unwrap().into_inner();
        assert_eq!(rejected.order.unwrap().state(), pb::OrderState::Rejected);
    }
}
