//! The integration tests: one binary, real processes, real gRPC.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::zombie_processes,
    clippy::disallowed_methods,
    reason = "a test fails by panicking; a service is waited for when it is dropped"
)]

mod abuse;
mod access;
mod approvals;
mod backup;
mod cli;
mod clients;
mod compression;
mod config;
mod connections;
mod countries;
mod crash;
mod demo;
mod desk;
mod drain;
mod faults;
mod frames;
mod harness;
mod health;
mod journal;

mod large;
mod lineage;
mod logs;
mod metrics;
mod orders;
mod pages;
mod properties;
mod python;
mod record;
mod redis;
mod refusals;
mod reports;
mod scenario;
mod scrape;
mod service;
mod shared;
mod time;
mod traces;
mod watch;
mod ways;
