//! The daemon: arguments in, exit code out.

use std::alloc::System;
use std::process::ExitCode;

use clap::Parser;
use lethe::server;
use zeroizing_alloc::ZeroAlloc;

/// What is freed is wiped.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    server::exit_code(server::harden().and_then(|()| start(Args::parse())))
}

fn start(args: Args) -> Result<(), ServerError> {
    server::log_to_stderr(args.log_format);
    let (config, banner) = match args.command {
        Command::Serve { config } => (Config::load(&config)?, String::new()),
        Command::Dev { dir, listen } => {
            let dev = DevDir::prepare(&dir, listen, SystemClock.now())?;
            (dev.config.clone(), dev.banner())
        }
    };
    server::block_on(config, Arc::new(SystemClock), server::health_only, |_| server::say(&banner))
}
