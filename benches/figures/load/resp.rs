//! The same for Redis, in its own protocol: SMISMEMBER of random members, many requests on the way at once.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::rc::Rc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Answers, connect};
use crate::client::ask::mk_ids;
use crate::data::Random;
use crate::program::{Cpu, Pinned};

/// The set that is asked.
pub const SET: &str = "withheld";

/// What to do to which server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Members {
    pub to: String,
    pub pid: u32,
    pub connections: usize,
    /// Requests that are on the way, of each connection.
    pub depth: usize,
    pub size: usize,
    pub known: u64,
    pub warm: Duration,
    pub run: Duration,
}

impl Members {
    pub fn on(&self, cores: &str) -> Answers {
        let answers: Answers = Pinned::this(cores, &["members", &serde_json::to_string(self).unwrap()]).answer();
        assert!(answers.answers > 0 && answers.failed == 0, "{answers:?} of {self:?}");
        answers
    }
}

/// A command in Redis' protocol.
pub fn command(out: &mut Vec<u8>, name: &str, members: impl ExactSizeIterator<Item = u64>) {
    use std::io::Write as _;
    write!(out, "*{}\r\n${}\r\n{name}\r\n${}\r\n{SET}\r\n", members.len() + 2, name.len(), SET.len()).unwrap();
    for member in members {
        let digits = member.checked_ilog10().unwrap_or(0) + 1;
        write!(out, "${digits}\r\n{member}\r\n").unwrap();
    }
}

#[tokio::main(flavor = "current_thread")]
pub async fn run(members: &str) {
    let members: Members = serde_json::from_str(members).unwrap();
    let counts = Rc::new([const { Cell::new(0_u64) }; 2]);
    let local = tokio::task::LocalSet::new();
    for number in 0..members.connections {
        let (members, counts) = (members.clone(), Rc::clone(&counts));
        local.spawn_local(async move { ask_for_ever(&members, number, &counts).await });
    }
    local
        .run_until(async {
            tokio::time::sleep(members.warm).await;
            let now = || [counts[0].get(), counts[1].get()];
            let (before, cpu, began) = (now(), Cpu::of(members.pid), Instant::now());
            tokio::time::sleep(members.run).await;
            let (after, seconds) = (now(), began.elapsed().as_secs_f64());
            let answers = after[0] - before[0];
            let hits = (after[1] - before[1]) as f64 / (answers as f64 * members.size as f64);
            // One in a hundred is a member, or the set is not what is asked about.
            let failed = u64::from(!(0.0095..0.0105).contains(&hits));
            let cpu = Cpu::of(members.pid).since(&cpu).all();
            let answers = Answers { answers, failed, seconds, cpu, ..Answers::default() };
            println!("{}", serde_json::to_string(&answers).unwrap());
        })
        .await;
    std::process::exit(0);
}

async fn ask_for_ever(members: &Members, number: usize, counts: &[Cell<u64>; 2]) {
    let mut stream = connect(&members.to).await;
    let mut random = Random::new(number as u64 + 1);
    // `*500`, then `:0` or `:1` for each.
    let head = format!("*{}\r\n", members.size);
    let length = head.len() + members.size * 4;
    let (mut out, mut partial, mut buffer) = (Vec::new(), Vec::new(), vec![0; 256 << 10]);
    let mut waiting = 0;
    loop {
        while waiting < members.depth {
            let ids: Vec<u64> = mk_ids(&mut random, members.size, members.known).collect();
            command(&mut out, "SMISMEMBER", ids.into_iter());
            waiting += 1;
        }
        stream.write_all(&out).await.unwrap();
        out.clear();
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "Redis has closed the connection");
        partial.extend_from_slice(&buffer[..read]);
        let whole = partial.len() / length;
        for answer in partial[..whole * length].chunks_exact(length) {
            assert!(answer.starts_with(head.as_bytes()), "{}", String::from_utf8_lossy(answer));
            let hits = answer[head.len()..].iter().filter(|byte| **byte == b'1').count();
            counts[1].set(counts[1].get() + hits as u64);
        }
        partial.drain(..whole * length);
        counts[0].set(counts[0].get() + whole as u64);
        waiting -= whole;
    }
}
