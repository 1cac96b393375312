//! The integration tests: one binary, real processes, real gRPC.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::zombie_processes,
    reason = "a test fails by panicking; a service is waited for when it is dropped"
)]

mod countries;
mod demo;
mod harness;
mod pages;
mod python;
mod scenario;
