//! P6: a retention sweep that kills one bucket of many records, against what its syncs take and, by
//! `scripts/bench-sweep`, against `DELETE` of as many rows in PostgreSQL.
//!
//! `cargo bench --profile release --bench sweep -- [--records N] [--engine E] [--quick]`. Closing and listing the
//! bucket is not part of the figure, since it is done before the day is over; it is printed beside.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use lethe::class::{ErasureReason, Role};
use lethe::clock::{Clock, ManualClock, SystemClock, UnixMillis};
use lethe::vault::certificate::Wanted;
use lethe::vault::{Vault, VaultError};

use support::disk::Disk;
use support::{Common, Outcome, TENANT, VISIT, app, line, median};

const DAY: i64 = 86_400_000;

#[derive(Parser)]
struct Args {
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    #[command(flatten)]
    common: Common,
}

fn main() -> Outcome<()> {
    let mut args = Args::parse();
    if args.common.quick {
        args.records = args.records.min(5_000);
    }
    support::runtime()?.block_on(run(&args))
}

async fn run(args: &Args) -> Outcome<()> {
    let dir = support::scratch()?;
    let today = SystemClock.now().0.div_euclid(DAY) * DAY;
    let clock = Arc::new(ManualClock::at(UnixMillis(today)));
    let mut setup = support::setup(dir.path(), &args.common)?;
    setup.keeper.interval = Duration::from_secs(24 * 3600);
    let vault = support::create_with(dir.path(), &setup, Arc::clone(&clock) as Arc<dyn Clock>)?;
    support::add_tenant(&vault, TENANT, "P1D").await?;
    let ids = support::load_as(&vault, VISIT, args.records, args.common.bytes()).await?;
    support::settle().await?;
    let mut disk = Disk::new(&dir.path().join("rival"), &args.common)?;
    let syncs = median(&disk.sync_times(50)?);
    let permit = || support::permit(Role::PrivacyOfficer, None);
    // The last second of the day after: what will go is closed and listed.
    clock.set(UnixMillis(today + 2 * DAY - 1_000));
    let start = Instant::now();
    vault.run_retention(&permit()?).await?;
    let listed = start.elapsed();
    assert_eq!(vault.retention_state().closed_records, args.records);
    clock.set(UnixMillis(today + 2 * DAY));
    let cpu = support::cpu_time()?;
    let start = Instant::now();
    let swept = vault.run_retention(&permit()?).await?;
    let took = start.elapsed();
    let cpu = support::cpu_time()? - cpu;
    assert_eq!(swept.gone.iter().map(|gone| gone.records).sum::<u64>(), args.records);
    check(&vault, &ids).await?;
    println!(
        "P6 sweep: {} records of {} bytes in one closed bucket, {}",
        args.records,
        args.common.bytes(),
        args.common.engine
    );
    println!("closed and listed in {listed:.2?}, before the day was over");
    let bound = syncs * 4 + Duration::from_secs(1);
    line("sweep", took.as_secs_f64() * 1e3, "ms", bound.as_secs_f64() * 1e3, "<= 1");
    println!("CPU of the sweep {cpu:.0?}; a batch's syncs alone {syncs:.2?}");
    let (proved, each) = prove(&vault, &ids).await?;
    println!("the certificate of one record among them takes {each:.1?} ({proved} were asked for)");
    let start = Instant::now();
    support::settle().await?;
    println!("collected in the background in {:.0?} at most", start.elapsed());
    vault.close()?;
    Ok(())
}

/// How many certificates of single records were made, each with the proof that it went with the bucket, and how long
/// one took.
async fn prove(vault: &Vault, ids: &[lethe::id::RecordId]) -> Outcome<(u32, Duration)> {
    let permit = support::permit(Role::Auditor, Some(TENANT))?;
    let (start, mut made) = (Instant::now(), 0);
    for id in ids.iter().step_by(ids.len() / 10 + 1) {
        let told = vault.certificate(&permit, TENANT, Wanted::Record(*id), None).await?;
        assert!(told.membership.is_some());
        made += 1;
    }
    Ok((made, start.elapsed() / made))
}

/// What went is refused, and has evidence.
async fn check(vault: &Vault, ids: &[lethe::id::RecordId]) -> Outcome<()> {
    for id in ids.iter().step_by(ids.len() / 100 + 1) {
        let read = vault.get_record(&app(TENANT)?, TENANT, *id, &Default::default());
        assert!(matches!(read, Err(VaultError::Erased(_))));
        let reason = ErasureReason::SubjectRequest;
        let told = vault.erase_records(&app(TENANT)?, TENANT, &[*id], reason, None).await?;
        assert_eq!(told.receipts[0].reason, ErasureReason::Retention);
    }
    Ok(())
}
