//! `grpc.health.v1.Health`, as gRPC's health checking protocol has it: what balancers and orchestrators ask.
//!
//! Tells what [`Gate`] was set to last, to the end: while the service drains it says NOT_SERVING, and when those who watch
//! are to go, their streams end. Knows which services a listener has; nothing of why they are to be asked or not.

use std::collections::HashMap;
use std::pin::Pin;

use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::pb::health::health_check_response::ServingStatus;
use crate::pb::health::health_server::{Health, HealthServer};
use crate::pb::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use crate::readiness::{Gate, Readiness};

/// The health of one listener's services. A clone tells the same.
#[derive(Debug, Clone)]
pub struct HealthService {
    services: &'static [&'static str],
    readiness: watch::Receiver<Readiness>,
    dismissed: CancellationToken,
}

const fn told(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status as i32 }
}

impl HealthService {
    /// Of a listener with these services; the empty name is all of them.
    #[must_use]
    pub fn server(services: &'static [&'static str], gate: &Gate) -> HealthServer<Self> {
        let (readiness, dismissed) = (gate.watched(), gate.dismissed());
        HealthServer::new(Self { services, readiness, dismissed })
    }

    fn has(&self, service: &str) -> bool {
        service.is_empty() || self.services.contains(&service)
    }

    fn status(readiness: Readiness) -> ServingStatus {
        if readiness.is_ready() { ServingStatus::Serving } else { ServingStatus::NotServing }
    }

    /// Tells what changes, until nobody listens or all are to go.
    async fn tell(mut self, known: bool, sender: mpsc::Sender<Result<HealthCheckResponse, Status>>) {
        let mut last = None;
        loop {
            let now =
                if known { Self::status(*self.readiness.borrow_and_update()) } else { ServingStatus::ServiceUnknown };
            if last != Some(now) {
                if sender.send(Ok(told(now))).await.is_err() {
                    return;
                }
                last = Some(now);
            }
            tokio::select! {
                biased;
                changed = self.readiness.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
                () = self.dismissed.cancelled() => return,
            }
        }
    }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        if self.has(&service) {
            Ok(Response::new(told(Self::status(*self.readiness.borrow()))))
        } else {
            Err(Status::not_found(format!("there is no service `{}` here", service.escape_debug())))
        }
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        let now = told(Self::status(*self.readiness.borrow()));
        let names = self.services.iter().chain(&[""]).map(|name| (*name).to_owned());
        let statuses: HashMap<String, HealthCheckResponse> = names.map(|name| (name, now)).collect();
        Ok(Response::new(HealthListResponse { statuses }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let known = self.has(&request.into_inner().service);
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(self.clone().tell(known, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
