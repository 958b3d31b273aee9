//! Why there is no connection, and what to do next. Nothing here holds key material.

use std::path::PathBuf;

/// Every way in which a client fails to get a connection.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No configuration was named.
    #[error(
        "no client configuration was named\n  next: pass --config FILE or set LETHE_CONFIG; \
         `lethed dev` writes client-application.toml, client-operator.toml and client-auditor.toml"
    )]
    NoConfig,
    /// A file that the configuration needs cannot be read.
    #[error("cannot read the {what} {}: {cause}\n  next: {next}", path.display())]
    File { what: &'static str, path: PathBuf, cause: std::io::Error, next: &'static str },
    /// The configuration is not what a client configuration looks like.
    #[error("the client configuration {} is not valid: {cause}\n  next: {next}", path.display())]
    Config { path: PathBuf, cause: String, next: &'static str },
    /// A PEM file holds something else.
    #[error("the {what} {} is not usable: {cause}\n  next: {next}", path.display())]
    Pem { what: &'static str, path: PathBuf, cause: String, next: &'static str },
    /// The private key is open to everybody.
    #[error(
        "the private key {} can be read by every user of this machine\n  next: chmod 600 it, and replace \
         the key if strangers have accounts here", path.display()
    )]
    KeyExposed { path: PathBuf },
    /// Nobody listens there.
    #[error("cannot reach {endpoint}: {cause}\n  next: {next}")]
    Unreachable { endpoint: String, cause: std::io::Error, next: &'static str },
    /// Somebody listens, but the handshake failed.
    #[error("the TLS handshake with {endpoint} failed: {cause}\n  next: {next}")]
    Handshake { endpoint: String, cause: String, next: &'static str },
    /// The connection took too long.
    #[error(
        "no connection to {endpoint} within {secs} s\n  next: check the address and the firewall between; \
         ask `lethed` on its own machine with `lethectl status`"
    )]
    TimedOut { endpoint: String, secs: u64 },
}
