//! P3: durable creates with three indexed fields, against the same rows put straight into the store.
//!
//! `cargo bench --profile release --bench put -- [--records N] [--callers N] [--engine redb|sled] [--quick]`.
//! The rival commits a record row and a pointer row of the same sizes and keys of the same shape through the same
//! committer; the vault's key pages, index runs and their journal are its own cost.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use lethe::clock::UnixMillis;
use lethe::id::{BucketOrd, FieldOrd, Kid, PageOrd, RecordId, TenantOrd, VaultId};
use lethe::store::{Batch, DiskGuard, Journal, Store};
use lethe::vault::fieldmap::FieldMap;
use lethe::vault::{NewRecord, Vault};

use support::{Common, Outcome, app, crowd, fields, line, median, noise, per_second};

#[derive(Parser)]
struct Args {
    /// Records in a round.
    #[arg(long, default_value_t = 50_000)]
    records: u64,
    #[arg(long, default_value_t = 64)]
    callers: u64,
    #[arg(long, default_value_t = 5)]
    rounds: u64,
    /// `vault` or `store`: run one side only, for a profiler.
    #[arg(long)]
    only: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Default)]
struct Side {
    rate: Vec<f64>,
    cpu_micros: Vec<f64>,
}

impl Side {
    fn add(&mut self, count: u64, took: Duration, cpu: Duration) {
        self.rate.push(per_second(count, took));
        self.cpu_micros.push(cpu.as_secs_f64() * 1e6 / count as f64);
    }
}

fn main() -> Outcome<()> {
    let mut args = Args::parse();
    if args.common.quick {
        args.records = args.records.min(2_000);
    }
    support::runtime()?.block_on(run(&args))
}

async fn run(args: &Args) -> Outcome<()> {
    let (ours, theirs) = (support::scratch()?, support::scratch()?);
    let vault = support::create(ours.path(), &args.common).await?;
    let about = Arc::new(support::subjects(&vault, support::TENANT, 64).await?);
    let guard = DiskGuard::open(theirs.path())?;
    let journal = Journal::open(theirs.path(), VaultId([0; 16]), |_| false)?;
    let engine = args.common.open_engine(&theirs.path().join("store"))?;
    let store = Store::open(engine, Some(Box::new(journal)), Some(guard))?;
    let row_bytes = row_bytes(args.common.bytes())?;
    let (mut mine, mut rival) = (Side::default(), Side::default());
    let wants = |side: &str| args.only.as_deref().is_none_or(|only| only == side);
    for round in 0..args.rounds {
        let from = round * args.records;
        if wants("vault") {
            let (cpu, start) = (support::cpu_time()?, Instant::now());
            vault_round(&vault, &about, from, args).await?;
            mine.add(args.records, start.elapsed(), support::cpu_time()? - cpu);
        }
        if wants("store") {
            let (cpu, start) = (support::cpu_time()?, Instant::now());
            store_round(&store, from, row_bytes, args).await?;
            rival.add(args.records, start.elapsed(), support::cpu_time()? - cpu);
        }
    }
    println!(
        "P3 put: {} rounds of {} records, {} callers, {}, values of {} bytes, record row of {row_bytes} bytes",
        args.rounds,
        args.records,
        args.callers,
        args.common.engine,
        args.common.bytes()
    );
    line("creates", median(&mine.rate), "1/s", median(&rival.rate), ">= 0.6");
    line("CPU a create", median(&mine.cpu_micros), "us", median(&rival.cpu_micros), "-");
    vault.close()?;
    Ok(())
}

async fn vault_round(
    vault: &Arc<Vault>,
    about: &Arc<Vec<RecordId>>,
    from: u64,
    args: &Args,
) -> Outcome<()> {
    let (vault, about, bytes) = (vault.clone(), about.clone(), args.common.bytes());
    let (permit, rtype) = (Arc::new(app(support::TENANT)?), support::slug(support::CUSTOMER)?);
    crowd(args.callers, args.records, move |n| {
        let (vault, permit, rtype) = (vault.clone(), permit.clone(), rtype.clone());
        let subject = about.get(n as usize % about.len()).copied();
        async move {
            let new = NewRecord { rtype, subject, fields: fields(from + n, bytes), request: None };
            vault.create_record(&permit, support::TENANT, new).await?;
            Ok(())
        }
    })
    .await?;
    Ok(())
}

async fn store_round(store: &Store, from: u64, row_bytes: usize, args: &Args) -> Outcome<()> {
    let store = store.clone();
    crowd(args.callers, args.records, move |n| {
        let (store, n) = (store.clone(), from + n);
        async move {
            let kid = kid(n);
            let mut batch = Batch::default();
            batch.put([b"r".as_slice(), &kid, &[0, 0]].concat(), noise(n, row_bytes));
            let pointer = [b"LTU1".as_slice(), &kid, &1_u64.to_be_bytes(), &[0, 1]].concat();
            batch.put([b"u".as_slice(), &[0, 0, 1], &noise(n, 16)].concat(), pointer);
            store.commit(batch).await?;
            Ok(())
        }
    })
    .await?;
    Ok(())
}

fn kid(n: u64) -> [u8; 10] {
    let page = PageOrd::new((n / 128) as u32).unwrap_or_default();
    let (tenant, bucket) = (TenantOrd::of(1), BucketOrd::of(1));
    Kid { tenant, bucket, page, slot: (n % 128) as u8 }.bytes()
}

/// Length of the row of a record with these values (docs/FORMAT.md §5): header, nonce, padded map, tag.
fn row_bytes(bytes: usize) -> Outcome<usize> {
    let values = fields(1, bytes).into_values();
    let map = FieldMap {
        subject: RecordId([0; 16]),
        member: lethe::audit::Member { subject: [6; 16], record: [4; 16] },
        created: UnixMillis(0),
        updated: UnixMillis(0),
        used: UnixMillis(0),
        fields: (1..).map(FieldOrd).zip(values).collect(),
    };
    Ok(52 + 12 + map.encode()?.len() + 16)
}
