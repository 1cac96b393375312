//! The record has who acted as they were known, whatever they say, and one person under two names is one person.

use tonic::{Code, Request};
use withheld::pb::v1 as pb;

use super::{Desk, channel, orders, refused, tls, with_token};
use crate::harness::{mk_accounts, mk_apply, mk_context, mk_order, mk_worldwide, refusal};

const PEOPLE: &str = "
[[identity]]
name = \"a@example.org\"
person = \"A. Person\"
roles = [\"operator\", \"approver\"]
certificates = [\"spiffe://example.org/desk/a\"]
[[identity]]
name = \"a.person@example.com\"
person = \"a. person\"
roles = [\"approver\"]
[[identity]]
name = \"b@example.org\"
roles = [\"approver\"]
";

fn unsaid() -> Option<pb::CommandContext> {
    Some(pb::CommandContext { actor: String::new(), ..mk_context("as it should be", "").unwrap() })
}

fn mk_look(order_id: &str) -> pb::ApproveOrderRequest {
    let order_id = order_id.to_owned();
    pb::ApproveOrderRequest { order_id, context: unsaid(), validate_only: true, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_has_who_was_known_by_what_and_nobody_can_say_to_be_somebody_else() {
    let desk = Desk::mk();
    desk.access(PEOPLE);
    let token = desk.token("a@example.org");
    let service = desk.service().await;
    let mut orders = orders(&service).await;
    let apply =
        |id: &str, context| pb::ApplyOrderRequest { context, ..mk_apply(mk_order(id, &["IN"]), mk_accounts([7])) };
    let applied = orders.apply_order(with_token(&token, apply("o1", unsaid()))).await.unwrap().into_inner();
    // Their own name can be said.
    let own = Some(pb::CommandContext { actor: "a@example.org".to_owned(), ..unsaid().unwrap() });
    orders.apply_order(with_token(&token, apply("o2", own))).await.unwrap();
    for said in ["b@example.org", "A@example.org", " a@example.org", "withheld", "\u{202e}x"] {
        let context = Some(pb::CommandContext { actor: said.to_owned(), ..unsaid().unwrap() });
        let status = orders.apply_order(with_token(&token, apply("o3", context))).await.unwrap_err();
        let (code, reason, fields) = refusal(&status);
        assert_eq!(
            (code, reason.as_str(), fields),
            (Code::InvalidArgument, "BAD_FIELDS", vec!["context.actor".to_owned()])
        );
    }
    let id = token.split('_').nth(1).unwrap();
    for (order_id, revision) in [("o1", applied.revision), ("o2", applied.revision + 1)] {
        let request = pb::GetOrderRequest { order_id: order_id.to_owned(), consistency: None };
        let order = orders.get_order(with_token(&token, request)).await.unwrap().into_inner().order.unwrap();
        let event = &order.history[0];
        let known = (event.actor.as_str(), event.credential.clone(), event.revision);
        assert_eq!(known, ("a@example.org", format!("token {id}"), revision));
    }
    // It is in the journal: another process has it, too, after a kill.
    service.kill();
    let service = desk.service().await;
    let request = pb::GetOrderRequest { order_id: "o1".to_owned(), consistency: None };
    let again = super::orders(&service).await.get_order(with_token(&token, request)).await.unwrap().into_inner();
    assert_eq!(again.order.unwrap().history[0].credential, format!("token {id}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_person_under_two_names_and_by_two_credentials_does_not_approve_their_own() {
    let desk = Desk::mk();
    desk.access(PEOPLE);
    let [a, a_too, b] = ["a@example.org", "a.person@example.com", "b@example.org"].map(|name| desk.token(name));
    let service = desk.with_tls(&[]).await;
    let ca = desk.path("services.pem");
    let by_certificate = desk.people.for_spiffe("spiffe://example.org/desk/a");
    let plain =
        pb::order_service_client::OrderServiceClient::new(channel(&service.admin, tls(&ca, None)).await.unwrap());
    let certified = channel(&service.admin, tls(&ca, Some(&by_certificate))).await.unwrap();
    let mut certified = pb::order_service_client::OrderServiceClient::new(certified);
    let mut orders = plain;
    let request = pb::ApplyOrderRequest { context: unsaid(), ..mk_apply(mk_worldwide("o1"), mk_accounts([7])) };
    let waits = certified.apply_order(Request::new(request)).await.unwrap().into_inner().order.unwrap();
    assert_eq!(waits.state(), pb::OrderState::PendingApproval);
    assert_eq!(waits.approval.unwrap().proposed_by, "a@example.org");
    let own = (Code::PermissionDenied, "OWN_PROPOSAL".to_owned());
    assert_eq!(refused(&certified.approve_order(Request::new(mk_look("o1"))).await.unwrap_err()), own);
    for token in [&a, &a_too] {
        assert_eq!(refused(&orders.approve_order(with_token(token, mk_look("o1"))).await.unwrap_err()), own);
        let request = pb::ApproveOrderRequest { validate_only: false, digest: vec![0; 32], ..mk_look("o1") };
        assert_eq!(refused(&orders.approve_order(with_token(token, request)).await.unwrap_err()), own);
    }
    let digest = orders.approve_order(with_token(&b, mk_look("o1"))).await.unwrap().into_inner().digest;
    let request = pb::ApproveOrderRequest { validate_only: false, digest: digest.clone(), ..mk_look("o1") };
    let approved = orders.approve_order(with_token(&b, request)).await.unwrap().into_inner().order.unwrap();
    assert_eq!(
        (approved.state(), approved.approval.unwrap().decided_by),
        (pb::OrderState::InForce, "b@example.org".to_owned())
    );
    // What was approved is not approved again by sending it again.
    let request = pb::ApproveOrderRequest { validate_only: false, digest, ..mk_look("o1") };
    assert_eq!(orders.approve_order(with_token(&b, request)).await.unwrap_err().code(), Code::FailedPrecondition);
}
