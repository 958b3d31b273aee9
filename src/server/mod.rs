//! The daemon's outside: configuration, the TLS door, the loop that accepts, the gate that every call passes.
//!
//! Guarantees: there is no listener without TLS 1.3 and a client certificate; every call that reaches a service carries
//! the principal of a certificate that counts at that moment and a path that `authz::RPCS` lists; connections, their
//! age, handshakes, streams, headers, the rate of calls and the time of a call are bounded.

mod accept;
mod cli;
mod config;
mod corked;
mod crl;
mod deadline;
mod dev;
mod diagnose;
mod exposition;
mod gate;
mod guest;
mod host;
mod http2;
mod identity;
mod lanes;
mod lines;
mod material;
mod movable;
mod opening;
mod probe;
mod process;
mod quota;
mod readiness;
mod review;
mod rights;
mod run;
mod socket;
mod tls;
mod trust;
mod untaken;
mod witnesses;

pub use accept::DoorLimits;
pub use cli::{Args, Command, start};
pub use config::{
    AnchorRequire, Config, ConfigProblem, ConfigProblems, EngineKind, KekSource, Sources, TlsFiles,
};
pub use crl::CrlProblem;
pub use dev::{DEV_LISTEN, DevDir, DevProblem};
pub use identity::IdentityProblem;
pub use opening::{OpenProblem, Opening};
pub use process::{
    LogFormat, LogLevel, LogSettings, OnHangup, exit_code, harden, log_to_stderr, say, stop_signal,
};
pub use review::PolicyCommand;
pub use run::{Door, Up, Wiring, block_on, run};
pub use socket::SocketProblem;
pub use tls::TlsProblem;
pub use trust::Trust;
pub use witnesses::WitnessProblem;

use crate::authz::{BindingError, PolicyFaults};
use crate::pki::PkiError;

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("{path}: {source}")]
    Io { path: String, source: std::io::Error },
    #[error("{path}: {problems}")]
    Config { path: String, problems: ConfigProblems },
    #[error("--set: expected KEY=VALUE; --log-format: expected text or json")]
    Flag,
    #[error("{key}, {path}: {problem}")]
    Tls { key: &'static str, path: String, problem: TlsProblem },
    #[error("{dir}: {problem}")]
    Dev { dir: String, problem: DevProblem },
    #[error("{path}: {faults}")]
    Policy { path: String, faults: PolicyFaults },
    #[error("identities: {0}")]
    Bindings(#[from] BindingError),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(
        "cannot listen on {addr}: {source}; stop what listens there, or choose another address"
    )]
    Listen { addr: std::net::SocketAddr, source: std::io::Error },
    #[error("witness.keys, {path}: {problem}")]
    Witnesses { path: String, problem: WitnessProblem },
    #[error("metrics.socket, {path}: {problem}")]
    Socket { path: String, problem: SocketProblem },
    #[error("{path}: no daemon answers: {source}")]
    Probe { path: String, source: std::io::Error },
    #[error("{0}")]
    Vault(#[source] OpenProblem),
    #[error("the vault cannot be repaired from what is left")]
    BeyondRepair,
    #[error("{0} ended without an outcome; the log has the cause")]
    Task(&'static str),
    #[error("the process could not be hardened: {0}")]
    Harden(std::io::Error),
    #[error("the runtime did not start: {0}")]
    Runtime(std::io::Error),
}

impl ServerError {
    fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.display().to_string(), source }
    }
}
