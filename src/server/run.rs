//! From a configuration to a running daemon. The wiring is explicit and in one function, [`run`].
//!
//! Guarantees: the caller owns the socket and the signal to stop; when asked to stop, the daemon takes no new
//! connection, lets calls end for at most `DoorLimits::shutdown`, and then closes the vault. While it serves, changed
//! files of the door, of the policy and of the identities are taken without a restart.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};

use super::accept::{DoorLimits, Reception};
use super::exposition::View;
use super::gate::GateLayer;
use super::http2;
use super::lanes::Lanes;
use super::opening::{self, Opening};
use super::process::{OnHangup, hangup_signal, stop_signal};
use super::rights::Rights;
use super::socket::Socket;
use super::trust::Trust;
use super::{Config, ServerError};
use crate::authz::{Authority, TrustDomain};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::rpc;
use crate::rpc::witness::Witness;

/// What services are built from, besides the configuration.
#[derive(Clone)]
pub struct Wiring {
    pub authority: Arc<Authority>,
    pub metrics: Arc<Metrics>,
    pub clock: Arc<dyn Clock>,
    /// Asks for the door's files to be taken anew, changed or not.
    pub reload: Arc<Notify>,
}

/// A bound socket and all that a connection to it must satisfy.
pub struct Door {
    pub listener: TcpListener,
    pub trust: Arc<Trust>,
    pub trust_domain: TrustDomain,
    pub limits: DoorLimits,
    pub metrics: Arc<Metrics>,
    pub clock: Arc<dyn Clock>,
    pub reload: Arc<Notify>,
}

impl Door {
    /// Binds the socket and reads the files of the door.
    pub async fn open(config: &Config, wiring: &Wiring) -> Result<Self, ServerError> {
        let trust = Arc::new(Trust::open(&config.tls, Arc::clone(&wiring.clock))?);
        let addr = config.listen;
        let listen = |source| ServerError::Listen { addr, source };
        Ok(Self {
            listener: TcpListener::bind(addr).await.map_err(listen)?,
            trust,
            trust_domain: config.tls.trust_domain.clone(),
            limits: config.limits,
            metrics: Arc::clone(&wiring.metrics),
            clock: Arc::clone(&wiring.clock),
            reload: Arc::clone(&wiring.reload),
        })
    }

    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves `services` until `stop` resolves.
    pub async fn serve<S>(
        self,
        services: S,
        witness: Arc<dyn Witness>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), ServerError>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send + 'static,
    {
        let Self { listener, trust, trust_domain, limits: bounds, metrics, clock, reload } = self;
        let gate = GateLayer {
            trust: Arc::clone(&trust),
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            witness,
            deadline_max: bounds.deadline,
        };
        let lanes = Lanes::start().map_err(ServerError::Runtime)?;
        let keeping = tokio::spawn(Arc::clone(&trust).keep(Arc::clone(&metrics), reload));
        let reception = Reception::new(trust, trust_domain, clock, bounds, metrics);
        let (connections, mut incoming) = mpsc::channel(1);
        let accepting = tokio::spawn(reception.run(listener, connections));
        let (stopping, mut stopped) = watch::channel(());
        let told = stopping.subscribe();
        let (gate, pool) = (gate.before(services), Handle::current());
        let visit = move |connection| {
            http2::serve(connection, gate.clone(), pool.clone(), bounds, told.clone())
        };
        let mut all = JoinSet::new();
        let serving = async {
            let mut stop = pin!(stop);
            loop {
                tokio::select! {
                    () = &mut stop => break,
                    connection = incoming.recv() => match connection {
                        Some(connection) => lanes.serve(&mut all, visit(connection)),
                        None => break,
                    },
                    // So that what ended is forgotten.
                    Some(_) = all.join_next() => {}
                }
            }
            drop(incoming);
            stopping.send_replace(());
            while all.join_next().await.is_some() {}
        };
        let too_long = async {
            // An error means that the sender went with a server that ended by itself.
            let _ = stopped.changed().await;
            tokio::time::sleep(bounds.shutdown).await;
        };
        tokio::select! {
            () = serving => {}
            () = too_long => {
                tracing::warn!("calls were cut off: they went on for too long after the stop");
            }
        }
        accepting.abort();
        keeping.abort();
        // Nothing of a connection is left when the vault closes.
        drop(all);
        lanes.end().await;
        Ok(())
    }
}

/// What a daemon says of itself once it listens.
#[derive(Clone, Debug)]
pub struct Up {
    pub addr: SocketAddr,
    /// What receipts reach here, and what needs attention, for people.
    pub level: &'static str,
    pub warnings: Vec<String>,
}

impl Up {
    pub fn text(&self) -> String {
        let mut text = format!("Receipts reach {}.\n", self.level);
        for warning in &self.warnings {
            text.push_str(&format!("WARNING: {warning}\n"));
        }
        text
    }
}

/// Runs a daemon: configuration → authority → door → vault → services. `listening` is told of it once it serves.
pub async fn run(
    config: Config,
    opening: Opening,
    clock: Arc<dyn Clock>,
    listening: impl FnOnce(&Up),
    stop: impl Future<Output = ()>,
    reload: Arc<Notify>,
) -> Result<(), ServerError> {
    let rights = Rights::open(&config)?;
    let authority = Arc::clone(&rights.authority);
    let reloads = [Arc::new(Notify::new()), Arc::new(Notify::new())];
    let [of_door, of_rights] = reloads.clone();
    let wiring = Wiring { authority, metrics: Arc::default(), clock, reload: of_door };
    // The door opens before the vault: a wrong file is found before anything of the vault is touched. Nobody is
    // accepted until it is served.
    let door = Door::open(&config, &wiring).await?;
    let trust = Arc::clone(&door.trust);
    let (metrics, clock) = (Arc::clone(&wiring.metrics), Arc::clone(&wiring.clock));
    let view = Arc::new(View::new(metrics, trust, clock, config.data.clone()));
    // Before the vault opens, which may take a while: a probe sees that the daemon lives. Ends with this function.
    let mut probes = JoinSet::new();
    if let Some(path) = &config.metrics_socket {
        probes.spawn(Socket::open(path)?.serve(Arc::clone(&view)));
    }
    let vault = opening::open(&config, &wiring, opening).await?;
    let (stops, stopping) = watch::channel(false);
    let shown = Arc::clone(&view);
    let exposition = Arc::new(move || shown.text());
    let authority = Arc::clone(&wiring.authority);
    let services = rpc::services(Arc::clone(&vault), authority, stopping, exposition);
    let addr = door.local_addr().unwrap_or(config.listen);
    view.ready.opened(&vault);
    tracing::info!(%addr, "listening");
    listening(&Up {
        addr,
        level: opening::level_name(vault.advertised_level()),
        warnings: vault.warnings().to_vec(),
    });
    let stop = async move {
        stop.await;
        view.ready.stopping();
        // Streams have no end of their own.
        stops.send_replace(true);
    };
    let relaying = tokio::spawn(relay(reload, reloads));
    let keeping = tokio::spawn(rights.keep(Arc::clone(&wiring.metrics), of_rights));
    let served = door.serve(services, Arc::clone(&vault) as Arc<dyn Witness>, stop).await;
    relaying.abort();
    keeping.abort();
    // Also after an error: what is closed opens quickly again.
    let closed = opening::close(&config, vault).await;
    // The socket goes before the process says that it is over.
    probes.shutdown().await;
    served.and(closed)?;
    tracing::info!("stopped");
    Ok(())
}

/// Passes each notice on to all.
async fn relay(from: Arc<Notify>, to: [Arc<Notify>; 2]) {
    loop {
        from.notified().await;
        to.iter().for_each(|each| each.notify_one());
    }
}

/// [`run`] on a runtime of its own, until SIGTERM or SIGINT.
pub fn block_on(
    config: Config,
    opening: Opening,
    clock: Arc<dyn Clock>,
    listening: impl FnOnce(&Up),
    on_hangup: OnHangup,
) -> Result<(), ServerError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(ServerError::Runtime)?.block_on(async {
        let stop = stop_signal().map_err(ServerError::Runtime)?;
        let reload = hangup_signal(on_hangup).map_err(ServerError::Runtime)?;
        run(config, opening, clock, listening, stop, reload).await
    })
}
