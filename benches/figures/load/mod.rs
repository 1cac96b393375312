//! The load generator: this program once more, on a core of its own, `figures load LOAD`, `figures pace …`, and so on.
//!
//! Of a closed loop: each stream asks again as soon as it is answered. It reads what the server has had of the processor
//! itself, at the very moments between which it counts answers.

pub mod pace;
pub mod resp;
pub mod watch;

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{Ask, Asker, Event, Wire};
use crate::program::{Cpu, Pinned};

/// What to do to whom.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Load {
    pub to: String,
    /// Whose share of the processor is measured.
    pub pid: u32,
    pub connections: usize,
    pub streams: usize,
    pub ask: Ask,
    pub warm: Duration,
    pub run: Duration,
    /// Who vouches for the server; without it no TLS is spoken.
    pub authority: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Answers {
    pub answers: u64,
    pub failed: u64,
    pub bytes: u64,
    pub seconds: f64,
    /// What the server had of the processor, all of it and each of the threads for queries.
    pub cpu: f64,
    pub query_threads: Vec<f64>,
}

impl Answers {
    pub fn a_second(&self) -> f64 {
        self.answers as f64 / self.seconds
    }

    /// Seconds of the processor for one answer.
    pub fn cpu_each(&self) -> f64 {
        self.cpu / self.answers as f64
    }

    pub fn bytes_each(&self) -> f64 {
        self.bytes as f64 / self.answers as f64
    }
}

impl Load {
    /// On whom, as the host and port it was given.
    pub fn new(to: &str, pid: u32, connections: usize, streams: usize, ask: Ask) -> Self {
        let to = to.trim_start_matches("http://").trim_start_matches("https://").to_owned();
        let (warm, run) = (Duration::from_millis(500), Duration::from_secs(3));
        Self { to, pid, connections, streams, ask, warm, run, authority: None }
    }

    /// Does it, on these cores.
    pub fn on(&self, cores: &str) -> Answers {
        let load = serde_json::to_string(self).unwrap();
        let answers: Answers = Pinned::this(cores, &["load", &load]).answer();
        assert_eq!(answers.failed, 0, "some of {} calls of {self:?} failed", answers.answers);
        assert!(answers.answers > 0, "no call of {self:?} was answered");
        answers
    }
}

#[derive(Default)]
struct Tally {
    answers: Cell<u64>,
    failed: Cell<u64>,
    bytes: Cell<u64>,
}

impl Tally {
    fn count(&self, ok: bool, bytes: usize) {
        self.answers.set(self.answers.get() + 1);
        self.failed.set(self.failed.get() + u64::from(!ok));
        self.bytes.set(self.bytes.get() + bytes as u64);
    }

    fn now(&self) -> [u64; 3] {
        [self.answers.get(), self.failed.get(), self.bytes.get()]
    }
}

/// The part of the generator.
#[tokio::main(flavor = "current_thread")]
pub async fn run(load: &str) {
    let load: Load = serde_json::from_str(load).unwrap();
    let tally = Rc::new(Tally::default());
    let local = tokio::task::LocalSet::new();
    for number in 0..load.connections {
        let (tally, load) = (Rc::clone(&tally), load.clone());
        local.spawn_local(async move {
            let stream = connect(&load.to).await;
            match &load.authority {
                None => ask_for_ever(stream, &load, number, &tally).await,
                Some(authority) => ask_for_ever(secure(stream, authority).await, &load, number, &tally).await,
            }
        });
    }
    local
        .run_until(async {
            tokio::time::sleep(load.warm).await;
            let (before, cpu, began) = (tally.now(), Cpu::of(load.pid), Instant::now());
            tokio::time::sleep(load.run).await;
            let (after, seconds) = (tally.now(), began.elapsed().as_secs_f64());
            let cpu = Cpu::of(load.pid).since(&cpu);
            let [answers, failed, bytes] = std::array::from_fn(|at| after[at] - before[at]);
            let query_threads = cpu.query_threads();
            let answers = Answers { answers, failed, bytes, seconds, cpu: cpu.all(), query_threads };
            println!("{}", serde_json::to_string(&answers).unwrap());
        })
        .await;
    std::process::exit(0);
}

async fn connect(to: &str) -> TcpStream {
    let stream = TcpStream::connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

async fn secure(stream: TcpStream, authority: &PathBuf) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

/// Asks on all streams of one connection, and again for each answer.
async fn ask_for_ever(mut stream: impl AsyncRead + AsyncWrite + Unpin, load: &Load, number: usize, tally: &Tally) {
    let ask = match &load.ask {
        Ask::Apply { name } => Ask::Apply { name: format!("{name}-{number}") },
        ask => ask.clone(),
    };
    let mut asker = Asker::new(ask, number as u64 + 1);
    let scheme = if load.authority.is_some() { "https" } else { "http" };
    let mut wire = Wire::new(scheme, &load.to, load.ask.path());
    let (mut buffer, mut events) = (vec![0; 256 << 10], Vec::new());
    loop {
        while wire.waiting() < load.streams && wire.may_send(asker.longest()) {
            wire.call(asker.next());
        }
        if stream.write_all(&wire.out).await.is_err() {
            return broken(tally);
        }
        wire.out.clear();
        stream.flush().await.unwrap();
        match stream.read(&mut buffer).await {
            Ok(read @ 1..) => wire.take(&buffer[..read], &mut events),
            Ok(0) | Err(_) => return broken(tally),
        }
        for event in events.drain(..) {
            if let Event::Ended { ok, bytes, .. } = event {
                tally.count(ok, bytes);
            }
        }
    }
}

/// A server that goes away fails what was asked of it.
fn broken(tally: &Tally) {
    tally.count(false, 0);
}
