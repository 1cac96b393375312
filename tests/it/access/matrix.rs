//! Every method, by every role and by nobody: as the table in the README has it.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use withheld::pb::v1 as pb;

use super::{Desk, plain, refused, unauthenticated, with_token};
use crate::harness::Service;

const ROLES: [&str; 5] = ["reader", "operator", "approver", "auditor", "admin"];

/// Method (`Service/Method`) to the roles that may call it, from the README.
fn table() -> BTreeMap<String, BTreeSet<&'static str>> {
    let readme = include_str!("../../../README.md");
    let from = readme.find("| method | reader |").expect("the table is in the README");
    let rows = readme[from..].lines().skip(2).take_while(|line| line.starts_with('|'));
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 1 + ROLES.len(), "{line}");
        let may = ROLES.iter().zip(&cells[1..]).filter(|(_, cell)| **cell == "●").map(|(role, _)| *role);
        (cells[0].trim_matches('`').to_owned(), may.collect())
    };
    rows.map(row).collect()
}

/// All methods there are, from the API's own description.
fn methods() -> BTreeSet<String> {
    let files = prost_types::FileDescriptorSet::decode(pb::DESCRIPTORS).unwrap();
    let services = files.file.into_iter().filter(|file| file.package() == "withheld.v1").flat_map(|file| file.service);
    let named = |service: prost_types::ServiceDescriptorProto| {
        let name = service.name().to_owned();
        service.method.into_iter().map(move |method| format!("{name}/{}", method.name()))
    };
    services.flat_map(named).collect()
}

/// Calls a method with an empty message: whether it is answered or refused by the method itself, or by the guard.
async fn call(channel: Channel, method: &str, request: Request<()>) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.unwrap();
    let path: PathAndQuery = format!("/withheld.v1.{method}").parse().unwrap();
    match grpc.server_streaming(request, path, ProstCodec::<(), ()>::default()).await {
        Err(status) if matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied) => Err(status),
        Err(status) => {
            assert_ne!(status.code(), Code::Unimplemented, "{method} is not where it is asked for");
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

fn address<'a>(service: &'a Service, method: &str) -> &'a str {
    if method.starts_with("VisibilityService/") { &service.queries } else { &service.admin }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_is_for_the_roles_that_the_readme_says_and_for_nobody_else() {
    let table = table();
    assert_eq!(table.keys().cloned().collect::<BTreeSet<_>>(), methods(), "the table has every method");
    let desk = Desk::mk();
    let people = ROLES.map(|role| format!("[[identity]]\nname = \"{role}@example.org\"\nroles = [\"{role}\"]\n"));
    desk.access(&format!("{}\n[[identity]]\nname = \"nothing@example.org\"\nroles = []\n", people.concat()));
    let tokens = ROLES.map(|role| (role, desk.token(&format!("{role}@example.org"))));
    let nothing = desk.token("nothing@example.org");
    let service = desk.service().await;
    let [queries, admin] = [plain(&service.queries).await, plain(&service.admin).await];
    for (method, may) in &table {
        let channel = || if address(&service, method) == service.queries { queries.clone() } else { admin.clone() };
        for (role, token) in &tokens {
            let answer = call(channel(), method, with_token(token, ())).await;
            match answer {
                Ok(()) => assert!(may.contains(role), "{role} gets to {method}"),
                Err(status) => {
                    assert!(!may.contains(role), "{role} does not get to {method}: {status}");
                    assert_eq!(refused(&status), (Code::PermissionDenied, "ROLE_MISSING".to_owned()));
                    let needed: Vec<_> = ROLES.into_iter().filter(|role| may.contains(role)).collect();
                    assert!(status.message().contains(&needed.join(", ")), "{}", status.message());
                }
            }
        }
        let status = call(channel(), method, Request::new(())).await.expect_err(method);
        assert_eq!(refused(&status), unauthenticated(), "{method}");
        let status = call(channel(), method, with_token(&nothing, ())).await.expect_err(method);
        assert_eq!(status.code(), Code::PermissionDenied, "{method}");
    }
    // What is on neither listener is nobody's, by whatever name.
    let (_, admin_token) = &tokens[4];
    for path in ["OrderService/Nothing", "NoService/Check", "OrderService/PreviewOrder/", "orderservice/PreviewOrder"] {
        let status = call(admin.clone(), path, with_token(admin_token, ())).await.expect_err(path);
        assert_eq!(status.code(), Code::PermissionDenied, "{path}");
    }
    // Balancers and tools are asked nothing.
    let health = tonic_health::pb::HealthCheckRequest { service: String::new() };
    tonic_health::pb::health_client::HealthClient::new(queries.clone()).check(health).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn anybody_can_be_let_read_and_nothing_more_and_a_credential_that_is_shown_has_to_hold() {
    let desk = Desk::mk();
    desk.access("anonymous = [\"reader\"]\n");
    let service = desk.service().await;
    let [queries, admin] = [plain(&service.queries).await, plain(&service.admin).await];
    for (method, may) in &table() {
        let channel = if address(&service, method) == service.queries { queries.clone() } else { admin.clone() };
        let answer = call(channel.clone(), method, Request::new(())).await;
        assert_eq!(answer.is_ok(), may.contains("reader"), "{method}");
        let status = call(channel, method, with_token("withheld_00000000_nothing", ())).await.expect_err(method);
        assert_eq!(refused(&status), unauthenticated(), "{method}");
    }
}
