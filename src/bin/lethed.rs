//! The daemon: arguments in, exit code out.

use std::alloc::System;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use lethe::clock::{Clock, SystemClock};
use lethe::server::{self, Config, DevDir, LogFormat, Opening, ServerError};
use zeroizing_alloc::ZeroAlloc;

/// What is freed is wiped.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

/// The Lethe daemon: an encrypted customer-data vault that can prove it forgot.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// How log lines on standard error look.
    #[arg(long, value_enum, global = true, default_value = "text")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a vault.
    Serve {
        #[arg(long)]
        config: PathBuf,
        /// Make the vault first; refused where there is one.
        #[arg(long)]
        init: bool,
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

fn main() -> ExitCode {
    server::exit_code(server::harden().and_then(|()| start(Args::parse())))
}

fn start(args: Args) -> Result<(), ServerError> {
    server::log_to_stderr(args.log_format);
    let (config, opening, banner) = match args.command {
        Command::Serve { config, init } => {
            let opening = if init { Opening::New } else { Opening::Existing };
            (Config::load(&config)?, opening, None)
        }
        Command::Dev { dir, listen } => {
            let dev = DevDir::prepare(&dir, listen, SystemClock.now())?;
            (dev.config.clone(), Opening::Either, Some(dev.banner()))
        }
    };
    server::block_on(config, opening, Arc::new(SystemClock), |up| {
        banner.iter().for_each(|banner| server::say(&format!("{banner}\n{}", up.text())));
    })
}
