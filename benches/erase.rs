//! P5: erasing random single records, against what the syncs of an erasure batch allow.
//!
//! `cargo bench --profile release --bench erase -- [--records N] [--erasures N] [--callers N] [--engine E] [--quick]`.
//! The rival is the disk: a commit of a tiny row beside a sync of a journal, then the anchor's two slots, measured in
//! the same directory between the rounds. No more than `callers` erasures can share these.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use lethe::class::ErasureReason;
use lethe::id::RecordId;
use lethe::vault::Vault;

use support::disk::Disk;
use support::{Common, Outcome, TENANT, app, crowd, line, median, per_second, percentile};

#[derive(Parser)]
struct Args {
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// Erasures in a round.
    #[arg(long, default_value_t = 2_048)]
    erasures: u64,
    #[arg(long, default_value_t = 64)]
    callers: u64,
    #[arg(long, default_value_t = 7)]
    rounds: u64,
    #[command(flatten)]
    common: Common,
}

fn main() -> Outcome<()> {
    let mut args = Args::parse();
    if args.common.quick {
        args.records = args.records.min(5_000);
        args.erasures = args.erasures.min(256);
    }
    support::runtime()?.block_on(run(&args))
}

async fn run(args: &Args) -> Outcome<()> {
    let dir = support::scratch()?;
    let vault = support::create(dir.path(), &args.common).await?;
    let mut ids = support::load(&vault, args.records, args.common.bytes()).await?;
    shuffle(&mut ids);
    support::settle().await?;
    let mut disk = Disk::new(&dir.path().join("rival"), &args.common)?;
    let (mut rates, mut syncs, mut latencies) = (Vec::new(), Vec::new(), Vec::new());
    let mut cpu_millis = Vec::new();
    let batches = generations(&vault);
    for round in 0..=args.rounds {
        let chosen = ids.split_off(ids.len() - (args.erasures as usize).min(ids.len()));
        let measured = disk.sync_times(20)?;
        let (cpu, start) = (support::cpu_time()?, Instant::now());
        let took = erase_round(&vault, Arc::new(chosen), args.callers).await?;
        let (whole, cpu) = (start.elapsed(), support::cpu_time()? - cpu);
        // The first round warms filters and caches up.
        let rate = per_second(took.len() as u64, whole);
        if round == 0 {
            println!("# first round, cold: {rate:.0} erasures/s");
            continue;
        }
        rates.push(rate);
        cpu_millis.push(cpu.as_secs_f64() * 1e3 / took.len() as f64);
        syncs.push(median(&measured).as_secs_f64() * 1e3);
        latencies.extend(took.iter().map(|t| t.as_secs_f64() * 1e3));
    }
    let each = args.erasures as f64 * (args.rounds + 1) as f64
        / (generations(&vault) - batches).max(1) as f64;
    println!(
        "P5 erase: {} records, {} rounds of {} erasures, {} callers, {}; {each:.0} erasures a batch",
        args.records, args.rounds, args.erasures, args.callers, args.common.engine
    );
    let sync = median(&syncs);
    line("erasures", median(&rates), "1/s", args.callers as f64 * 1e3 / sync, ">= 0.5");
    line("erasure p50", median(&latencies), "ms", sync, "<= 2");
    line("erasure p99", percentile(&latencies, 99), "ms", sync, "-");
    println!("CPU of an erasure {:.3} ms", median(&cpu_millis));
    let start = Instant::now();
    vault.close()?;
    println!("close {:.2?}", start.elapsed());
    Ok(())
}

fn generations(vault: &Vault) -> u64 {
    let counters = vault.metrics().snapshot();
    counters.iter().find(|(name, _)| name.contains("generation")).map_or(0, |(_, n)| *n)
}

async fn erase_round(
    vault: &Arc<Vault>,
    chosen: Arc<Vec<RecordId>>,
    callers: u64,
) -> Outcome<Vec<Duration>> {
    let (vault, permit) = (vault.clone(), Arc::new(app(TENANT)?));
    crowd(callers, chosen.len() as u64, move |n| {
        let (vault, permit) = (vault.clone(), permit.clone());
        let record = chosen.get(n as usize).copied();
        async move {
            let record = record.ok_or("no such record")?;
            let reason = ErasureReason::SubjectRequest;
            let start = Instant::now();
            vault.erase_records(&permit, TENANT, &[record], reason, None).await?;
            Ok(start.elapsed())
        }
    })
    .await
}

fn shuffle(ids: &mut [RecordId]) {
    for n in (1..ids.len()).rev() {
        ids.swap(n, (support::mix(n as u64) % (n as u64 + 1)) as usize);
    }
}
