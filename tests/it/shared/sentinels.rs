//! Sentinels that ask who is there: they have users and passwords of their own, apart from the servers'.

use tempfile::TempDir;

use super::{apply, mk_dir, on, serving_on};
use crate::harness::Service;
use crate::redis::acl::SERVICE;
use crate::redis::program::ServerProgram;
use crate::redis::sentinel::SentinelGroup;
use crate::redis::setup::Setup;
use crate::redis::until;

const WRONG: &str = "wrong-horse";
const NO_CONNECTION: &str = "cannot connect to Redis, trying again";

/// A service that has said that it is not told the primary, with this password to the Sentinels or without any.
async fn refused(group: &SentinelGroup, dir: &TempDir, password: Option<&str>) -> Service {
    let mut command = on(&group.url(), dir, &[]);
    match password {
        Some(password) => command.env("WITHHELD_REDIS_SENTINEL_PASSWORD", password),
        None => command.env_remove("WITHHELD_REDIS_SENTINEL_USER").env_remove("WITHHELD_REDIS_SENTINEL_PASSWORD"),
    };
    let service = Service::of(command);
    until("it says that there is no connection", async || service.log().contains(NO_CONNECTION)).await;
    service
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_password_of_the_sentinels_orders_are_taken_and_without_it_none() {
    for program in ServerProgram::ALL {
        let group = SentinelGroup::start_as(&Setup { program, ..Setup::default() }).await;
        let dirs = [mk_dir(), mk_dir(), mk_dir()];
        let service = serving_on(&group.url(), &dirs[0], &[]).await;
        assert!(!service.log().contains(SERVICE.password), "no password in the log");
        for (dir, password) in [(&dirs[1], Some(WRONG)), (&dirs[2], None)] {
            let stranger = refused(&group, dir, password).await;
            assert_eq!(apply(&stranger, "one", 1).await.unwrap_err().code(), tonic::Code::Unavailable);
            assert!(!stranger.log().contains(WRONG), "no password in the log");
            assert!(!stranger.log().contains("connected to Redis"), "{}", stranger.log());
        }
        let applied = apply(&service, "one", 1).await;
        assert!(applied.is_ok(), "on {}: {applied:?}", program.name());
    }
}

/// It is in the log without raising its level: whoever sets a service up for the first time meets this.
#[tokio::test(flavor = "multi_thread")]
async fn that_the_sentinels_refuse_the_password_is_what_the_log_says() {
    let group = SentinelGroup::start().await;
    let dirs = [mk_dir(), mk_dir()];
    for (dir, password) in [(&dirs[0], Some(WRONG)), (&dirs[1], None)] {
        let log = refused(&group, dir, password).await.log();
        let line = log.lines().find(|line| line.contains(NO_CONNECTION)).unwrap();
        let named = ["authentication", "password", "WRONGPASS", "NOAUTH"].iter().any(|word| line.contains(word));
        assert!(named && line.contains("Sentinel"), "with the password {password:?}: {line}");
    }
}
