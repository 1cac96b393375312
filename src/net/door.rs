//! Accepting: one at a time, as many as there are places, and none in a hurry when the system has no more descriptors.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::certificate::Names;
use super::connection::{self, Identified, Pace, Protocol};
use super::drain::Drain;
use super::slots::{ConnectionLimit, Reclaim, Slot};
use super::tls::Tls;
use crate::clock::{Clock, jittered};
use crate::metrics::Doorkeeping;
use crate::telemetry::Sparing;

/// How long accepting pauses after it has failed, at first and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];
/// How long a connection that was cut off may take to be gone.
const AFTER_THE_CUT: Duration = Duration::from_secs(1);

/// What is common to the connections of one listener. A clone is another socket of the same listener.
#[derive(Debug, Clone)]
pub struct Door<P> {
    /// Shared by all sockets of the listener.
    pub limit: ConnectionLimit,
    /// Who gives up their slot when another comes.
    pub reclaim: Reclaim,
    /// What is spoken.
    pub protocol: P,
    /// Encrypted, if there is this.
    pub tls: Option<Tls>,
    /// How connections live.
    pub pace: Pace,
    /// When they end.
    pub drain: Drain,
    /// What is counted of them.
    pub counts: Doorkeeping,
    /// By which it is told whether a client's certificate still holds.
    pub clock: Clock,
    /// What is logged of handshakes that came to nothing.
    pub failures: Arc<Sparing>,
}

impl<P> Door<P> {
    /// Serves whoever connects, on the runtime that it is polled on, until it is told to leave and everybody has left or
    /// is cut off.
    ///
    /// # Errors
    /// If the socket cannot be listened on from here.
    pub async fn serve<S>(self, listener: TcpListener, service: S) -> io::Result<()>
    where
        P: Protocol<S>,
        S: Clone + Send + 'static,
    {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let connections = TaskTracker::new();
        let [mut pause, longest] = PAUSES;
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.drain.leaving() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    [pause, _] = PAUSES;
                    let Some((taken, slot)) = self.limit.take(self.reclaim.now()) else {
                        // Told at once, the client goes elsewhere; kept waiting, it would do so at its deadline.
                        self.counts.turned_away();
                        continue;
                    };
                    // Without it an answer waits for the acknowledgement of the one before, 40 ms.
                    let _ = stream.set_nodelay(true);
                    let (counts, door, service) = (self.counts.clone(), self.clone(), service.clone());
                    connections.spawn(async move {
                        let Some(permit) = taken.wait().await else { return counts.turned_away() };
                        let here = counts.enter();
                        tokio::select! {
                            biased;
                            () = slot.reclaimed() => counts.turned_away(),
                            () = door.welcome(stream, peer, service, Arc::clone(&slot)) => {}
                        }
                        drop((here, permit));
                    });
                }
                // It has gone again before it was accepted.
                Err(error) if is_of_the_peer(&error) => {}
                Err(error) => {
                    // Tried again at once, it would fail again at once, at the cost of a whole core.
                    self.counts.failed();
                    warn!(%error, ?pause, "cannot accept connections");
                    tokio::select! { () = self.drain.leaving() => {}, () = tokio::time::sleep(jittered(pause)) => {} }
                    pause = longest.min(pause * 2);
                }
            }
        }
        // Who connects from now on is refused by the system at once.
        drop(listener);
        connections.close();
        tokio::select! {
            () = connections.wait() => {}
            () = async { self.drain.cut_off().await; tokio::time::sleep(AFTER_THE_CUT).await } => {}
        }
        Ok(())
    }

    /// Shakes hands, if that is asked for, and serves one connection to its end.
    async fn welcome<S>(self, stream: TcpStream, peer: SocketAddr, service: S, slot: Arc<Slot>)
    where
        P: Protocol<S>,
        S: Send,
    {
        let Self { protocol, tls, mut pace, drain, counts, clock, failures, .. } = self;
        let Some(tls) = tls else {
            let stranger = Identified { peer, names: None, slot };
            return connection::serve(stream, stranger, service, (protocol, pace), drain).await;
        };
        let shaken = tokio::select! {
            shaken = tls.accept(stream) => shaken,
            () = drain.leaving() => return,
        };
        match shaken {
            Ok(stream) => {
                let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                // One that holds and cannot be read is nobody's.
                let names = shown.and_then(|certificate| Names::of(certificate));
                if let Some(names) = &names {
                    // A certificate that ends to hold ends what was opened by it.
                    let left = names.until().duration_since(clock.now());
                    pace.limit = Some(Duration::try_from(left).unwrap_or(Duration::ZERO));
                }
                connection::serve(stream, Identified { peer, names, slot }, service, (protocol, pace), drain).await;
            }
            Err(error) => {
                counts.no_handshake();
                if let Some(unwritten) = failures.may_write() {
                    info!(%peer, %error, unwritten, "no TLS handshake");
                }
            }
        }
    }
}

fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | WouldBlock)
}
