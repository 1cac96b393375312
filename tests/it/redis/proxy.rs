//! The network between the service and a server, as it really is: slow, silent, cut in the middle of an answer.
//!
//! It runs on a thread of its own: a test that blocks does not hold it up. What it swallows it delivers once it passes
//! again, as TCP does after a partition. Its kernel goes on acknowledging what it does not forward, so keepalive and
//! TCP_USER_TIMEOUT notice nothing: only who listens for answers does.

mod link;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Shutdown};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::ports::Port;

/// What happens to what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Pass,
    /// It arrives so much later. The throughput stays.
    Delay(Duration),
    /// It does not arrive, and nobody is told: connections stay open, new ones are accepted.
    Blackhole,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    ToServer,
    ToClient,
    Both,
}

/// What has gone through so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Connections ever accepted.
    pub accepted: u64,
    /// Connections open now.
    pub open: usize,
    /// Bytes delivered.
    pub to_server: u64,
    /// Bytes delivered.
    pub to_client: u64,
}

#[derive(Debug, Clone)]
struct Settings {
    server: u16,
    refuse: bool,
    to_server: Flow,
    to_client: Flow,
    walled_off: BTreeSet<Ipv4Addr>,
}

impl Settings {
    const fn open(server: u16) -> Self {
        Self { server, refuse: false, to_server: Flow::Pass, to_client: Flow::Pass, walled_off: BTreeSet::new() }
    }

    fn flow(&self, way: Way, client: Ipv4Addr) -> Flow {
        match way {
            _ if self.walled_off.contains(&client) => Flow::Blackhole,
            Way::ToServer => self.to_server,
            Way::ToClient | Way::Both => self.to_client,
        }
    }
}

/// Sprung by the next request that contains some bytes, whatever connection it comes on; then gone.
#[derive(Debug)]
struct Trap {
    bytes: Vec<u8>,
    /// How much of the answer still arrives; `None`: not even the request does.
    answer: Option<usize>,
}

#[derive(Debug)]
struct Shared {
    trap: Mutex<Option<Trap>>,
    links: Mutex<BTreeMap<u64, CancellationToken>>,
    listening: AtomicBool,
    accepted: AtomicU64,
    to_server: AtomicU64,
    to_client: AtomicU64,
}

/// A proxy on a port of its own; connections through it are cut when it is dropped.
pub struct Proxy {
    port: Port,
    settings: watch::Sender<Settings>,
    shared: Arc<Shared>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// In front of a server on 127.0.0.1, which need not be up. Everything passes.
    pub fn start(server: u16) -> Self {
        let port = Port::reserve();
        let settings = watch::Sender::new(Settings::open(server));
        let shared = Arc::new(Shared {
            trap: Mutex::default(),
            links: Mutex::default(),
            listening: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            to_server: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
        });
        let stop = CancellationToken::new();
        let serving = serve(port.number(), settings.subscribe(), Arc::clone(&shared));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(stopped.run_until_cancelled(serving));
        });
        let proxy = Self { port, settings, shared, stop, thread: Some(thread) };
        proxy.await_listening(true);
        proxy
    }

    pub const fn port(&self) -> u16 {
        self.port.number()
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    /// What happens from now on to what is sent, on all connections, open ones and those to come.
    pub fn set(&self, way: Way, flow: Flow) {
        self.settings.send_modify(|settings| {
            if way != Way::ToClient {
                settings.to_server = flow;
            }
            if way != Way::ToServer {
                settings.to_client = flow;
            }
        });
    }

    /// A black hole for those who connect from an address (all of 127.0.0.0/8 is this machine), and for nobody else.
    pub fn wall_off(&self, client: Ipv4Addr) {
        self.settings.send_modify(|settings| _ = settings.walled_off.insert(client));
    }

    /// Cuts every connection and refuses new ones, as when nothing listens. Done when this returns.
    pub fn refuse(&self) {
        self.settings.send_modify(|settings| settings.refuse = true);
        self.await_listening(false);
        self.cut_now();
    }

    /// Everything passes again; what was held back is delivered.
    pub fn heal(&self) {
        *self.shared.trap.lock().unwrap() = None;
        self.settings.send_modify(|settings| *settings = Settings::open(settings.server));
        self.await_listening(true);
    }

    /// Connections to come go to another server; open ones stay where they are.
    pub fn retarget(&self, server: u16) {
        self.settings.send_modify(|settings| settings.server = server);
    }

    /// Resets every open connection. Done when this returns.
    pub fn cut_now(&self) {
        let cut = self.shared.links.lock().unwrap().clone();
        cut.values().for_each(CancellationToken::cancel);
        wait_until(|| {
            let open = self.shared.links.lock().unwrap();
            !cut.keys().any(|link| open.contains_key(link))
        });
    }

    /// Of the answer to the next request, only so many bytes arrive; then its connection ends. Once.
    pub fn cut_mid_reply(&self, bytes: usize) {
        self.cut_reply_to("", bytes);
    }

    /// The same for the next request that contains some text, as `"EVALSHA"`: the server does what it says, and the
    /// client does not learn of it. Once.
    pub fn cut_reply_to(&self, request: &str, bytes: usize) {
        *self.shared.trap.lock().unwrap() = Some(Trap { bytes: request.into(), answer: Some(bytes) });
    }

    /// The next request that contains some text does not arrive; its connection ends instead. Once.
    pub fn cut_before(&self, request: &str) {
        *self.shared.trap.lock().unwrap() = Some(Trap { bytes: request.into(), answer: None });
    }

    /// Whether one of the three above has not met its request yet.
    pub fn is_trap_set(&self) -> bool {
        self.shared.trap.lock().unwrap().is_some()
    }

    pub fn traffic(&self) -> Traffic {
        Traffic {
            accepted: self.shared.accepted.load(Ordering::Relaxed),
            open: self.shared.links.lock().unwrap().len(),
            to_server: self.shared.to_server.load(Ordering::Relaxed),
            to_client: self.shared.to_client.load(Ordering::Relaxed),
        }
    }

    fn await_listening(&self, wanted: bool) {
        wait_until(|| self.shared.listening.load(Ordering::Acquire) == wanted);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
        let _ = self.thread.take().unwrap().join();
    }
}

/// The proxy's own thread is about to make it so.
fn wait_until(so: impl Fn() -> bool) {
    while !so() {
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Accepts connections, except while it is to refuse them.
async fn serve(port: u16, settings: watch::Receiver<Settings>, shared: Arc<Shared>) {
    let (mut listening, mut number) = (settings.clone(), 0);
    loop {
        listening.wait_for(|settings| !settings.refuse).await.unwrap();
        let listener = listen(port);
        shared.listening.store(true, Ordering::Release);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = listening.wait_for(|settings| settings.refuse) => break,
            };
            let (client, address) = accepted.unwrap();
            let std::net::IpAddr::V4(address) = address.ip() else { unreachable!("it listens on IPv4 alone") };
            number += 1;
            let cut = CancellationToken::new();
            shared.links.lock().unwrap().insert(number, cut.clone());
            shared.accepted.fetch_add(1, Ordering::Relaxed);
            let link = link::Link::new(Arc::clone(&shared), settings.clone(), address, cut);
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                link.run(client).await;
                shared.links.lock().unwrap().remove(&number);
            });
        }
        // Not just dropped: a process that another test is starting has a copy of it for a moment.
        let _ = socket2::SockRef::from(&listener).shutdown(Shutdown::Both);
        drop(listener);
        shared.listening.store(false, Ordering::Release);
    }
}

fn listen(port: u16) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, port).into()).unwrap();
    socket.listen(1024).unwrap()
}

mod tests;
