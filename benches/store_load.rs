//! Loads record and pointer rows into each embedded engine and prints what that costs.
//!
//! `cargo bench --profile release --bench store_load -- [ROWS [ENGINE]]` (default 1,000,000 records, a row of each kind
//! for every one, in both engines). `sled:KIB` is sled with segments of so many KiB instead of the vault's. Each step
//! runs in a process of its own, so that its memory is its own; after every tenth part of a load it prints where it is,
//! so that one that ends for want of memory says how far it came. Figures of one machine mean nothing alone: compare
//! the engines of one run.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lethe::id::{BucketOrd, Kid, PageOrd, TenantOrd};
use lethe::store::{Batch, Engine, Redb, Sled, Store};

const CACHE_BYTES: u64 = 256 << 20;
/// Rows in a group, as the committer forms them under load.
const GROUP_ROWS: u64 = 1_024;
const VALUE_BYTES: usize = 200;
const GETS: u64 = 10_000;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["load", engine, dir, rows] => load(engine, Path::new(dir), rows.parse()?),
        ["read", engine, dir, rows] => read(engine, Path::new(dir), rows.parse()?),
        [] => compare("1000000", &["sled", "redb"]),
        [rows] => compare(rows, &["sled", "redb"]),
        [rows, engine] => compare(rows, &[engine]),
        _ => Err("usage: store_load [ROWS [redb | sled | sled:KIB]]".into()),
    }
}

fn compare(rows: &str, engines: &[&str]) -> Outcome<()> {
    for engine in engines {
        let dir = tempfile::tempdir()?;
        for step in ["load", "read"] {
            let status = Command::new(std::env::current_exe()?)
                .args([step, engine])
                .arg(dir.path())
                .arg(rows)
                .status()?;
            if !status.success() {
                return Err(format!("{engine}: {step} failed").into());
            }
        }
    }
    Ok(())
}

fn open(engine: &str, dir: &Path) -> Outcome<Arc<dyn Engine>> {
    Ok(match engine.split_once(':') {
        None if engine == "sled" => Arc::new(Sled::open(dir, CACHE_BYTES)?),
        None if engine == "redb" => Arc::new(Redb::open(dir, CACHE_BYTES)?),
        Some(("sled", kib)) => {
            Arc::new(Sled::open_with(dir, CACHE_BYTES, kib.parse::<usize>()? << 10)?)
        }
        _ => return Err(format!("{engine} is no engine").into()),
    })
}

fn load(engine: &str, dir: &Path, rows: u64) -> Outcome<()> {
    let store = Store::open(open(engine, dir)?, None, None)?;
    let start = Instant::now();
    let mut batch = Batch::default();
    for n in 0..rows {
        batch.put(record_key(n), noise(n, VALUE_BYTES));
        batch.put(pointer_key(n), pointer(n));
        if batch.writes.len() as u64 >= GROUP_ROWS || n + 1 == rows {
            store.commit_blocking(std::mem::take(&mut batch))?;
        }
        if (n + 1) % (rows / 10).max(1) == 0 {
            println!("{engine}: 2 x {} rows, resident {} MiB", n + 1, resident_mib()?);
        }
    }
    let took = start.elapsed();
    let rate = (2 * rows) as f64 / took.as_secs_f64();
    println!("{engine}: loaded 2 x {rows} rows in {took:.1?}, {rate:.0} rows/s");
    println!("{engine}: resident after the load {} MiB", resident_mib()?);
    let start = Instant::now();
    drop(store);
    println!("{engine}: closed in {:.1?}", start.elapsed());
    println!("{engine}: on disk {} MiB", bytes_under(dir)? >> 20);
    Ok(())
}

fn read(engine: &str, dir: &Path, rows: u64) -> Outcome<()> {
    let start = Instant::now();
    let store = Store::open(open(engine, dir)?, None, None)?;
    println!("{engine}: opened in {:.1?}, resident {} MiB", start.elapsed(), resident_mib()?);
    let mut took: Vec<Duration> = Vec::new();
    for n in 0..GETS {
        let key = record_key(mix(n) % rows);
        let start = Instant::now();
        let found = store.get(&key)?;
        took.push(start.elapsed());
        if found.is_none_or(|value| value.len() != VALUE_BYTES) {
            return Err("a loaded row is missing".into());
        }
    }
    took.sort();
    let at = |percent: usize| took.get(took.len() * percent / 100).copied().unwrap_or_default();
    println!("{engine}: random get p50 {:.1?}, p99 {:.1?}", at(50), at(99));
    println!("{engine}: resident after the gets {} MiB", resident_mib()?);
    Ok(())
}

fn kid(n: u64) -> [u8; 10] {
    let page = PageOrd::new((n / 128) as u32).unwrap_or_default();
    let (tenant, bucket) = (TenantOrd::of(1), BucketOrd::of(1));
    Kid { tenant, bucket, page, slot: (n % 128) as u8 }.bytes()
}

fn record_key(n: u64) -> Vec<u8> {
    [b"r".as_slice(), &kid(n), &[0, 0]].concat()
}

fn pointer_key(n: u64) -> Vec<u8> {
    [b"u".as_slice(), &[0, 0, 1], &noise(n ^ 0x5bd1_e995, 16)].concat()
}

fn pointer(n: u64) -> Vec<u8> {
    [b"LTU1".as_slice(), &kid(n), &1_u64.to_be_bytes(), &[0, 1]].concat()
}

fn mix(n: u64) -> u64 {
    let mut x = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Bytes that do not compress, like sealed ones.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let words = (0..).map(|n| mix(mix(seed) ^ n));
    words.flat_map(u64::to_be_bytes).take(len).collect()
}

fn resident_mib() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.split_whitespace().next()).ok_or("no VmRSS")?;
    Ok(kib.parse::<u64>()? >> 10)
}

fn bytes_under(dir: &Path) -> Outcome<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        total += if path.is_dir() { bytes_under(&path)? } else { path.metadata()?.len() };
    }
    Ok(total)
}
