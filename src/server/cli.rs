//! What `lethed` is told on its command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Parser, Subcommand};

use super::opening::repair;
use super::{
    Config, DevDir, LogFormat, OnHangup, Opening, PolicyCommand, ServerError, block_on,
    log_to_stderr, review, say,
};
use crate::clock::{Clock, SystemClock};

/// The Lethe daemon: an encrypted customer-data vault that can prove it forgot.
#[derive(Parser)]
#[command(version)]
pub struct Args {
    /// How log lines on standard error look.
    #[arg(long, value_enum, global = true, default_value = "text")]
    pub log_format: LogFormat,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Serve a vault.
    Serve {
        #[arg(long)]
        config: PathBuf,
        /// Make the vault first; refused where there is one.
        #[arg(long)]
        init: bool,
    },
    /// Rebuild a damaged store from the rows that prove themselves and from the node journal. Stop the daemon first.
    Repair {
        #[arg(long)]
        config: PathBuf,
        /// Say what would be kept and lost, and change nothing. Needs room for a copy of the store.
        #[arg(long)]
        dry_run: bool,
    },
    /// Look at policies: whether one is sound, and who may do what by it.
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Make a vault for development, or reuse it, and serve it. Not for production.
    Dev {
        #[arg(long, default_value = "lethe-dev")]
        dir: PathBuf,
        /// A loopback address [default: 127.0.0.1:7443].
        #[arg(long)]
        listen: Option<SocketAddr>,
    },
}

/// Runs the command and returns when the daemon has stopped.
pub fn start(args: Args) -> Result<(), ServerError> {
    log_to_stderr(args.log_format);
    let (config, opening, on_hangup, banner) = match args.command {
        Command::Serve { config, init } => {
            let opening = if init { Opening::New } else { Opening::Existing };
            (Config::load(&config)?, opening, OnHangup::Reload, None)
        }
        Command::Repair { config, dry_run } => {
            let report = repair(&Config::load(&config)?, &SystemClock, dry_run)?;
            say(report.to_string().trim_end());
            return if report.opens() { Ok(()) } else { Err(ServerError::BeyondRepair) };
        }
        Command::Policy { command } => return review::run(command),
        Command::Dev { dir, listen } => {
            let dev = DevDir::prepare(&dir, listen, SystemClock.now())?;
            (dev.config.clone(), Opening::Either, OnHangup::End, Some(dev.banner()))
        }
    };
    let listening = |up: &super::Up| {
        if let Some(banner) = banner {
            say(&format!("{banner}\n{}", up.text()));
        }
    };
    block_on(config, opening, Arc::new(SystemClock), listening, on_hangup)
}
