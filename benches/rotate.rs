//! P7: rotation of the KEK while readers and writers go on.
//!
//! `cargo bench --profile release --bench rotate -- [--records N] [--rotations N] [--engine E] [--quick]`.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use lethe::id::RecordId;
use lethe::vault::{ReadSpec, Vault};

use support::{Common, Outcome, TENANT, app, median, percentile};

const READERS: u64 = 8;
const WRITERS: u64 = 8;

#[derive(Parser)]
struct Args {
    #[arg(long, default_value_t = 100_000)]
    records: u64,
    #[arg(long, default_value_t = 50)]
    rotations: u64,
    #[command(flatten)]
    common: Common,
}

#[derive(Default)]
struct Load {
    stop: AtomicBool,
    reads: AtomicU64,
    writes: AtomicU64,
    failed: AtomicU64,
}

fn main() -> Outcome<()> {
    let mut args = Args::parse();
    if args.common.quick {
        args.records = args.records.min(2_000);
        args.rotations = args.rotations.min(10);
    }
    support::runtime()?.block_on(run(&args))
}

async fn run(args: &Args) -> Outcome<()> {
    let dir = support::scratch()?;
    let vault = support::create(dir.path(), &args.common).await?;
    let ids = Arc::new(support::load(&vault, args.records, args.common.bytes()).await?);
    support::settle().await?;
    let permit = support::operator(None)?;
    let mut quiet = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        vault.rotate_key(&permit).await?;
        quiet.push(start.elapsed());
    }
    let load = Arc::new(Load::default());
    let readers =
        (0..READERS).map(|n| tokio::spawn(read(vault.clone(), ids.clone(), load.clone(), n)));
    let mut tasks: Vec<_> = readers.collect();
    tasks.extend((0..WRITERS).map(|n| tokio::spawn(write(vault.clone(), load.clone(), n))));
    let mut took = Vec::new();
    for _ in 0..args.rotations {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let start = Instant::now();
        vault.rotate_key(&permit).await?;
        took.push(start.elapsed());
    }
    load.stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await??;
    }
    let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
    println!(
        "P7 rotate: {} records, {}, {} rotations under {READERS} readers and {WRITERS} writers",
        args.records, args.common.engine, args.rotations
    );
    let (p50, max) = (median(&took), percentile(&took, 100));
    println!(
        "rotation p50 {p50:.2?}, max {max:.2?} (quiet p50 {:.2?})   bar <= 100 ms",
        median(&quiet)
    );
    let failed = count(&load.failed);
    println!(
        "calls meanwhile: {} reads, {} writes, {failed} failed   bar 0",
        count(&load.reads),
        count(&load.writes)
    );
    vault.close()?;
    if failed > 0 { Err("a call failed during a rotation".into()) } else { Ok(()) }
}

async fn read(
    vault: Arc<Vault>,
    ids: Arc<Vec<RecordId>>,
    load: Arc<Load>,
    seed: u64,
) -> Outcome<()> {
    let permit = app(TENANT)?;
    let mut n = seed << 32;
    while !load.stop.load(Ordering::Relaxed) {
        n += 1;
        let id = ids.get((support::mix(n) % ids.len() as u64) as usize).copied().ok_or("no id")?;
        match vault.get_record(&permit, TENANT, id, &ReadSpec::default()) {
            Ok(_) => load.reads.fetch_add(1, Ordering::Relaxed),
            Err(_) => load.failed.fetch_add(1, Ordering::Relaxed),
        };
        if n.is_multiple_of(32) {
            // Reads never wait, so that the runtime must be given its turn; and a machine that only reads is no load.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    Ok(())
}

async fn write(vault: Arc<Vault>, load: Arc<Load>, seed: u64) -> Outcome<()> {
    let mut n = seed << 32;
    while !load.stop.load(Ordering::Relaxed) {
        n += 1;
        let fields = support::fields(n, 200);
        match support::put(&vault, TENANT, support::CUSTOMER, None, fields).await {
            Ok(_) => load.writes.fetch_add(1, Ordering::Relaxed),
            Err(_) => load.failed.fetch_add(1, Ordering::Relaxed),
        };
    }
    Ok(())
}
