//! BatchCheck of 500 accounts, one in a hundred withheld, against SMISMEMBER of as many in a Redis set.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::Ask;
use crate::data::{Journals, MILLION, Size, TEN_MILLION, id};
use crate::load::resp::{Members, command};
use crate::load::{Answers, Load};
use crate::program::{CLIENT, SERVER, pin, service_on};
use crate::redis::servers::RedisServer;
use crate::table::{Aim, Figure, Rounds, Unit};

const ROUNDS: usize = 5;
const ACCOUNTS: usize = 500;
/// Members in one SADD.
const TOGETHER: u64 = 1_000;

pub async fn batch(journals: &Journals) -> Vec<Figure> {
    let mut figures = measure(journals.million().await, MILLION, 20.0).await;
    figures.extend(measure(journals.ten_million().await, TEN_MILLION, 18.0).await);
    figures
}

/// A Redis that keeps nothing on disk, with the set in it.
async fn filled(size: Size) -> RedisServer {
    let server = RedisServer::start_open(&["appendonly no"]).await;
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    for from in (0..size.0).step_by(TOGETHER as usize) {
        let mut out = Vec::new();
        let ids: Vec<u64> = (from..from + TOGETHER).map(id).collect();
        command(&mut out, "SADD", ids.into_iter());
        stream.write_all(&out).await.unwrap();
        // `:1000` each time: all of them are new.
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, *b":1000\r\n");
    }
    pin(server.pid(), SERVER);
    server
}

async fn measure(journal: &Path, size: Size, aim: f64) -> Vec<Figure> {
    let service = service_on(SERVER, journal, &[]).await;
    let redis = filled(size).await;
    let ours = || {
        let ask = Ask::Batch { size: ACCOUNTS, known: size.0 };
        Load::new(&service.queries, service.pid(), 8, 8, ask).on(CLIENT)
    };
    let theirs = || {
        let (to, pid) = (format!("127.0.0.1:{}", redis.port()), redis.pid());
        let (warm, run) = (Duration::from_millis(500), Duration::from_secs(3));
        Members { to, pid, connections: 8, depth: 8, size: ACCOUNTS, known: size.0, warm, run }.on(CLIENT)
    };
    let rounds: Vec<[Answers; 2]> = (0..ROUNDS).map(|_| [ours(), theirs()]).collect();
    let of =
        |which: usize, what: fn(&Answers) -> f64| -> Rounds { rounds.iter().map(|both| what(&both[which])).collect() };
    let [ours, theirs] = [0, 1].map(|which| of(which, Answers::cpu_each));
    let ratio = theirs.of(&ours);
    let what = format!("BatchCheck of {ACCOUNTS}, {} M withheld: time of a core", size.0 / 1_000_000);
    let time = Figure::new(what, Unit::Seconds, &ours)
        .against("Redis SMISMEMBER", Unit::Seconds, &theirs)
        .ratio(&ratio)
        .aim(Aim::Least(aim), Unit::Times, ratio.median());
    let [ours, theirs] = [0, 1].map(|which| of(which, Answers::a_second));
    let rate = Figure::new("  answers, on one core", Unit::ASecond, &ours)
        .against("Redis SMISMEMBER", Unit::ASecond, &theirs)
        .ratio(&ours.of(&theirs));
    assert!(service.stop().success());
    vec![time, rate]
}
