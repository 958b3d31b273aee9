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
    // Before arguments are read: nothing of this process may ever be in a core file.
    server::exit_code(server::harden().and_then(|()| server::start(server::Args::parse())))
}
