//! The least rights: with those that deploy/redis ships the service does what it is for, on every server program, and with
//! one of them missing it says which.

use std::collections::BTreeSet;

use tempfile::TempDir;
use tonic::Status;
use withheld::pb::v1 as pb;

use super::{apply, make_journal, mk_dir, on, serving_on, until_withheld};
use crate::harness::Service;
use crate::redis::acl::ServiceUser;
use crate::redis::cluster::Cluster;
use crate::redis::program::ServerProgram;
use crate::redis::sentinel::SentinelGroup;
use crate::redis::servers::RedisServer;
use crate::redis::setup::Setup;
use crate::redis::until;

/// An order that one replica of the service acknowledges is enforced by another.
async fn acknowledges(url: &str, program: ServerProgram) {
    let dirs = [mk_dir(), mk_dir()];
    let services = [serving_on(url, &dirs[0], &[]).await, serving_on(url, &dirs[1], &[]).await];
    let applied = apply(&services[0], "one", 1).await;
    assert!(applied.is_ok(), "on {}, {url}: {applied:?}\n{}", program.name(), services[0].log());
    until_withheld(&services[1], 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_shipped_rights_an_order_is_acknowledged_by_one_server() {
    for program in ServerProgram::ALL {
        let redis = RedisServer::start_as(&Setup { program, ..Setup::default() }).await;
        acknowledges(&redis.url(), program).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_shipped_rights_an_order_is_acknowledged_under_sentinels() {
    for program in ServerProgram::ALL {
        let group = SentinelGroup::start_as(&Setup { program, ..Setup::default() }).await;
        acknowledges(&group.url(), program).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_shipped_rights_an_order_is_acknowledged_by_a_cluster() {
    for program in ServerProgram::ALL {
        let cluster = Cluster::start_as(&Setup { program, ..Setup::default() }).await;
        acknowledges(&cluster.url(), program).await;
    }
}

/// A service without one of the rights, on a journal of its own.
struct Lacking {
    right: String,
    service: Service,
    _dir: TempDir,
}

impl Lacking {
    /// In database 1, so that `SELECT` is needed, and with shared snapshots, which need rights of their own.
    async fn start(group: &SentinelGroup, right: &str) -> Self {
        let namespace = format!("without-{}", right.replace(|c: char| !c.is_ascii_alphanumeric(), ""));
        let user = ServiceUser::in_namespace(&namespace);
        let flags = ["--redis-namespace", &namespace, "--snapshot-every", "2"];
        make_journal(&format!("{}/1", group.url_as(&user).await), &flags);
        let (url, dir) = (format!("{}/1", group.url_as(&user.without(right)).await), mk_dir());
        Self { right: right.to_owned(), service: Service::of(on(&url, &dir, &flags)), _dir: dir }
    }

    /// What an administrator knows the right by: `+config|get` lets one run `CONFIG GET`.
    fn command(&self) -> String {
        self.right.trim_start_matches('+').replace('|', " ").to_uppercase()
    }

    /// What it answers to an order, once it has tried to connect to Redis.
    async fn answer(&self) -> Result<pb::ApplyOrderResponse, Status> {
        until(format!("without {}, it has tried to connect to Redis", self.right), async || {
            let log = self.service.log();
            log.contains("connected to Redis") || log.contains("cannot connect to Redis")
        })
        .await;
        apply(&self.service, "one", 1).await
    }
}

/// The warnings and errors of a log, each once, without the time.
fn complaints(log: &str) -> String {
    let said = log.lines().filter_map(|line| line.split_once(" WARN ").or_else(|| line.split_once(" ERROR ")));
    let said: BTreeSet<&str> = said.map(|(_, said)| said).collect();
    said.iter().map(|said| format!("\n    {said}")).collect()
}

/// With each right missing in turn, the log or the answer to an order has the command that is missing in backticks and upper
/// case, as in the commands' documentation.
async fn names_what_is_missing(program: ServerProgram) {
    let group = SentinelGroup::start_as(&Setup { program, ..Setup::default() }).await;
    let mut services = Vec::new();
    for right in ServiceUser::shipped().rights() {
        services.push(Lacking::start(&group, &right).await);
    }
    let mut unnamed = Vec::new();
    for lacking in &services {
        let answered = match lacking.answer().await {
            Ok(done) => format!("acknowledged at revision {}", done.revision),
            Err(refused) => refused.message().to_owned(),
        };
        let (name, log) = (format!("`{}`", lacking.command()), lacking.service.log());
        if !answered.contains(&name) && !log.contains(&name) {
            unnamed.push(format!("without {}: {answered}{}", lacking.right, complaints(&log)));
        }
    }
    let (rights, missing) = (services.len(), unnamed.len());
    assert!(
        unnamed.is_empty(),
        "on {}, {missing} of {rights} rights are missed and not named:\n{}",
        program.name(),
        unnamed.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_one_of_the_shipped_rights_it_says_which_on_debian_redis() {
    names_what_is_missing(ServerProgram::DebianRedis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_one_of_the_shipped_rights_it_says_which_on_redis_7_4() {
    names_what_is_missing(ServerProgram::Redis74).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_one_of_the_shipped_rights_it_says_which_on_valkey_9() {
    names_what_is_missing(ServerProgram::Valkey9).await;
}
