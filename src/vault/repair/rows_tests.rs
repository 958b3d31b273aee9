//! How a repair looks for what can be read beside what cannot.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::store::{Memory, Write};

/// An engine that fails every look at rows of some ranges.
struct Torn {
    rows: Memory,
    looks: AtomicUsize,
    is_torn: fn(&[u8], &[u8]) -> bool,
}

impl Engine for Torn {
    fn name(&self) -> &'static str {
        "torn"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.rows.get(key)
    }

    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        match (self.is_torn)(start, end) {
            true => Err(StoreError::Damaged("torn".into())),
            false => self.rows.scan(start, end, limit),
        }
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        self.rows.commit(writes)
    }
}

/// How many of a thousand rows are found, and with how many looks.
fn found(is_torn: fn(&[u8], &[u8]) -> bool) -> (usize, usize) {
    let engine = Torn { rows: Memory::new(), looks: AtomicUsize::new(0), is_torn };
    let key = |n: u16| [b"u".as_slice(), &n.wrapping_mul(65).to_be_bytes()].concat();
    let rows: Vec<_> = (0..1_000).map(|n| (key(n), Some(vec![1]))).collect();
    engine.commit(&rows).unwrap();
    let report = RepairReport {
        dry_run: true,
        engine: String::new(),
        engine_trouble: None,
        journal_trouble: None,
        generation: Gen(1),
        kept: BTreeMap::new(),
        lost: BTreeMap::new(),
        dropped: BTreeMap::new(),
        lost_nodes: Vec::new(),
        sequence: (0, 0),
        ledger: LedgerState::Lost,
        tenants_without_metadata: 0,
        damaged_kept_at: None,
    };
    let journal = BTreeMap::new();
    let target = Target::new(Arc::new(Memory::new()), true);
    let about = (VaultId([1; 16]), Gen(1), UnixMillis(1));
    let mut pass = Pass::new(about, Some(&engine), &journal, target, report);
    let mut rows = 0;
    pass.each(b"u", &mut |_, _| {
        rows += 1;
        Ok(())
    })
    .unwrap();
    (rows, engine.looks.load(Ordering::Relaxed))
}

#[test]
fn what_is_beside_the_damage_is_found_and_nothing_is_tried_in_vain() {
    let (rows, looks) = found(|_, _| false);
    assert_eq!(rows, 1_000, "control");
    assert!(looks < 10, "{looks}");
    // Whatever goes over one place is lost, the rest is not.
    let place: fn(&[u8], &[u8]) -> bool =
        |start, end| start <= b"u\x1f\xfe".as_slice() && end > b"u\x1f\xfe".as_slice();
    let (rows, looks) = found(place);
    assert!((990..1_000).contains(&rows), "{rows}");
    assert!(looks < 2_000, "{looks}");
    // Where nothing leads to any of them, that is soon known.
    let (rows, looks) = found(|_, _| true);
    assert_eq!(rows, 0);
    assert!(looks < 1_000, "{looks}");
}
