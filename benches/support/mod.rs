//! What the benchmarks share: one way to make and load a vault, and to say what something cost.
//!
//! Figures of one machine and one moment mean nothing alone: each benchmark measures its rival in the same run, round
//! about, and prints medians and the ratio.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

pub mod disk;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lethe::authz::{ActionKind, Authority, Binding, Permit, Principal, TenantScope};
use lethe::class::{Classification, FieldKind, Role};
use lethe::clock::{Clock, SystemClock};
use lethe::id::RecordId;
use lethe::keys::kek::{KekSource, create_file};
use lethe::store::{Engine, Redb, Sled};
use lethe::vault::schema::{FieldDraft, RetentionDraft, SchemaDraft};
use lethe::vault::slug::Slug;
use lethe::vault::value::Value;
use lethe::vault::{EngineChoice, NewRecord, RecordView, Setup, Vault};
use tempfile::TempDir;

pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The tenant that a benchmark with one tenant uses.
pub const TENANT: &str = "acme";
/// Kept for ever.
pub const CUSTOMER: &str = "customer";
/// Erased or killed after a while.
pub const VISIT: &str = "visit";
/// Callers at once while a vault is loaded.
const LOADERS: u64 = 512;
/// Records about each subject that is loaded.
const RECORDS_OF_ONE: u64 = 4;

/// What every benchmark can be told.
#[derive(clap::Args, Clone, Debug)]
pub struct Common {
    /// `redb` or `sled`.
    #[arg(long, default_value = "redb")]
    pub engine: String,
    /// Sizes that show only that it works.
    #[arg(long)]
    pub quick: bool,
    /// Bytes of all values of a record [default: 512, and 1024 where calls are measured].
    #[arg(long)]
    bytes: Option<usize>,
    /// cargo says this to every benchmark.
    #[arg(long, hide = true)]
    pub bench: bool,
}

impl Common {
    pub fn bytes(&self) -> usize {
        self.bytes.unwrap_or(512)
    }

    pub fn bytes_of_a_call(&self) -> usize {
        self.bytes.unwrap_or(1024)
    }

    pub fn engine(&self) -> Outcome<EngineChoice> {
        match self.engine.as_str() {
            "redb" => Ok(EngineChoice::Redb),
            "sled" => Ok(EngineChoice::Sled),
            other => Err(format!("no engine {other}").into()),
        }
    }

    /// The engine alone, as the vault opens it.
    pub fn open_engine(&self, dir: &Path) -> Outcome<Arc<dyn Engine>> {
        let cache = Setup::new(PathBuf::new(), PathBuf::new(), self.engine()?, no_kek());
        let cache = cache.engine_cache_bytes;
        Ok(match self.engine()? {
            EngineChoice::Sled => Arc::new(Sled::open(dir, cache)?),
            _ => Arc::new(Redb::open(dir, cache)?),
        })
    }
}

fn no_kek() -> KekSource {
    KekSource::File(PathBuf::new())
}

/// A directory on the disk that holds the build, not in memory; gone when dropped.
pub fn scratch() -> Outcome<TempDir> {
    Ok(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?)
}

pub fn setup(dir: &Path, common: &Common) -> Outcome<Setup> {
    let data = dir.join("data");
    let kek = KekSource::File(dir.join("kek"));
    Ok(Setup::new(data.clone(), data.join("anchor"), common.engine()?, kek))
}

/// A new vault with the tenant and both types.
pub async fn create(dir: &Path, common: &Common) -> Outcome<Arc<Vault>> {
    let vault = create_at(dir, common, Arc::new(SystemClock))?;
    add_tenant(&vault, TENANT, "P1Y").await?;
    Ok(vault)
}

pub fn create_at(dir: &Path, common: &Common, clock: Arc<dyn Clock>) -> Outcome<Arc<Vault>> {
    create_with(dir, &setup(dir, common)?, clock)
}

pub fn create_with(dir: &Path, setup: &Setup, clock: Arc<dyn Clock>) -> Outcome<Arc<Vault>> {
    create_file(&dir.join("kek"))?;
    Ok(Arc::new(Vault::create(setup, clock)?))
}

pub async fn add_tenant(vault: &Vault, tenant: &str, retain_for: &str) -> Outcome<()> {
    vault.create_tenant(&operator(None)?, slug(tenant)?, "A tenant".into()).await?;
    let permit = operator(Some(tenant))?;
    let open = RetentionDraft::OpenEnded(true);
    vault.create_schema(&permit, tenant, draft(CUSTOMER, open)).await?;
    let closing = RetentionDraft::RetainFor(retain_for.into());
    vault.create_schema(&permit, tenant, draft(VISIT, closing)).await?;
    Ok(())
}

pub fn permit<A: ActionKind>(role: Role, tenant: Option<&str>) -> Outcome<Permit<A>> {
    let principal = Principal::parse("spiffe://bench/someone")?;
    let binding = Binding {
        principal: principal.clone(),
        role,
        tenants: TenantScope::parse(&["*".into()])?,
        clear: Binding::default_clear(role),
    };
    Ok(Authority::new(vec![binding])?.decide::<A>(&principal, tenant)?)
}

pub fn app<A: ActionKind>(tenant: &str) -> Outcome<Permit<A>> {
    permit(Role::Application, Some(tenant))
}

pub fn operator<A: ActionKind>(tenant: Option<&str>) -> Outcome<Permit<A>> {
    permit(Role::Operator, tenant)
}

pub fn slug(text: &str) -> Outcome<Slug> {
    Ok(Slug::parse(text).map_err(|_| "not a name")?)
}

/// Three indexed fields and three others.
fn draft(type_name: &str, retention: RetentionDraft) -> SchemaDraft {
    let field = |name: &str, indexed| FieldDraft {
        name: name.into(),
        kind: Some(FieldKind::Text),
        class: Some(Classification::Sensitive),
        indexed,
        max_bytes: if indexed { 100 } else { 4_096 },
        ..FieldDraft::default()
    };
    let names = [("name", true), ("phone", true), ("city", true)];
    let others = [("street", false), ("remark", false), ("note", false)];
    SchemaDraft {
        type_name: type_name.into(),
        fields: names.into_iter().chain(others).map(|(n, i)| field(n, i)).collect(),
        retention: Some(retention),
        erase_old_versions_synchronously: false,
    }
}

/// The `n`th record: a name and a phone of its own, a city that many share, `bytes` in all.
pub fn fields(n: u64, bytes: usize) -> BTreeMap<String, Value> {
    let mut out: BTreeMap<String, Value> = [
        ("name", format!("name {:016x}", mix(n))),
        ("phone", format!("+86{:011}", mix(n) % 100_000_000_000)),
        ("city", format!("city {:05}", mix(n) % 10_000)),
        ("street", format!("street {:08}", n % 100_000_000)),
        ("remark", format!("remark {:08}", n % 100_000_000)),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), Value::Text(v)))
    .collect();
    let used: usize = out.values().map(Value::encoded_len).sum();
    let note = "n".repeat(bytes.saturating_sub(used).max(1));
    out.insert("note".into(), Value::Text(note));
    out
}

pub async fn put(
    vault: &Vault,
    tenant: &str,
    rtype: &str,
    subject: Option<RecordId>,
    fields: BTreeMap<String, Value>,
) -> Outcome<RecordView> {
    let new = NewRecord { rtype: slug(rtype)?, subject, fields, request: None };
    Ok(vault.create_record(&app(tenant)?, tenant, new).await?)
}

/// Subjects for records to be about.
pub async fn subjects(vault: &Arc<Vault>, tenant: &str, count: u64) -> Outcome<Vec<RecordId>> {
    let (vault, permit) = (vault.clone(), Arc::new(app(tenant)?));
    let tenant: Arc<str> = tenant.into();
    crowd(LOADERS, count, move |_| {
        let (vault, permit, tenant) = (vault.clone(), permit.clone(), tenant.clone());
        async move { Ok(vault.create_subject(&permit, &tenant, None).await?.id) }
    })
    .await
}

/// Runs `job(n)` for each of `0..total` with so many callers; their answers, in no order.
pub async fn crowd<T, F>(
    callers: u64,
    total: u64,
    job: impl Fn(u64) -> F + Clone + Send + 'static,
) -> Outcome<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Outcome<T>> + Send,
{
    let callers = callers.min(total).max(1);
    let tasks: Vec<_> = (0..callers)
        .map(|first| {
            let job = job.clone();
            tokio::spawn(async move {
                let mut done = Vec::new();
                let mut n = first;
                while n < total {
                    done.push(job(n).await?);
                    n += callers;
                }
                Outcome::Ok(done)
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await??);
    }
    Ok(all)
}

/// Loads customers; their ids.
pub async fn load(vault: &Arc<Vault>, count: u64, bytes: usize) -> Outcome<Vec<RecordId>> {
    load_as(vault, CUSTOMER, count, bytes).await
}

/// Loads records of a type; their ids.
pub async fn load_as(
    vault: &Arc<Vault>,
    rtype: &str,
    count: u64,
    bytes: usize,
) -> Outcome<Vec<RecordId>> {
    let about = Arc::new(subjects(vault, TENANT, count / RECORDS_OF_ONE + 1).await?);
    let start = Instant::now();
    let (shared, permit) = (vault.clone(), Arc::new(app(TENANT)?));
    let rtype = slug(rtype)?;
    let ids = crowd(LOADERS, count, move |n| {
        let (vault, permit, rtype) = (shared.clone(), permit.clone(), rtype.clone());
        let subject = about.get((n % about.len() as u64) as usize).copied();
        async move {
            let new = NewRecord { rtype, subject, fields: fields(n, bytes), request: None };
            Ok(vault.create_record(&permit, TENANT, new).await?.id)
        }
    })
    .await?;
    let took = start.elapsed();
    let rate = per_second(count, took);
    println!("# loaded {count} records of {bytes} bytes in {took:.1?}, {rate:.0}/s");
    Ok(ids)
}

/// Bytes that this process has caused to be written to disks.
fn written() -> Outcome<u64> {
    let io = std::fs::read_to_string("/proc/self/io")?;
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.ok_or("no write_bytes")?.trim().parse()?)
}

/// Waits until the vault has nothing more to tend: runs are written and merged, killed buckets collected.
pub async fn settle() -> Outcome<Duration> {
    let start = Instant::now();
    let mut before = written()?;
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        let now = written()?;
        if now == before {
            break;
        }
        before = now;
    }
    Ok(start.elapsed())
}

/// The value below which so many percent of the samples lie.
pub fn percentile<T: Copy + PartialOrd + Default>(samples: &[T], percent: usize) -> T {
    let mut sorted = samples.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    sorted
        .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

pub fn median<T: Copy + PartialOrd + Default>(samples: &[T]) -> T {
    percentile(samples, 50)
}

pub fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64().max(1e-9)
}

/// User and system time of this process and its ended threads; the kernel counts in ticks of 10 ms.
pub fn cpu_time() -> Outcome<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// `VmRSS`, `VmHWM`: now and at most, in MiB.
pub fn resident_mib() -> Outcome<(u64, u64)> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let now = of("VmRSS:").ok_or("no VmRSS")?;
    Ok((now >> 10, of("VmHWM:").unwrap_or(now) >> 10))
}

/// Allocated bytes of a file, or of all files under a directory.
pub fn bytes_under(path: &Path) -> Outcome<u64> {
    use std::os::unix::fs::MetadataExt;
    let meta = match path.symlink_metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        found => found?,
    };
    let mut total = meta.blocks() * 512;
    if meta.is_dir() {
        for entry in std::fs::read_dir(path)? {
            total += bytes_under(&entry?.path())?;
        }
    }
    Ok(total)
}

/// A generator of numbers that look random and are the same in each run.
pub fn mix(n: u64) -> u64 {
    let mut x = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Bytes that do not compress, like sealed ones.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let words = (0..).map(|n| mix(mix(seed) ^ n));
    words.flat_map(u64::to_be_bytes).take(len).collect()
}

/// A runtime with a worker for each processor.
pub fn runtime() -> Outcome<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// One line of a report: figure, rival, ratio and the bar.
pub fn line(what: &str, figure: f64, unit: &str, rival: f64, bar: &str) {
    let ratio = figure / rival.max(1e-12);
    println!(
        "{what:<34} {figure:>12.1} {unit:<10} rival {rival:>12.1}   ratio {ratio:.2}   bar {bar}"
    );
}
