//! gRPC's health checking protocol, as its own description has it: grpc/health/v1/health.proto.

use withheld::pb::health::health_check_response::ServingStatus;
use withheld::pb::health::health_client::HealthClient;
use withheld::pb::health::{HealthCheckRequest, HealthListRequest};

use crate::harness::{Service, mk_journal};

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_a_name_that_is_not_known_is_told_so_and_stays() {
    let (_dir, journal) = mk_journal();
    let service = Service::start(&journal).await;
    for (endpoint, names) in [
        (&service.queries, &["", "withheld.v1.VisibilityService"][..]),
        (&service.admin, &["", "withheld.v1.OrderService", "withheld.v1.JournalService"]),
    ] {
        let mut health = HealthClient::connect(endpoint.clone()).await.unwrap();
        for name in names {
            assert_eq!(health.check(of(name)).await.unwrap().into_inner().status(), ServingStatus::Serving, "{name}");
        }
        let status = health.check(of("withheld.v1.Nothing")).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::NotFound);
        let mut unknown = health.watch(of("withheld.v1.Nothing")).await.unwrap().into_inner();
        assert_eq!(unknown.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
        let mut known = health.watch(of("")).await.unwrap().into_inner();
        assert_eq!(known.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
        // Nothing more is said, and the call goes on: it ends neither well nor badly.
        let more = tokio::time::timeout(std::time::Duration::from_millis(300), unknown.message()).await;
        assert!(more.is_err(), "{more:?}");
        let listed = health.list(HealthListRequest {}).await.unwrap().into_inner().statuses;
        assert!(names.iter().all(|name| listed[*name].status() == ServingStatus::Serving), "{listed:?}");
    }
    let admin = HealthClient::connect(service.admin.clone()).await.unwrap().list(HealthListRequest {}).await.unwrap();
    assert_eq!(admin.into_inner().statuses.len(), 6, "five services, and all of them");
}

/// To the last answer that there is, a service that stops says that it does not serve: never that it is not known.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_stops_says_not_serving_to_the_end() {
    let (_dir, journal) = mk_journal();
    let service = Service::start_with(&journal, &["--drain-pause", "1s"]).await;
    let mut health = HealthClient::connect(service.queries.clone()).await.unwrap();
    let mut watch = health.watch(of("withheld.v1.VisibilityService")).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    service.terminate();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    let mut answers = 0;
    loop {
        match health.check(of("withheld.v1.VisibilityService")).await {
            Ok(answer) => assert_eq!(answer.into_inner().status(), ServingStatus::NotServing),
            Err(status) => {
                assert_ne!(status.code(), tonic::Code::NotFound, "{status}");
                break;
            }
        }
        answers += 1;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(answers > 0);
    // Its stream has ended, or its connection: with nothing else said.
    while let Ok(Some(more)) = watch.message().await {
        assert_eq!(more.status(), ServingStatus::NotServing);
    }
}
