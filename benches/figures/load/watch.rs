//! A thousand readers of WatchWithholdings, and when each has been told of an order.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use prost::Message as _;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::connect;
use super::pace::now;
use crate::client::{Ask, Asker, Event, Wire};

/// Of a WatchWithholdingsResponse, where to resume; the rest is passed over.
#[derive(Clone, PartialEq, prost::Message)]
struct Told {
    #[prost(uint64, tag = "2")]
    resume_after_revision: u64,
}

/// That all readers have been told of everything up to a revision: when the middle one and the last one were.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Delivered {
    pub revision: u64,
    pub median: u64,
    pub last: u64,
}

#[derive(Default)]
struct Board {
    readers: usize,
    times: HashMap<u64, Vec<u64>>,
}

/// The part of the readers: says each revision that all have been told of, for ever.
#[tokio::main(flavor = "current_thread")]
pub async fn run(to: &str, connections: usize, streams: usize, after: u64) {
    let board = Rc::new(RefCell::new(Board { readers: connections * streams, ..Board::default() }));
    let local = tokio::task::LocalSet::new();
    for _ in 0..connections {
        let (to, board) = (to.to_owned(), Rc::clone(&board));
        local.spawn_local(async move { read_for_ever(&to, streams, after, &board).await });
    }
    local.await;
}

async fn read_for_ever(to: &str, streams: usize, after: u64, board: &RefCell<Board>) {
    let mut stream = connect(to).await;
    let mut wire = Wire::new("http", to, Ask::Watch { after }.path());
    wire.keeps_parts = true;
    let mut asker = Asker::new(Ask::Watch { after }, 1);
    let mut parts: HashMap<u32, Vec<u8>> = (0..streams).map(|_| (wire.call(asker.next()), Vec::new())).collect();
    let mut told: HashMap<u32, u64> = parts.keys().map(|stream| (*stream, u64::MAX)).collect();
    let (mut buffer, mut events) = (vec![0; 256 << 10], Vec::new());
    loop {
        stream.write_all(&wire.out).await.unwrap();
        wire.out.clear();
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "the server has closed the connection");
        wire.take(&buffer[..read], &mut events);
        for event in events.drain(..) {
            let Event::Part(reader, bytes) = event else { panic!("a watch has ended: {event:?}") };
            let all = parts.get_mut(&reader).unwrap();
            all.extend_from_slice(&bytes);
            while let Some(message) = message(all) {
                let resume = Told::decode(&*message).unwrap().resume_after_revision;
                if told.insert(reader, resume) != Some(resume) {
                    board.borrow_mut().tell(resume);
                }
            }
        }
    }
}

/// The next whole message, without the five bytes in front.
fn message(all: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = u32::from_be_bytes(all.get(1..5)?.try_into().unwrap()) as usize;
    if all.len() < 5 + length {
        return None;
    }
    let rest = all.split_off(5 + length);
    Some(std::mem::replace(all, rest).split_off(5))
}

impl Board {
    fn tell(&mut self, revision: u64) {
        let times = self.times.entry(revision).or_default();
        times.push(now());
        if times.len() == self.readers {
            let (median, last) = (times[times.len() / 2], times[times.len() - 1]);
            println!("{}", serde_json::to_string(&Delivered { revision, median, last }).unwrap());
        }
    }
}
