//! The process around the vault: what it keeps out of core files, where its log goes, how it is asked to stop.
//!
//! Guarantees: after [`harden`] the process writes no core file, no other process of its user may read its memory,
//! and files that it makes are its user's alone. Log lines go to standard error, from the vault's own code at
//! `log.level` and from libraries at WARN at most, which say nothing about contents.

use std::future::Future;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use serde::Deserialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::ServerError;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// The least that is told of the vault's own doings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
}

impl LogLevel {
    fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
        }
    }
}

/// What is told, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LogSettings {
    pub format: LogFormat,
    pub level: LogLevel,
}

/// Call first, before there are threads, files or secrets.
pub fn harden() -> Result<(), ServerError> {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none)
        .and_then(|()| rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable))
        .map_err(|errno| ServerError::Harden(errno.into()))
}

/// Sends the log to standard error. A second call changes nothing.
pub fn log_to_stderr(log: LogSettings) {
    let own = log.level.filter();
    // What libraries say below WARN may be of contents.
    let levels = Targets::new().with_default(own.min(LevelFilter::WARN)).with_target("lethe", own);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false);
    let registry = tracing_subscriber::registry().with(levels);
    // The only error is that a subscriber is set already.
    let _ = match log.format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json()).try_init(),
    };
}

/// Writes to standard output. A closed one is no reason to stop.
pub fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// Says on standard error what went wrong, if anything did.
pub fn exit_code(outcome: Result<ExitCode, ServerError>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "lethed: {error}");
        ExitCode::FAILURE
    })
}

/// Resolves at the first SIGTERM or SIGINT. They are caught from the call on, not from the first poll.
pub fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// What SIGHUP does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnHangup {
    /// The files of the door are taken anew.
    Reload,
    /// The process ends, as a program does whose terminal was closed.
    End,
}

/// Is notified of each SIGHUP. They are caught from the call on.
pub fn hangup_signal(on_hangup: OnHangup) -> io::Result<Arc<Notify>> {
    let notify = Arc::new(Notify::new());
    if on_hangup == OnHangup::Reload {
        let (mut hangup, told) = (signal(SignalKind::hangup())?, Arc::clone(&notify));
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                told.notify_one();
            }
        });
    }
    Ok(notify)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardened_process_leaves_no_core_and_no_readable_files() {
        harden().unwrap();
        assert_eq!(rustix::process::getrlimit(Resource::Core).current, Some(0));
        let dumpable = rustix::process::dumpable_behavior().unwrap();
        assert_eq!(dumpable, DumpableBehavior::NotDumpable);
        assert_eq!(rustix::process::umask(Mode::RWXG | Mode::RWXO), Mode::RWXG | Mode::RWXO);
    }
}
