//! P11: bytes on disk against live plaintext after a simulated year of churn.
//!
//! `cargo bench --profile release --bench space -- [--tenants N] [--days N] [--step DAYS] [--creates N] [--engine E]
//! [--quick]`. On each simulated day every tenant's share of records is created (half of them kept for ever, half for
//! a while), some are corrected, some
//! customers erased with their subject, and the buckets that are due are killed.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use clap::Parser;
use lethe::class::ErasureReason;
use lethe::clock::{Clock, ManualClock, UnixMillis};
use lethe::id::{Day, RecordId};
use lethe::keys::rows::ROW_KINDS;
use lethe::store::Rows;
use lethe::vault::value::Value;
use lethe::vault::{RecordChange, Vault};

use support::{CUSTOMER, Common, Outcome, VISIT, app, crowd};

const DAY_MILLIS: i64 = 86_400_000;
/// 2026-01-01T12:00:00Z.
const START: i64 = 20_454 * DAY_MILLIS + DAY_MILLIS / 2;

#[derive(Parser)]
struct Args {
    #[arg(long, default_value_t = 1)]
    tenants: u64,
    #[arg(long, default_value_t = 365)]
    days: i64,
    /// Simulated days between two rounds.
    #[arg(long, default_value_t = 1)]
    step: i64,
    /// Records created in a round, of all tenants together.
    #[arg(long, default_value_t = 600)]
    creates: u64,
    /// Of a hundred creates, so many corrections and so many erasures.
    #[arg(long, default_value_t = 30)]
    updates: u64,
    #[arg(long, default_value_t = 15)]
    erasures: u64,
    /// How long visits are kept.
    #[arg(long, default_value = "P30D")]
    retain: String,
    #[command(flatten)]
    common: Common,
}

/// What lives.
#[derive(Default)]
struct Model {
    /// Owner, record, subject and plaintext bytes of each customer.
    live: Vec<(u64, RecordId, RecordId, usize)>,
    /// Plaintext bytes of the visits, by last day and owner.
    visits: BTreeMap<(Day, u64), Vec<usize>>,
}

struct Year {
    vault: Arc<Vault>,
    clock: Arc<ManualClock>,
    model: Mutex<Model>,
    /// Whom the visits of a tenant are about.
    visitors: Arc<Vec<RecordId>>,
    made: u64,
}

fn main() -> Outcome<()> {
    let mut args = Args::parse();
    if args.common.quick {
        args.days = args.days.min(60);
        args.creates = args.creates.min(100);
        args.tenants = args.tenants.min(20);
    }
    support::runtime()?.block_on(run(&args))
}

fn tenant(n: u64) -> String {
    format!("t{n}")
}

async fn run(args: &Args) -> Outcome<()> {
    let dir = support::scratch()?;
    let clock = Arc::new(ManualClock::at(UnixMillis(START)));
    let vault = support::create_at(dir.path(), &args.common, clock.clone())?;
    let shared = vault.clone();
    let retain = args.retain.clone();
    crowd(64, args.tenants, move |n| {
        let (vault, retain) = (shared.clone(), retain.clone());
        async move { support::add_tenant(&vault, &tenant(n), &retain).await }
    })
    .await?;
    let mut visitors = Vec::new();
    for n in 0..args.tenants {
        visitors.extend(support::subjects(&vault, &tenant(n), 1).await?);
    }
    let visitors = Arc::new(visitors);
    let mut year = Year { vault, clock, model: Mutex::default(), visitors, made: 0 };
    let start = Instant::now();
    let mut day = 0;
    while day < args.days {
        year.clock.set(UnixMillis(START + day * DAY_MILLIS));
        year.round(args).await?;
        day += args.step;
    }
    println!("# {} days in {:.1?}", args.days, start.elapsed());
    let took = support::settle().await?;
    println!("# quiet after another {took:.1?}");
    let (live, plain) = year.live();
    report(dir.path(), args, live, plain, "open")?;
    year.vault.close()?;
    drop(year);
    let clock = Arc::new(ManualClock::at(UnixMillis(START + day * DAY_MILLIS)));
    let opened = Vault::open(&support::setup(dir.path(), &args.common)?, clock)?;
    opened.close()?;
    drop(opened);
    report(dir.path(), args, live, plain, "closed")?;
    by_kind(dir.path(), args)
}

/// Rows and bytes of each kind: what is left is the engine's own (free pages, half-full ones, its tree).
fn by_kind(dir: &Path, args: &Args) -> Outcome<()> {
    let engine = args.common.open_engine(&dir.join("data/store"))?;
    let mut total = 0;
    for (kind, what) in ROW_KINDS {
        let (mut rows, mut bytes) = (0_u64, 0_usize);
        for row in Rows::under(engine.clone(), &[kind]) {
            let row = row?;
            rows += 1;
            bytes += row.key.len() + row.value.len();
        }
        total += bytes;
        let mib = bytes as f64 / f64::from(1 << 20);
        println!("  {} {rows:>9} rows {mib:>8.1} MiB   {what}", kind as char);
    }
    println!("  rows in all {:.1} MiB", total as f64 / f64::from(1 << 20));
    Ok(())
}

fn report(dir: &std::path::Path, args: &Args, live: u64, plain: u64, when: &str) -> Outcome<()> {
    let data = dir.join("data");
    let (store, journal) =
        (support::bytes_under(&data.join("store"))?, support::bytes_under(&data.join("journal"))?);
    let reserve = support::bytes_under(&data.join("reserve"))?;
    let rest = support::bytes_under(&data)? - reserve;
    println!(
        "P11 space ({when}): {} tenants, {} live records of {} bytes, {}",
        args.tenants,
        live,
        args.common.bytes(),
        args.common.engine
    );
    let mib = |n: u64| n as f64 / f64::from(1 << 20);
    println!(
        "store {:.1} MiB, journal {:.1} MiB; reserve apart {:.1} MiB",
        mib(store),
        mib(journal),
        mib(reserve)
    );
    support::line("bytes on disk", mib(rest), "MiB", mib(plain), "<= 3");
    Ok(())
}

impl Year {
    fn model(&self) -> std::sync::MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn round(&mut self, args: &Args) -> Outcome<()> {
        self.create(args).await?;
        self.update(args).await?;
        self.erase(args).await?;
        self.expire().await
    }

    async fn create(&mut self, args: &Args) -> Outcome<()> {
        let (vault, bytes, tenants, from) =
            (self.vault.clone(), args.common.bytes(), args.tenants, self.made);
        let visitors = self.visitors.clone();
        self.made += args.creates;
        let today = self.clock.now();
        let made = crowd(128, args.creates, move |n| {
            let (vault, n) = (vault.clone(), from + n);
            let owner = n / 2 % tenants;
            let visitor = visitors.get(owner as usize).copied();
            async move {
                let (rtype, about) = if n % 2 == 0 { (CUSTOMER, None) } else { (VISIT, visitor) };
                let fields = support::fields(n, bytes);
                let size = fields.values().map(Value::encoded_len).sum::<usize>();
                let made = support::put(&vault, &tenant(owner), rtype, about, fields).await?;
                Ok((owner, rtype, made.id, made.subject, size))
            }
        })
        .await?;
        let period: lethe::vault::calendar::Period = args.retain.parse()?;
        let mut model = self.model();
        for (owner, rtype, id, subject, size) in made {
            if rtype == CUSTOMER {
                model.live.push((owner, id, subject, size));
            } else {
                let key = (period.last_day(today.day()), owner);
                model.visits.entry(key).or_default().push(size);
            }
        }
        Ok(())
    }

    async fn update(&mut self, args: &Args) -> Outcome<()> {
        let count = args.creates * args.updates / 100;
        let chosen: Vec<(u64, RecordId)> = {
            let model = self.model();
            let pick =
                |n| model.live.get((support::mix(n) % model.live.len().max(1) as u64) as usize);
            let all = (0..count).filter_map(|n| pick(self.made + n)).map(|(o, id, _, _)| (*o, *id));
            all.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
        };
        let (vault, chosen, salt) = (self.vault.clone(), Arc::new(chosen), self.made);
        crowd(128, chosen.len() as u64, move |n| {
            let (vault, place) = (vault.clone(), chosen.get(n as usize).copied());
            async move {
                let (owner, record) = place.ok_or("no such record")?;
                let value = Value::Text(format!("city {:05}", support::mix(salt + n) % 10_000));
                let set = BTreeMap::from([("city".to_owned(), value)]);
                let change = RecordChange {
                    record,
                    etag: None,
                    set,
                    remove: Vec::new(),
                    replace: false,
                    request: None,
                };
                vault.update_record(&app(&tenant(owner))?, &tenant(owner), change).await?;
                Ok(())
            }
        })
        .await?;
        Ok(())
    }

    async fn erase(&mut self, args: &Args) -> Outcome<()> {
        let count = args.creates * args.erasures / 100;
        let chosen: Vec<(u64, RecordId, RecordId, usize)> = {
            let mut model = self.model();
            let pick = |n: u64, model: &mut Model| {
                let at = support::mix(!n) % model.live.len().max(1) as u64;
                (!model.live.is_empty()).then(|| model.live.swap_remove(at as usize))
            };
            (0..count).filter_map(|n| pick(self.made + n, &mut model)).collect()
        };
        let (vault, chosen) = (self.vault.clone(), Arc::new(chosen));
        crowd(128, chosen.len() as u64, move |n| {
            let (vault, place) = (vault.clone(), chosen.get(n as usize).copied());
            async move {
                let (owner, _, subject, _) = place.ok_or("no such record")?;
                let (owner, reason) = (tenant(owner), ErasureReason::SubjectRequest);
                vault.erase_subject(&app(&owner)?, &owner, subject, reason).await?;
                Ok(())
            }
        })
        .await?;
        Ok(())
    }

    async fn expire(&mut self) -> Outcome<()> {
        let today = self.clock.now().day();
        let due: Vec<(Day, u64)> = {
            let model = self.model();
            model.visits.keys().take_while(|(day, _)| *day < today).copied().collect()
        };
        let due = Arc::new(due);
        let (vault, all) = (self.vault.clone(), due.clone());
        crowd(64, due.len() as u64, move |n| {
            let (vault, place) = (vault.clone(), all.get(n as usize).copied());
            async move {
                let (day, owner) = place.ok_or("no such bucket")?;
                let (owner, reason) = (tenant(owner), ErasureReason::Retention);
                let permit = support::operator(Some(&owner))?;
                vault.erase_bucket(&permit, &owner, &support::slug(VISIT)?, day, reason).await?;
                Ok(())
            }
        })
        .await?;
        let mut model = self.model();
        due.iter().for_each(|key| drop(model.visits.remove(key)));
        Ok(())
    }

    /// What lives: records and their plaintext bytes.
    fn live(&self) -> (u64, u64) {
        let model = self.model();
        let customers = model.live.iter().map(|(_, _, _, size)| *size);
        let visits = model.visits.values().flatten();
        let sizes: Vec<usize> = customers.chain(visits.copied()).collect();
        (sizes.len() as u64, sizes.iter().sum::<usize>() as u64)
    }
}
