//! The baseline of unary calls: what anybody gets who follows tonic's introduction.
//!
//! `#[tokio::main]`, the default server builder, the system's allocator, no metrics; it looks nothing up and answers with
//! as many bytes as a Check that is not withheld. Run as a process of its own: `figures echo`.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};
use withheld::pb::v1 as pb;
use withheld::pb::v1::visibility_service_server::{VisibilityService, VisibilityServiceServer};

pub const ROLE: &str = "echo";

struct Echo;

#[tonic::async_trait]
impl VisibilityService for Echo {
    type WatchWithholdingsStream = tokio_stream::Empty<Result<pb::WatchWithholdingsResponse, Status>>;

    async fn check(&self, _: Request<pb::CheckRequest>) -> Result<Response<pb::CheckResponse>, Status> {
        Ok(Response::new(pb::CheckResponse {
            freshness: Some(pb::Freshness {
                revision: 200,
                age: Some(prost_types::Duration { seconds: 0, nanos: 250_000_000 }),
                liveness: pb::Liveness::Live.into(),
            }),
            ..Default::default()
        }))
    }

    async fn batch_check(&self, _: Request<pb::BatchCheckRequest>) -> Result<Response<pb::BatchCheckResponse>, Status> {
        Err(Status::unimplemented("only Check"))
    }

    async fn list_withheld_countries(
        &self,
        _: Request<pb::ListWithheldCountriesRequest>,
    ) -> Result<Response<pb::ListWithheldCountriesResponse>, Status> {
        Err(Status::unimplemented("only Check"))
    }

    async fn watch_withholdings(
        &self,
        _: Request<pb::WatchWithholdingsRequest>,
    ) -> Result<Response<Self::WatchWithholdingsStream>, Status> {
        Err(Status::unimplemented("only Check"))
    }
}

/// Serves until it is killed; the first line it writes is its address. With a certificate and a key it speaks TLS.
#[tokio::main]
pub async fn run(tls: Option<(PathBuf, PathBuf)>) {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    // What `serve` makes of an address, but that it does not tell which port it was given.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let mut server = Server::builder();
    if let Some((certificate, key)) = tls {
        let identity = Identity::from_pem(std::fs::read(certificate).unwrap(), std::fs::read(key).unwrap());
        server = server.tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
    }
    server.add_service(VisibilityServiceServer::new(Echo)).serve_with_incoming(incoming).await.unwrap();
}
