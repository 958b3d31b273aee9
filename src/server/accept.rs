//! The loop that accepts connections and hands those that completed their handshake to HTTP/2.
//!
//! Guarantees: at most `limits::HANDSHAKES_MAX` handshakes, `DoorLimits::connections` connections and, of one identity,
//! `DoorLimits::identity_connections` at once, and no handshake beyond its time; who has not proved an identity takes
//! no place from those who have. Each handshake is made under the credentials that are in force when it begins. The
//! loop survives every error of accept(2), also a process without free descriptors.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::guest::Guest;
use super::identity::identity;
use super::lines::Lines;
use super::movable::Movable;
use super::quota::{Quotas, Seat};
use super::tls;
use super::trust::Trust;
use crate::authz::TrustDomain;
use crate::clock::Clock;
use crate::limits;
use crate::metrics::{Metrics, Present};

/// The door's bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoorLimits {
    pub connections: usize,
    pub identity_connections: usize,
    /// After it a connection is asked to end.
    pub age: Duration,
    /// Of one identity, over all its connections.
    pub calls_per_second: u32,
    pub calls_burst: u32,
    pub handshake: Duration,
    pub deadline: Duration,
    pub shutdown: Duration,
}

impl Default for DoorLimits {
    fn default() -> Self {
        Self {
            connections: limits::CONNECTIONS_MAX,
            identity_connections: limits::IDENTITY_CONNECTIONS,
            age: limits::CONNECTION_AGE,
            calls_per_second: limits::CALLS_PER_SECOND,
            calls_burst: limits::CALLS_BURST,
            handshake: limits::HANDSHAKE_MAX,
            deadline: limits::DEADLINE_MAX,
            shutdown: limits::SHUTDOWN_MAX,
        }
    }
}

/// How long the loop rests after an error that will not go away by itself.
const BACK_OFF: Duration = Duration::from_millis(50);
/// A refused peer gets this long, and this many bytes, to take note of the alert.
const HANG_UP_MAX: Duration = Duration::from_millis(500);
const HANG_UP_BYTES: u64 = 64 * 1024;

/// A connection whose peer is known.
pub struct Connection {
    tls: TlsStream<Movable>,
    guest: Guest,
    since: Instant,
    age: Duration,
    metrics: Arc<Metrics>,
    /// Given back when the connection ends.
    _places: (OwnedSemaphorePermit, Seat, Present),
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.since.elapsed() >= self.age {
            self.metrics.connections_aged.one();
        }
    }
}

impl Connection {
    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// The runtime in which this is called serves it from now on.
    pub fn move_here(&mut self) -> io::Result<()> {
        self.tls.get_mut().0.move_here()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }
}

/// Why a connection was not served.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the handshake took too long")]
    Slow,
    #[error("the handshake failed: {0}")]
    Handshake(io::Error),
    #[error("the peer does not speak HTTP/2")]
    Protocol,
    #[error("the peer has no identity")]
    Identity,
    #[error("there are as many connections as may be")]
    Full,
    #[error("{0} has as many connections as it may")]
    Share(crate::authz::Principal),
}

/// What all handshakes share.
pub struct Reception {
    trust: Arc<Trust>,
    domain: TrustDomain,
    clock: Arc<dyn Clock>,
    limits: DoorLimits,
    metrics: Arc<Metrics>,
    places: Arc<Semaphore>,
    quotas: Arc<Quotas>,
    /// The counter has them all.
    lines: Lines,
}

impl Reception {
    pub fn new(
        trust: Arc<Trust>,
        domain: TrustDomain,
        clock: Arc<dyn Clock>,
        limits: DoorLimits,
        metrics: Arc<Metrics>,
    ) -> Self {
        let places = Arc::new(Semaphore::new(limits.connections));
        let quotas = Arc::new(Quotas::new(&limits));
        Self { trust, domain, clock, limits, metrics, places, quotas, lines: Lines::default() }
    }

    /// Accepts until nobody takes connections any more.
    pub async fn run(self, listener: TcpListener, out: mpsc::Sender<Connection>) {
        let reception = Arc::new(self);
        let handshakes = Arc::new(Semaphore::new(limits::HANDSHAKES_MAX));
        let mut reserve = open_reserve();
        loop {
            let Ok(slot) = Arc::clone(&handshakes).acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                () = out.closed() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((tcp, _)) => {
                    let (reception, out) = (Arc::clone(&reception), out.clone());
                    tokio::spawn(async move {
                        match reception.welcome(tcp).await {
                            Ok(connection) => {
                                reception.metrics.connections.one();
                                // A closed receiver means shutdown: the connection ends with it.
                                let _ = out.send(connection).await;
                            }
                            Err(refusal) => reception.note(&refusal),
                        }
                        drop(slot);
                    });
                }
                Err(error) if is_exhausted(&error) => {
                    tracing::warn!("no free descriptors: turning a peer away");
                    drop(reserve.take());
                    // The freed descriptor lets the head of the queue be closed instead of left hanging.
                    let _ = timeout(Duration::ZERO, listener.accept()).await;
                    reserve = open_reserve();
                    reception.metrics.connections_refused.one();
                    sleep(BACK_OFF).await;
                }
                // The peer went away before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    sleep(BACK_OFF).await;
                }
            }
        }
    }

    async fn welcome(&self, tcp: TcpStream) -> Result<Connection, Refusal> {
        // Small replies must not wait for company. A socket that refuses the option still works.
        let _ = tcp.set_nodelay(true);
        let (epoch, credentials) = self.trust.in_force();
        let acceptor = TlsAcceptor::from(Arc::clone(&credentials.config));
        let handshake = acceptor.accept(Movable::from(tcp)).into_fallible();
        let tls = match timeout(self.limits.handshake, handshake).await {
            Ok(Ok(tls)) => tls,
            Ok(Err((error, tcp))) => {
                hang_up(tcp).await;
                return Err(Refusal::Handshake(error));
            }
            Err(_) => return Err(Refusal::Slow),
        };
        let (_, session) = tls.get_ref();
        if session.alpn_protocol() != Some(tls::ALPN) {
            return Err(Refusal::Protocol);
        }
        let chain = session.peer_certificates().ok_or(Refusal::Identity)?.to_vec();
        let leaf = chain.first().ok_or(Refusal::Identity)?;
        let peer = identity(leaf, &self.domain).map_err(|_| Refusal::Identity)?;
        let now = Instant::now();
        let seat = self.quotas.enter(&peer.principal, now);
        let seat = seat.map_err(|_| Refusal::Share(peer.principal.clone()))?;
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Refusal::Full)?;
        let until = credentials.lists.next_lapse(self.clock.now());
        let quotas = Arc::clone(&self.quotas);
        let guest = Guest::new(peer, chain, (epoch, until), quotas, Arc::clone(seat.quota()));
        Ok(Connection {
            tls,
            guest,
            since: now,
            age: self.limits.age,
            metrics: Arc::clone(&self.metrics),
            _places: (place, seat, self.metrics.connections_open.enter()),
        })
    }

    fn note(&self, refusal: &Refusal) {
        self.metrics.connections_refused.one();
        if matches!(refusal, Refusal::Share(_)) {
            self.metrics.identity_connections_refused.one();
        }
        if let Some(kept_back) = self.lines.next(Instant::now()) {
            tracing::info!(%refusal, kept_back, "connection refused");
        }
    }
}

/// Closing a socket with unread bytes resets it, and the alert that says why would be lost with it.
async fn hang_up(mut tcp: Movable) {
    let polite = async {
        tcp.shutdown().await?;
        tokio::io::copy(&mut tcp.take(HANG_UP_BYTES), &mut tokio::io::sink()).await
    };
    // A peer that does not play along is dropped all the same.
    let _ = timeout(HANG_UP_MAX, polite).await;
}

fn is_exhausted(error: &io::Error) -> bool {
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    exhausted.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// A descriptor to give up when there are none.
fn open_reserve() -> Option<File> {
    File::open("/dev/null").ok()
}
