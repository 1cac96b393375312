//! TLS on every listener, and who is known by a certificate.

use std::io::Read as _;
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion, version};
use tonic::{Code, Request};

use super::pki::{Authority, Issued};
use super::{Desk, ask, channel, mk_check, refused, tls, unauthenticated, with_token};
use crate::harness::{BINARY, Service};
use crate::redis::until;
use crate::scrape::Scrape;

const TIMELINE: &str = "spiffe://example.org/timeline";

const PEOPLE: &str = "
[[identity]]
name = \"timeline\"
roles = [\"reader\"]
certificates = [\"spiffe://example.org/timeline\", \"CN=old timeline\"]
[[identity]]
name = \"by token\"
roles = [\"reader\"]
";

/// Shakes hands as rustls does, and shows the certificate that the service has shown.
pub(super) fn shake(
    service: &Service,
    desk: &Desk,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<Vec<u8>, String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(desk.path("services.pem")).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let address = service.queries.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).map_err(|error| error.to_string())?;
    }
    Ok(connection.peer_certificates().unwrap()[0].to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_certificate_that_holds_does_not_get_in_and_who_has_one_is_known_by_it() {
    let desk = Desk::mk();
    desk.access(PEOPLE);
    let service = desk.with_tls(&["--client-cert", "required"]).await;
    let ca = desk.path("services.pem");
    let call = async |shown: Option<Issued>| match channel(&service.queries, tls(&ca, shown.as_ref())).await {
        // In TLS 1.3 who shows nothing is told after the handshake.
        Ok(channel) => ask(channel, Request::new(mk_check()))
            .await
            .map_err(|status| (status.code() == Code::Unauthenticated).then(|| refused(&status))),
        Err(_) => Err(None),
    };
    for issued in [desk.people.for_spiffe(TIMELINE), desk.people.for_subject("old timeline")] {
        assert_eq!(call(Some(issued)).await, Ok(false));
    }
    // Nobody gets in to be told anything: none at all, over, by another authority, by the service's, or by themselves.
    let stranger = Authority::mk();
    for (what, shown) in [
        ("none", None),
        ("expired", Some(desk.people.expired(TIMELINE))),
        ("another authority's", Some(stranger.for_spiffe(TIMELINE))),
        ("the services' authority's", Some(desk.services.for_spiffe(TIMELINE))),
        ("a service's own", Some(desk.people.for_service())),
    ] {
        assert_eq!(call(shown).await, Err(None), "{what}");
    }
    // At the command line, it is said what is missing.
    let check =
        ["--endpoint", &service.queries.replace("http:", "https:"), "--ca", &desk.text("services.pem"), "check"];
    let output = Command::new(BINARY).args(check).args(["IN", "1"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(1) && said.contains("client certificate") && said.contains("--cert and --key"),
        "{said}"
    );
    // Vouched for, and nobody: two SPIFFE IDs, one that only looks like one, one in another case, one of another domain.
    for uris in [
        &[TIMELINE, "spiffe://example.org/other"][..],
        &["spiffe://example.org/timeline/"],
        &["SPIFFE://example.org/timeline"],
        &["spiffe://example.org/Timeline"],
        &["spiffe://example.org/x/../timeline"],
        &["spiffe://example.org@evil.example/timeline"],
        &["spiffe://example.org/timeline?x"],
        &["https://example.org/timeline"],
    ] {
        let answer = call(Some(desk.people.for_uris(uris))).await;
        assert_eq!(answer, Err(Some(unauthenticated())), "{uris:?}");
    }
    let failed = Scrape::read(&metrics(&service)).count("withheld_tls_handshakes_failed_total{listener=\"queries\"}");
    assert!(failed >= 5, "{failed}");
    assert_eq!(call(Some(desk.people.for_spiffe(TIMELINE))).await, Ok(false), "it goes on");
    // A service that shows what another authority vouches for is not believed.
    assert!(channel(&service.queries, tls(&desk.path("people.pem"), None)).await.is_err());
    // Plaintext is not spoken.
    let plain = tonic::transport::Channel::from_shared(service.queries.clone()).unwrap().connect().await;
    if let Ok(plain) = plain {
        assert_ne!(ask(plain, Request::new(mk_check())).await.unwrap_err().code(), Code::Ok);
    }
}

pub(super) fn metrics(service: &Service) -> String {
    // The HTTP listener speaks TLS, too; asked by curl, which knows nothing of ours.
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--insecure", &format!("https://{}/metrics", service.http)])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_enough_where_certificates_are_optional_and_counts_before_one() {
    let desk = Desk::mk();
    desk.access(PEOPLE);
    let token = desk.token("by token");
    let service = desk.with_tls(&[]).await;
    let ca = desk.path("services.pem");
    let anonymous = channel(&service.queries, tls(&ca, None)).await.unwrap();
    assert!(!ask(anonymous.clone(), with_token(&token, mk_check())).await.unwrap());
    assert_eq!(refused(&ask(anonymous, Request::new(mk_check())).await.unwrap_err()), unauthenticated());
    let known = channel(&service.queries, tls(&ca, Some(&desk.people.for_spiffe(TIMELINE)))).await.unwrap();
    assert!(!ask(known.clone(), Request::new(mk_check())).await.unwrap());
    let status = ask(known, with_token("withheld_00000000_x", mk_check())).await.unwrap_err();
    assert_eq!(refused(&status), unauthenticated(), "a credential that is shown has to hold");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_shown_without_a_restart_and_open_connections_go_on() {
    let desk = Desk::mk();
    desk.access(PEOPLE);
    let service = desk.with_tls(&[]).await;
    let first = shake(&service, &desk, &[&version::TLS13]).unwrap();
    let open =
        channel(&service.queries, tls(&desk.path("services.pem"), Some(&desk.people.for_spiffe(TIMELINE)))).await;
    let open = open.unwrap();
    assert!(!ask(open.clone(), Request::new(mk_check())).await.unwrap());
    // Half a file changes nothing, and is told.
    std::fs::write(desk.path("service.pem"), "-----BEGIN CERTIFICATE-----\n").unwrap();
    until("it is told", async || service.log().contains("configuration reload failed")).await;
    assert_eq!(shake(&service, &desk, &[&version::TLS13]).unwrap(), first);
    desk.show(&desk.services.for_service());
    until("another one is shown", async || {
        shake(&service, &desk, &[&version::TLS13]).is_ok_and(|shown| shown != first)
    })
    .await;
    assert!(!ask(open, Request::new(mk_check())).await.unwrap(), "the open connection goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_version_is_kept_to() {
    let desk = Desk::mk();
    desk.access(PEOPLE);
    let service = desk.with_tls(&[]).await;
    assert!(shake(&service, &desk, &[&version::TLS13]).is_ok());
    let refusal = shake(&service, &desk, &[&version::TLS12]).unwrap_err();
    assert!(refusal.contains("ProtocolVersion"), "{refusal}");
    drop(service);
    let service = desk.with_tls(&["--tls-min-version", "1.2"]).await;
    assert!(shake(&service, &desk, &[&version::TLS12]).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_shake_hands_is_gone_after_a_while() {
    let desk = Desk::mk();
    desk.access(PEOPLE);
    let service = desk.with_tls(&[]).await;
    let address = service.queries.trim_start_matches("http://").to_owned();
    let began = Instant::now();
    let silent = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.read(&mut [0; 1]).map(|read| (read, began.elapsed()))
    });
    let (read, after) = silent.await.unwrap().expect("it is closed, not left");
    assert_eq!(read, 0);
    assert!(after >= Duration::from_secs(4), "{after:?}");
}

#[test]
fn what_would_be_open_to_everybody_does_not_start() {
    let desk = Desk::mk();
    desk.access(PEOPLE);
    let [cert, key, access] = ["service.pem", "service.key", "access.toml"].map(|name| desk.text(name));
    let mut tls = vec!["--tls-cert", &cert, "--tls-key", &key];
    let start = |flags: &[&str]| {
        let base = ["serve", "--validate", "--journal", "memory:"];
        let output = Command::new(BINARY).args([&base, flags].concat()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(told) }
    };
    for listener in ["--listen", "--admin-listen", "--http-listen"] {
        let told = start(&[listener, "0.0.0.0:0", "--access", &access]).unwrap_err();
        assert!(told.contains("without TLS") && told.contains("0.0.0.0:0") && told.contains(&listener[2..]), "{told}");
        start(&[listener, "0.0.0.0:0", "--access", &access, "--insecure"]).unwrap();
        start(&[&[listener, "0.0.0.0:0", "--access", &access][..], &tls].concat()).unwrap();
        start(&[listener, "[::1]:0"]).unwrap();
    }
    let told = start(&["--admin-listen", "0.0.0.0:0", "--insecure"]).unwrap_err();
    assert!(told.contains("nobody is asked who they are") && told.contains("`access`"), "{told}");
    let told = start(&[&["--admin-listen", "[::]:0"][..], &tls].concat()).unwrap_err();
    assert!(told.contains("nobody is asked who they are"), "{told}");
    let told = start(&tls[..2]).unwrap_err();
    assert!(told.contains("`tls-cert` is set and `tls-key` is not"), "{told}");
    let other = desk.text("people.pem");
    tls[3] = &other;
    let told = start(&tls).unwrap_err();
    assert!(told.contains("people.pem"), "{told}");
}
