//! The daemon: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser;
use lethe::server;
use mimalloc::MiMalloc;
use zeroizing_alloc::ZeroAlloc;

/// What is freed is wiped. What is allocated in one thread and freed in another, as entries of the log are, costs
/// mimalloc little.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

fn main() -> ExitCode {
    // Before arguments are read: nothing of this process may ever be in a core file.
    server::exit_code(server::harden().and_then(|()| server::start(server::Args::parse())))
}
