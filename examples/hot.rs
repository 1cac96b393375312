#![allow(
    missing_docs,
    clippy::all,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    dead_code,
    unused,
    unreachable_pub
)]
#[path = "../benches/figures/data.rs"]
#[allow(dead_code)]
mod data;
mod harness {
    pub use std::path::PathBuf;
}
use std::sync::Arc;
use std::time::{Duration, Instant};
use withheld::domain::decide::{Command, Decision, decide};
use withheld::domain::digest::Digest;
use withheld::domain::event::{Attribution, Entry, Event};
use withheld::domain::plan::ItemSource;
use withheld::domain::rules::Rules;
use withheld::domain::state::State;
use withheld::index::{Index, Snapshot};
use withheld::record::{decode, encode};
use withheld::subject_map::Changes;
#[global_allocator]
static A: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main() {
    let rules = Rules::builtin();
    let (mut desk, mut follow, mut index) = (State::default(), State::default(), Index::default());
    let mut published: Vec<Arc<(Snapshot, State)>> = vec![];
    const G: u64 = 32;
    let mut n = 0u64;
    let at = data::mk_at();
    while n < 250_000 {
        let mut t = [Duration::ZERO; 6];
        let till = n + 25_000;
        let from = n;
        while n < till {
            let cmds: Vec<(Command, Attribution)> = (0..G)
                .map(|_| {
                    n += 1;
                    let items = ItemSource::Inline(data::mk_items(std::iter::once(data::id(n)), &rules));
                    let request_id = format!("{:032x}", data::id(n) as u128 * 7919).parse().unwrap();
                    (
                        Command::ApplyOrder {
                            order: Box::new(data::mk_request(&format!("order-64-{n}"))),
                            items,
                            preview: None,
                        },
                        Attribution {
                            actor: "desk@example.org".into(),
                            identity: None,
                            reason: "for the record".into(),
                            request_id,
                            request_digest: Digest::of(&n.to_le_bytes()),
                        },
                    )
                })
                .collect();
            let mut state = desk.clone();
            let mut payloads = vec![];
            for (c, by) in &cmds {
                let b = Instant::now();
                let d = decide(&state, &rules, c, by, at).unwrap();
                t[0] += b.elapsed();
                let (Decision::Write(event, _) | Decision::Propose(event, _)) = d else { panic!() };
                let e = Entry { at, by: by.clone(), event };
                let b = Instant::now();
                state.apply(state.revision().next(), &e).unwrap();
                t[1] += b.elapsed();
                let b = Instant::now();
                payloads.push(encode(&e));
                t[2] += b.elapsed();
            }
            desk = state;
            let mut touched = vec![];
            if std::env::var("TIDY").is_ok() && follow.untidy() == Some(Changes::Many) {
                follow.tidy(Changes::Many);
            }
            for p in &payloads {
                let b = Instant::now();
                let e = decode(p).unwrap();
                t[3] += b.elapsed();
                let b = Instant::now();
                touched.push(follow.apply(follow.revision().next(), &e).unwrap());
                t[4] += b.elapsed();
            }
            let b = Instant::now();
            let s = index.advance(&follow, &touched, at);
            published.push(Arc::new((s, follow.clone())));
            if published.len() > 2 {
                published.remove(0);
            }
            t[5] += b.elapsed();
        }
        let each = |d: Duration| d.as_secs_f64() * 1e6 / (n - from) as f64;
        println!(
            "{n}: plan {:.1} trial {:.1} encode {:.1} decode {:.1} fold {:.1} publish {:.1} all {:.1}",
            each(t[0]),
            each(t[1]),
            each(t[2]),
            each(t[3]),
            each(t[4]),
            each(t[5]),
            t.iter().map(|d| each(*d)).sum::<f64>()
        );
    }
}
