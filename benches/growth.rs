//! P9: what a read, a start and the memory cost in a large vault, against a small one.
//!
//! `cargo bench --profile release --bench growth -- [--records N] [--engine E] [--quick]`. Each step is a process of
//! its
//! own, so that its memory is its own. The small and the large vault are read round about.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use lethe::clock::SystemClock;
use lethe::id::RecordId;
use lethe::vault::{ReadSpec, Vault};

use support::{Common, Outcome, TENANT, app, line, median, percentile};

const GETS: u64 = 50_000;
/// Puts before a vault is left without a close.
const DIRTY_PUTS: u64 = 2_000;

#[derive(Parser)]
struct Args {
    /// Records of the large vault.
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// Records of the small vault.
    #[arg(long, default_value_t = 100_000)]
    small: u64,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// `load`, `read` or `crash`: a step, told to a process of its own.
    #[arg(long, hide = true)]
    step: Option<String>,
    #[arg(long, hide = true)]
    dir: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

fn main() -> Outcome<()> {
    let mut args = Args::parse();
    if args.common.quick {
        args.records = args.records.min(10_000);
        args.small = args.small.min(2_000);
        args.rounds = args.rounds.min(2);
    }
    let dir = args.dir.clone().unwrap_or_default();
    match args.step.as_deref() {
        None => compare(&args),
        Some("load") => support::runtime()?.block_on(load(&dir, &args)),
        Some("read") => read(&dir, &args),
        Some("crash") => support::runtime()?.block_on(crash(&dir, &args)),
        Some(other) => Err(format!("no step {other}").into()),
    }
}

/// What a step says: start in ms, get p50 and p99 in µs, resident MiB.
#[derive(Clone, Copy, Default)]
struct Said {
    start: f64,
    p50: f64,
    p99: f64,
    resident: f64,
}

fn step(name: &str, dir: &Path, records: u64, args: &Args) -> Outcome<Said> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--step", name, "--engine", &args.common.engine]);
    command.args(["--records", &records.to_string(), "--bytes", &args.common.bytes().to_string()]);
    let output = command.arg("--dir").arg(dir).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8(output.stdout)?;
    if !output.status.success() {
        return Err(format!("{name} failed").into());
    }
    text.lines().filter(|l| l.starts_with('#')).for_each(|l| println!("{l}"));
    let last = text.lines().last().unwrap_or_default();
    let mut numbers = last.split(' ').filter_map(|n| n.parse::<f64>().ok());
    let mut next = || numbers.next().unwrap_or_default();
    Ok(Said { start: next(), p50: next(), p99: next(), resident: next() })
}

fn compare(args: &Args) -> Outcome<()> {
    let (small, large) = (support::scratch()?, support::scratch()?);
    let sides = [(small.path(), args.small), (large.path(), args.records)];
    let mut loaded = Vec::new();
    for (dir, records) in sides {
        loaded.push(step("load", dir, records, args)?);
        println!("# {records} records on disk: {} MiB", support::bytes_under(dir)? >> 20);
    }
    let mut clean: [Vec<Said>; 2] = Default::default();
    let mut dirty: [Vec<Said>; 2] = Default::default();
    for _ in 0..args.rounds {
        for (n, (dir, records)) in sides.into_iter().enumerate() {
            clean[n].push(step("read", dir, records, args)?);
            step("crash", dir, records, args)?;
            dirty[n].push(step("read", dir, records, args)?);
        }
    }
    println!(
        "P9 growth: {} against {} records, {}, values of {} bytes, medians of {} rounds",
        args.records,
        args.small,
        args.common.engine,
        args.common.bytes(),
        args.rounds
    );
    let mid =
        |said: &[Said], of: fn(&Said) -> f64| median(&said.iter().map(of).collect::<Vec<_>>());
    let [s, l] = &clean;
    line("GetRecord p50", mid(l, |x| x.p50), "us", mid(s, |x| x.p50), "<= 1.3");
    line("GetRecord p99", mid(l, |x| x.p99), "us", mid(s, |x| x.p99), "-");
    line("start after a close", mid(l, |x| x.start), "ms", mid(s, |x| x.start), "<= 3 s");
    let [ds, dl] = &dirty;
    line("start after a crash", mid(dl, |x| x.start), "ms", mid(ds, |x| x.start), "<= 3 s");
    line(
        "resident after the reads",
        mid(l, |x| x.resident),
        "MiB",
        mid(s, |x| x.resident),
        "<= 1.5 GiB",
    );
    if let [s, l] = loaded.as_slice() {
        line("resident at most, loading", l.resident, "MiB", s.resident, "-");
    }
    Ok(())
}

async fn load(dir: &Path, args: &Args) -> Outcome<()> {
    let vault = support::create(dir, &args.common).await?;
    let ids = support::load(&vault, args.records, args.common.bytes()).await?;
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.0).collect();
    std::fs::write(dir.join("ids"), bytes)?;
    support::settle().await?;
    let start = Instant::now();
    vault.close()?;
    drop(vault);
    let (now, most) = support::resident_mib()?;
    println!("# closed in {:.2?}; resident {now} MiB, at most {most} MiB", start.elapsed());
    println!("0 0 0 {most}");
    Ok(())
}

fn open(dir: &Path, args: &Args) -> Outcome<Vault> {
    Ok(Vault::open(&support::setup(dir, &args.common)?, Arc::new(SystemClock))?)
}

fn read(dir: &Path, args: &Args) -> Outcome<()> {
    let ids = std::fs::read(dir.join("ids"))?;
    let ids: Vec<RecordId> =
        ids.chunks_exact(16).filter_map(|c| c.try_into().ok().map(RecordId)).collect();
    let start = Instant::now();
    let vault = open(dir, args)?;
    let opened = start.elapsed();
    let (permit, spec) = (app(TENANT)?, ReadSpec::default());
    let mut took = Vec::new();
    for n in 0..2 * GETS {
        let id = ids.get((support::mix(n) % ids.len() as u64) as usize).copied().ok_or("no id")?;
        let start = Instant::now();
        vault.get_record(&permit, TENANT, id, &spec)?;
        // The first half warms up.
        if n >= GETS {
            took.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    let (resident, _) = support::resident_mib()?;
    vault.close()?;
    let (p50, p99) = (median(&took), percentile(&took, 99));
    println!("{} {p50} {p99} {resident}", opened.as_secs_f64() * 1e3);
    Ok(())
}

/// Puts some records and ends without a close.
async fn crash(dir: &Path, args: &Args) -> Outcome<()> {
    let vault = Arc::new(open(dir, args)?);
    let shared = vault.clone();
    support::crowd(64, DIRTY_PUTS, move |n| {
        let (vault, fields) = (shared.clone(), support::fields(n, 200));
        async move { support::put(&vault, TENANT, support::CUSTOMER, None, fields).await }
    })
    .await?;
    std::process::exit(0)
}
