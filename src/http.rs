//! What a balancer, a container and Prometheus ask over HTTP: `/readyz`, `/healthz`, `/metrics`.
//!
//! Nothing here can be changed and nothing tells of an order, so nobody is asked who they are. It stays up while the
//! service drains, so that it can be seen draining.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::task::JoinHandle;

use crate::metrics::{self, Tallies};
use crate::net::{Door, Drain, Http1};
use crate::readiness::{Gate, because};
use crate::replica::Replica;

/// How long answers under way may take to finish at the end; an idle connection is not waited for any longer.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// What it tells about.
#[derive(Clone)]
pub struct Pages {
    /// What this process knows.
    pub replica: Replica,
    /// Whether to ask it.
    pub gate: Gate,
    /// What was counted.
    pub tallies: Tallies,
}

/// The HTTP listener, if there is one.
pub struct Http {
    address: Option<SocketAddr>,
    work: JoinHandle<()>,
    upkeep: JoinHandle<()>,
    drain: Drain,
}

impl fmt::Display for Http {
    /// Where it listens, or `off`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => address.fmt(f),
            None => f.write_str("off"),
        }
    }
}

impl Http {
    /// Serves; `ended` is told if it cannot.
    pub fn start(
        listener: Option<TcpListener>,
        door: Door<Http1>,
        pages: Pages,
        ended: impl FnOnce(io::Error) + Send + 'static,
    ) -> Self {
        let (address, drain) = (listener.as_ref().and_then(|listener| listener.local_addr().ok()), door.drain.clone());
        let routes = Router::new()
            .route("/metrics", get(measured))
            .route("/healthz", get(async || "alive\n"))
            .route("/readyz", get(ready))
            .with_state(pages);
        let work = tokio::spawn(async move {
            if let Some(listener) = listener
                && let Err(error) = door.serve(listener, routes).await
            {
                ended(error);
            }
        });
        // What is measured must not pile up where nobody scrapes.
        let upkeep = tokio::spawn(upkeep());
        Self { address, work, upkeep, drain }
    }

    /// Finishes what is being answered.
    pub async fn stop(self) {
        self.drain.leave();
        if tokio::time::timeout(LAST_ANSWERS, self.work).await.is_err() {
            self.drain.cut();
        }
        self.upkeep.abort();
    }
}

async fn upkeep() {
    loop {
        tokio::time::sleep(metrics::UPKEEP).await;
        metrics::upkeep();
    }
}

async fn ready(State(pages): State<Pages>) -> (StatusCode, String) {
    let readiness = pages.gate.readiness();
    let status = if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, because(readiness, &pages.replica) + "\n")
}

async fn measured(State(pages): State<Pages>) -> Response {
    let Pages { replica, gate, tallies } = pages;
    // Counting very many orders takes milliseconds, which nobody else should wait for.
    let rendering = tokio::task::spawn_blocking(move || metrics::render(&replica, gate.readiness(), &tallies));
    match rendering.await {
        Ok(text) => ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
