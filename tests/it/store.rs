//! The store: every engine, the committer, the node journal, the disk guard, and faults in all of them.

mod committer;
mod conformance;
mod damage;
mod faults;
mod guard;
mod journal;

use std::path::Path;
use std::sync::Arc;

use lethe::store::{Batch, Engine, Redb, Row, Sled, Store, StoreError};

const CACHE_BYTES: u64 = 8 << 20;

/// Opens an embedded engine in a directory.
type Open = fn(&Path) -> Result<Arc<dyn Engine>, StoreError>;

fn sled(dir: &Path) -> Result<Arc<dyn Engine>, StoreError> {
    Ok(Arc::new(Sled::open(dir, CACHE_BYTES)?))
}

fn redb(dir: &Path) -> Result<Arc<dyn Engine>, StoreError> {
    Ok(Arc::new(Redb::open(dir, CACHE_BYTES)?))
}

const EMBEDDED: [(&str, Open); 2] = [("sled", sled), ("redb", redb)];

fn put(key: &[u8], value: &[u8]) -> Batch {
    let mut batch = Batch::default();
    batch.put(key, value);
    batch
}

fn plain(engine: Arc<dyn Engine>) -> Store {
    Store::open(engine, None, None).expect("a store over a fresh engine opens")
}

/// Key `k`, a number, so that order and number agree.
fn numbered(kind: u8, n: u64) -> Vec<u8> {
    [[kind].as_slice(), &n.to_be_bytes()].concat()
}

/// Bytes that look random and are the same in every run.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn pairs(rows: Vec<Row>) -> Vec<(Vec<u8>, Vec<u8>)> {
    rows.into_iter().map(|row| (row.key, row.value)).collect()
}
