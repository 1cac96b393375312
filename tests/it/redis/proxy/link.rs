//! One connection through the proxy.

use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Flow, Settings, Shared, Trap, Way};

/// How much is under way at once, in parts as they were read: what a kernel would hold.
const PARTS: usize = 64;
const PART: usize = 16 * 1024;

/// The end of a direction, other than that its sender has finished.
enum End {
    /// As when a host is gone: both sides are reset.
    Reset,
    /// After a part of an answer: the client gets that part first.
    MidReply,
}

pub(super) struct Link {
    shared: Arc<Shared>,
    settings: watch::Receiver<Settings>,
    client: Ipv4Addr,
    cut: CancellationToken,
    /// How much more of the answers arrives, once a trap has sprung.
    answer: Mutex<Option<usize>>,
}

impl Link {
    pub(super) fn new(
        shared: Arc<Shared>,
        settings: watch::Receiver<Settings>,
        client: Ipv4Addr,
        cut: CancellationToken,
    ) -> Self {
        Self { shared, settings, client, cut, answer: Mutex::default() }
    }

    /// Until it ends on both sides, or is cut.
    pub(super) async fn run(&self, mut client: TcpStream) {
        let connecting = async {
            // In a black hole the connection request does not arrive either.
            self.passes(Way::ToServer, Instant::now()).await;
            let server = self.settings.borrow().server;
            TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await
        };
        let Some(Ok(mut server)) = self.cut.run_until_cancelled(connecting).await else {
            return reset(&client);
        };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let ended = {
            let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
            let both = async {
                tokio::try_join!(
                    self.pump(Way::ToServer, from_client, to_server),
                    self.pump(Way::ToClient, from_server, to_client)
                )
            };
            self.cut.run_until_cancelled(both).await
        };
        match ended {
            Some(Ok(_)) => {}
            Some(Err(End::MidReply)) => {
                let _ = client.shutdown().await;
            }
            Some(Err(End::Reset)) | None => {
                reset(&client);
                reset(&server);
            }
        }
    }

    /// Reads on while what was read waits for its time.
    async fn pump(
        &self,
        way: Way,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> Result<(), End> {
        let (parts, mut arriving) = mpsc::channel::<(Instant, io::Result<Vec<u8>>)>(PARTS);
        let reading = async move {
            loop {
                let mut part = Vec::with_capacity(PART);
                let read = from.read_buf(&mut part).await;
                let last = !matches!(read, Ok(1..));
                if parts.send((Instant::now(), read.map(|_| part))).await.is_err() || last {
                    break;
                }
            }
            drop(parts);
            std::future::pending::<Infallible>().await
        };
        let writing = async {
            let mut seen = Vec::new();
            while let Some((arrived, part)) = arriving.recv().await {
                self.passes(way, arrived).await;
                let part = part.map_err(|_| End::Reset)?;
                if part.is_empty() {
                    let _ = to.shutdown().await;
                } else if way == Way::ToServer {
                    self.spring(&mut seen, &part)?;
                    deliver(&part, &mut to, &self.shared.to_server).await?;
                } else {
                    self.deliver_answer(&part, &mut to).await?;
                }
            }
            Ok(())
        };
        tokio::select! {
            ended = writing => ended,
            never = reading => match never {},
        }
    }

    /// Waits for the time at which what was sent arrives.
    async fn passes(&self, way: Way, sent: Instant) {
        let mut settings = self.settings.clone();
        loop {
            let flow = settings.borrow_and_update().flow(way, self.client);
            let held_until = match flow {
                Flow::Pass => return,
                Flow::Delay(delay) => Some(sent + delay),
                Flow::Blackhole => None,
            };
            let arrives = async {
                match held_until {
                    Some(time) => tokio::time::sleep_until(time).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = arrives => return,
                changed = settings.changed() => if changed.is_err() { std::future::pending().await },
            }
        }
    }

    /// Springs the trap, if this request is the one. `seen` is the end of what came before, for a text in two parts.
    fn spring(&self, seen: &mut Vec<u8>, part: &[u8]) -> Result<(), End> {
        seen.extend_from_slice(part);
        let mut trap = self.shared.trap.lock().unwrap();
        if let Some(sprung) = trap.take_if(|trap| contains(seen, &trap.bytes)) {
            let Trap { answer: Some(bytes), .. } = sprung else { return Err(End::Reset) };
            *self.answer.lock().unwrap() = Some(bytes);
        }
        let kept = trap.as_ref().map_or(0, |trap| trap.bytes.len().saturating_sub(1));
        seen.drain(..seen.len().saturating_sub(kept));
        Ok(())
    }

    async fn deliver_answer(&self, part: &[u8], to: &mut (impl AsyncWrite + Unpin)) -> Result<(), End> {
        let left = *self.answer.lock().unwrap();
        let (arriving, end) = match left {
            Some(left) if left <= part.len() => (&part[..left], Err(End::MidReply)),
            _ => (part, Ok(())),
        };
        *self.answer.lock().unwrap() = left.map(|left| left - arriving.len());
        deliver(arriving, to, &self.shared.to_client).await?;
        end
    }
}

async fn deliver(part: &[u8], to: &mut (impl AsyncWrite + Unpin), delivered: &AtomicU64) -> Result<(), End> {
    // Before it is: who has an answer finds it counted.
    delivered.fetch_add(part.len() as u64, Ordering::Relaxed);
    to.write_all(part).await.map_err(|_| End::Reset)
}

/// What is dropped now is reset rather than finished.
fn reset(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    text.is_empty() || bytes.windows(text.len()).any(|window| window == text)
}
