//! A journal that has lost its end, and one in which something else stands in its place.

use withheld::pb::v1 as pb;

use super::{apply, hash_of, journal, look, mk_dir, name_of, on, serving_on, until_withheld};
use crate::harness::{Service, get, nth, refusal};
use crate::redis::servers::RedisServer;
use crate::redis::until;

async fn length(redis: &RedisServer) -> u64 {
    redis.ask(&["XLEN", "{withheld}:journal"]).await
}

/// Applies orders from `from` on, one account each, until there are so many.
async fn apply_up_to(service: &Service, from: u64, to: u64) {
    for n in from..=to {
        assert_eq!(apply(service, &format!("order-{n}"), n).await.unwrap().revision, nth(n));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_a_crash_took_from_the_append_only_file_are_appended_again() {
    let (redis, dirs) = (RedisServer::start().await, [mk_dir(), mk_dir()]);
    let services = [serving_on(&redis.url(), &dirs[0], &[]).await, serving_on(&redis.url(), &dirs[1], &[]).await];
    apply_up_to(&services[0], 1, 20).await;
    until_withheld(&services[1], 20).await;
    let before: redis::Value = redis.command(&["XRANGE", "{withheld}:journal", "-", "+"]).await;
    redis.kill();
    // The file ends in the middle of an append, some appends before the last one.
    redis.truncate_aof(1_900);
    redis.restart().await;
    until("the journal is whole again", async || length(&redis).await == nth(20)).await;
    let after: redis::Value = redis.command(&["XRANGE", "{withheld}:journal", "-", "+"]).await;
    assert_eq!(before, after, "byte by byte what it was");
    until("somebody says so", async || {
        services.iter().any(|service| service.log().contains("the journal has lost its last entries"))
    })
    .await;
    // Whoever has said that entries were lost says that they are there again, whichever of them put them back.
    until("all say that it is over", async || {
        let lost = services.iter().filter(|service| service.log().contains("the journal has lost its last entries"));
        lost.into_iter().all(|service| service.log().contains("the journal has its lost entries again"))
    })
    .await;
    until("it can be written", async || apply(&services[1], "order-21", 21).await.is_ok()).await;
    until_withheld(&services[0], 21).await;
    let (code, out, err) = journal(&redis.url(), &["verify"]);
    assert!(code == Some(0) && out.contains(&format!("{} entries", nth(21))), "{out}{err}");
}

/// Everything is lost, and nobody has it but the services' memories.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_was_wiped_is_written_again_from_what_is_kept() {
    let (redis, dir) = (RedisServer::start().await, mk_dir());
    let service = serving_on(&redis.url(), &dir, &[]).await;
    apply_up_to(&service, 1, 5).await;
    redis.command(&["FLUSHALL"]).await;
    until("the journal is whole again", async || length(&redis).await == nth(5)).await;
    until("it can be written", async || apply(&service, "order-6", 6).await.is_ok()).await;
    assert_eq!(journal(&redis.url(), &["verify"]).0, Some(0));
}

/// Lost entries, and others in their place before anybody could mend it: nothing more is written, by anybody, and what
/// diverged is said precisely, until an operator decides.
#[tokio::test(flavor = "multi_thread")]
async fn another_history_seals_the_journal_until_people_have_decided() {
    let (redis, dirs) = (RedisServer::start().await, [mk_dir(), mk_dir(), mk_dir()]);
    let witness = serving_on(&redis.url(), &dirs[0], &[]).await;
    apply_up_to(&witness, 1, 6).await;
    let (kept, differs) = (nth(3), nth(4));
    let here = hash_of(&redis, differs).await;
    // A desk that has never seen the entries after the third order writes others.
    suspend(&witness, "-STOP");
    forget_after(&redis, kept).await;
    let stranger = serving_on(&redis.url(), &dirs[1], &[]).await;
    for n in 7..=9 {
        apply(&stranger, &format!("order-{n}"), n).await.unwrap();
    }
    assert_eq!(length(&redis).await, nth(6));
    let there = hash_of(&redis, differs).await;
    suspend(&witness, "-CONT");

    let named =
        format!("diverged at revision {differs}: entry {differs} has hash {there} in the journal, and had hash {here}");
    until("the witness says what diverged", async || witness.log().contains(&named)).await;
    for service in [&witness, &stranger] {
        until("nothing is written any more", async || {
            let refused = apply(service, "order-10", 10).await.unwrap_err();
            refusal(&refused).1 == "JOURNAL_DIVERGED"
        })
        .await;
    }
    let refused = apply(&stranger, "order-10", 10).await.unwrap_err();
    assert!(refused.message().contains(&named), "{refused}");
    // Queries go on from what each has followed; the one that is not level any more says so.
    assert!(look(&witness, 6).await.0 && !look(&witness, 9).await.0);
    assert!(look(&stranger, 9).await.0 && !look(&stranger, 6).await.0);
    until("it is stale", async || look(&witness, 6).await.1.liveness() == pb::Liveness::Stale).await;

    let (code, out, _) = journal(&redis.url(), &["seal"]);
    assert!(code == Some(0) && out.contains(&named), "{out}");
    let (code, _, err) = journal(&redis.url(), &["unseal"]);
    assert_eq!(code, Some(2), "nobody is there to be asked: {err}");
    let (code, out, err) = journal(&redis.url(), &["unseal", "--yes"]);
    assert!(code == Some(0) && err.contains("start it with `withheld journal accept`"), "{out}{err}");
    // The witness still stands on the other history, and says so again.
    until("it is sealed again", async || journal(&redis.url(), &["seal"]).1.contains(&named)).await;
    assert!(witness.stop().success());
    assert_eq!(journal(&redis.url(), &["unseal", "--yes"]).0, Some(0));
    until("it can be written", async || apply(&stranger, "order-10", 10).await.is_ok()).await;
    // Started again, it knows that it has followed another history, and follows this one only once a person says so.
    let witness = Service::of(on(&redis.url(), &dirs[0], &[]));
    until("it says so", async || witness.log().contains("reason=\"unknown_history\"")).await;
    let (code, said) = get(&witness.http, "/readyz").await;
    let name = name_of(&redis).await;
    let knows = format!("this service knows journal {name}, followed to revision {}", nth(6));
    assert!(code == 503 && said.contains(&knows) && said.contains("another end"), "{said}");
    let snapshot = dirs[0].path().join("state.snapshot");
    let accept = ["accept", "--snapshot", snapshot.to_str().unwrap()];
    let (code, _, err) = journal(&redis.url(), &accept);
    assert!(code == Some(1) && err.contains(&format!("--known {name} --found {name}")), "{err}");
    let (code, out, err) = journal(&redis.url(), &[&accept, ["--known", &name, "--found", &name].as_slice()].concat());
    assert!(code == Some(0) && out.contains(&format!("journal {name} is followed from now on")), "{out}{err}");
    witness.serving().await;
    assert!(look(&witness, 9).await.0 && !look(&witness, 6).await.0, "it has the history that holds");
}

/// The journal is restored behind what a replica knows that cannot put it back: it began from a snapshot. It says the first rule,
/// everywhere, and that there is no seal is not said to mean that all is well.
#[tokio::test(flavor = "multi_thread")]
async fn a_revision_that_went_back_is_said_with_the_first_rule() {
    const RULE: &str = "never stop or delete the replica with the highest revision";
    let (redis, dirs) = (RedisServer::start().await, [mk_dir(), mk_dir()]);
    let flags = ["--max-fault", "1s"];
    let service = serving_on(&redis.url(), &dirs[0], &flags).await;
    apply_up_to(&service, 1, 3).await;
    assert!(service.stop().success());
    let knows = serving_on(&redis.url(), &dirs[0], &flags).await;
    forget_after(&redis, nth(1)).await;
    let fresh = serving_on(&redis.url(), &dirs[1], &flags).await;
    until("`/readyz` says so", async || {
        let (code, said) = get(&knows.http, "/readyz").await;
        code == 503 && said.contains("revision went back") && said.contains(RULE)
    })
    .await;
    assert!(knows.log().contains("revision went back"), "{}", knows.log());
    // Which revision each holds is told, and so is who has what the journal has not.
    assert_eq!(super::metric(&knows, "withheld_revision").await, nth(3));
    assert_eq!(super::metric(&fresh, "withheld_revision").await, nth(1));
    let fault = "withheld_journal_fault{reason=\"diverged\"} 1";
    assert!(get(&knows.http, "/metrics").await.1.contains(fault));
    assert!(look(&knows, 3).await.0, "and it goes on answering from what it knows");
    let snapshot = dirs[0].path().join("state.snapshot");
    let (code, out, err) = journal(&redis.url(), &["seal", "--snapshot", snapshot.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("not sealed") && out.contains(&format!("committed up to revision {}", nth(1))), "{out}");
    assert!(out.contains("revision went back") && out.contains(RULE), "{out}");
}

/// Stops a service, as a machine under a hypervisor is, or lets it go on.
fn suspend(service: &Service, signal: &str) {
    let sent = std::process::Command::new("kill").args([signal, &service.pid().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// What a failover to a server without the last entries does: the journal ends earlier.
async fn forget_after(redis: &RedisServer, keep: u64) {
    let keep = usize::try_from(keep).unwrap();
    let mut connection = redis.connection().await.unwrap();
    let (journal, committed) = ("{withheld}:journal", "{withheld}:settled");
    let entries: Vec<(String, Vec<Vec<u8>>)> =
        redis::cmd("XRANGE").arg(journal).arg("-").arg("+").query_async(&mut connection).await.unwrap();
    let mut rewrite = redis::pipe();
    rewrite.atomic().cmd("DEL").arg(journal).arg(committed);
    for (id, fields) in &entries[..keep] {
        rewrite.cmd("XADD").arg(journal).arg(id).arg(fields);
    }
    let (id, fields) = &entries[keep - 1];
    rewrite.cmd("XADD").arg(committed).arg(id).arg(&fields[..2]);
    rewrite.exec_async(&mut connection).await.unwrap();
}
