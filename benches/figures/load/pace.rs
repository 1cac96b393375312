//! An open loop: calls at a fixed rate, whether those before are answered or not, as viewers come.
//!
//! How long one took is counted from when it was due, not from when it could be sent: a server that stands still for a
//! while keeps all waiting who would have come meanwhile, and all of them count. Sockets are looked at every few
//! microseconds instead of being waited for, since timers of a runtime go by the millisecond.

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::client::{Ask, Asker, Event, Wire};
use crate::program::Pinned;

const CONNECTIONS: usize = 8;
/// Calls on the way of one connection: servers refuse more than some.
const STREAMS: usize = 900;
/// How often it is looked what is due and what has come. What is due together goes out together, as it would from
/// any client that has much to ask.
const LOOK: Duration = Duration::from_micros(50);
/// How long calls may take once no more are made.
const PATIENCE: Duration = Duration::from_secs(60);

/// Calls that were due in a window of time: when, in nanoseconds since 1970, and how long they took.
pub struct Waits(Vec<(u64, u64)>);

/// One that goes on in a process of its own.
pub struct Pace {
    generator: Pinned,
    file: tempfile::NamedTempFile,
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64
}

impl Pace {
    /// So many calls a second. It stands for other machines, so that nothing on this one may hold it up, where that can be
    /// had.
    pub fn on(cores: &str, to: &str, a_second: f64) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (to, rate) = (to.trim_start_matches("http://"), a_second.to_string());
        let generator = Pinned::urgent(cores, &["pace", to, &rate, file.path().to_str().unwrap()]);
        Self { generator, file }
    }

    /// Stops, and gives how long each call took.
    pub fn stop(self) -> Waits {
        let failed: u64 = self.generator.stop();
        assert_eq!(failed, 0, "some calls failed");
        let bytes = std::fs::read(self.file.path()).unwrap();
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        Waits(bytes.chunks_exact(16).map(|pair| (number(&pair[..8]), number(&pair[8..]))).collect())
    }
}

impl Waits {
    /// In seconds, in ascending order, of those that were due between these times.
    pub fn between(&self, from: u64, to: u64) -> Vec<f64> {
        let within = self.0.iter().filter(|(due, _)| (from..to).contains(due));
        let mut waits: Vec<f64> = within.map(|(_, nanos)| *nanos as f64 / 1e9).collect();
        waits.sort_by(f64::total_cmp);
        waits
    }
}

struct Connection {
    stream: TcpStream,
    wire: Wire,
    due: HashMap<u32, u64>,
    /// Due, and not sent yet for there were too many on the way.
    late: VecDeque<u64>,
}

/// The part of the generator: goes on until its input ends.
pub fn run(to: &str, a_second: f64, file: &Path) {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        told.store(true, Ordering::Relaxed);
    });
    let mut connections: Vec<Connection> = (0..CONNECTIONS)
        .map(|_| {
            let stream = TcpStream::connect(to).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_nonblocking(true).unwrap();
            let wire = Wire::new("http", to, Ask::Check.path());
            Connection { stream, wire, due: HashMap::new(), late: VecDeque::new() }
        })
        .collect();
    let mut asker = Asker::new(Ask::Check, 7);
    let (began, began_at) = (Instant::now(), now());
    let (mut made, mut failed, mut waits, mut buffer) = (0_u64, 0_u64, Vec::new(), vec![0; 64 << 10]);
    let mut ends = None;
    loop {
        if stop.load(Ordering::Relaxed) && ends.is_none() {
            ends = Some(Instant::now() + PATIENCE);
        }
        if ends.is_none() {
            let until = (began.elapsed().as_secs_f64() * a_second) as u64;
            let due = (made..until).map(|number| began_at + (number as f64 / a_second * 1e9) as u64);
            connections.rotate_left(1);
            connections[0].late.extend(due);
            made = until.max(made);
        }
        for connection in &mut connections {
            connection.send(&mut asker);
            failed += connection.receive(&mut buffer, &mut waits);
        }
        if let Some(ends) = ends {
            if connections.iter().all(|connection| connection.due.is_empty() && connection.late.is_empty()) {
                break;
            }
            assert!(Instant::now() < ends, "some calls are not answered");
        }
        std::thread::sleep(LOOK);
    }
    let bytes: Vec<u8> =
        waits.iter().flat_map(|(due, nanos)| [due.to_le_bytes(), nanos.to_le_bytes()].concat()).collect();
    std::fs::write(file, bytes).unwrap();
    println!("{failed}");
}

impl Connection {
    fn send(&mut self, asker: &mut Asker) {
        while self.wire.waiting() < STREAMS
            && self.wire.may_send(asker.longest())
            && let Some(due) = self.late.pop_front()
        {
            let stream = self.wire.call(asker.next());
            self.due.insert(stream, due);
        }
        while !self.wire.out.is_empty() {
            match self.stream.write(&self.wire.out) {
                Ok(written) => drop(self.wire.out.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Takes what has come; gives how many calls failed.
    fn receive(&mut self, buffer: &mut [u8], waits: &mut Vec<(u64, u64)>) -> u64 {
        if self.due.is_empty() {
            return 0;
        }
        let (mut events, mut failed) = (Vec::new(), 0);
        match self.stream.read(buffer) {
            Ok(0) => panic!("the server has closed the connection"),
            Ok(read) => self.wire.take(&buffer[..read], &mut events),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return 0,
            Err(error) => panic!("{error}"),
        }
        let now = now();
        for event in events {
            if let Event::Ended { stream, ok, .. } = event {
                let due = self.due.remove(&stream).unwrap();
                waits.push((due, now.saturating_sub(due)));
                failed += u64::from(!ok);
            }
        }
        failed
    }
}
