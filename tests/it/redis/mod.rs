//! Real Redis and Valkey for the tests: single servers, Sentinel groups and clusters on ports of their own, and what can go
//! wrong with them and with the way to them.
//!
//! Nothing here knows the service: it starts servers, breaks them, and looks at them from outside.

pub mod acl;
pub mod cluster;
pub mod ports;
pub mod process;
pub mod program;
pub mod proxy;
pub mod sentinel;
pub mod servers;
pub mod setup;
pub mod tls;

use std::fmt::Display;
use std::future::Future;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// How long anything may take before a test says what it was waiting for. Far more than it takes: other tests run too.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One of the many addresses of this machine alone, so that a proxy can tell who connects.
const fn loopback(kind: u8, i: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, kind, i as u8 + 1)
}

/// Waits until there is something, and returns it.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: impl Display, mut probe: impl FnMut() -> F) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "after {PATIENCE:?}, still not so: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until something is so.
pub async fn until<F: Future<Output = bool>>(what: impl Display, mut so: impl FnMut() -> F) {
    eventually(what, || {
        let so = so();
        async move { so.await.then_some(()) }
    })
    .await;
}
