//! The daemon: arguments in, exit code out.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use lethe::clock::{Clock, SystemClock};
use lethe::server::{self, Config, DevDir, LogFormat, ServerError};

/// What was freed is wiped: keys live on in no heap page.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

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
    },
    /// Make a vault for development, or reuse it, and serve it. Not for production.
    Dev {
        #[arg(long, default_value = "./lethe-dev")]
        dir: PathBuf,
        /// A loopback address [default: 127.0.0.1:7443].
        #[arg(long)]
        listen: Option<SocketAddr>,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    server::harden()
        .and_then(|()| start(args))
        .map_or_else(failed, |()| ExitCode::SUCCESS)
}

fn start(args: Args) -> Result<(), ServerError> {
    server::log_to_stderr(args.log_format);
    let clock = Arc::new(SystemClock);
    let (config, banner) = match args.command {
        Command::Serve { config } => (Config::load(&config)?, String::new()),
        Command::Dev { dir, listen } => {
            let dev = DevDir::prepare(&dir, listen, clock.now())?;
            (dev.config.clone(), dev.banner())
        }
    };
    server::block_on(config, clock, server::health_only, |_| print!("{banner}"))
}

fn failed(error: ServerError) -> ExitCode {
    eprintln!("lethed: {error}");
    ExitCode::FAILURE
}
