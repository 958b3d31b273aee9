//! R3: a put that was never answered. Its bytes reached the disk and were lost to the vault; whoever has them must not
//! open them once the vault has run its first batch after the crash.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lethe::class::Role;
use lethe::id::RecordId;
use lethe::store::{Engine, Memory, Row, StoreError};
use lethe::vault::{EngineChoice, Vault};

use super::attack::{Opened, attack};
use crate::house::{House, fields, furnish, permit, put};
use crate::peer::PATIENCE;

/// Memory that keeps every value that it was ever given, and at the end takes them without applying them.
#[derive(Default)]
struct Witness {
    rows: Memory,
    seen: Mutex<Vec<Vec<u8>>>,
    failing: AtomicBool,
}

impl Engine for Witness {
    fn name(&self) -> &'static str {
        "witness"
    }
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.rows.get(key)
    }
    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        self.rows.scan(start, end, limit)
    }
    fn commit(&self, writes: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), StoreError> {
        self.seen.lock().unwrap().extend(writes.iter().filter_map(|(_, v)| v.clone()));
        match self.failing.load(Ordering::SeqCst) {
            true => Err(StoreError::Io("planned".into())),
            false => self.rows.commit(writes),
        }
    }
}

fn generation(vault: &Vault) -> u64 {
    vault.status(&permit(Role::Operator, None)).unwrap().generation.0
}

#[test]
fn r3_a_put_that_was_never_answered_opens_to_nobody_after_the_next_batch() {
    let dir = super::scratch();
    let witness = Arc::new(Witness::default());
    let mut house = House::new(dir.path(), EngineChoice::Given(witness.clone()));
    house.change = |setup| setup.index_tail_max = 16_384;
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let vault = house.create();
    // What the reader shows of a record is its second field.
    let note = |n: &str| fields(&[("reference", n), ("city", n), ("note", "x")]);
    let living: RecordId = rt.block_on(async {
        furnish(&vault).await;
        put(&vault, "customer", note("answered")).await.unwrap().id
    });
    witness.failing.store(true, Ordering::SeqCst);
    rt.block_on(put(&vault, "customer", note("never-answered"))).map(drop).unwrap_err();
    drop(vault);
    witness.failing.store(false, Ordering::SeqCst);

    let loot = |home: &std::path::Path| -> Opened {
        let seen = witness.seen.lock().unwrap();
        let regions = seen.iter().enumerate().map(|(n, v)| (1, (n as u64) << 20, v.as_slice()));
        let anchor = std::fs::read(dir.path().join("data/anchor")).unwrap();
        attack(home, regions, &anchor, (dir.path(), &[]), false)
    };
    let notes = |opened: &Opened| -> Vec<String> {
        opened.records.values().flatten().map(|(_, note)| note.clone()).collect()
    };
    let home = super::scratch();
    let before = notes(&loot(home.path()));
    assert!(before.contains(&"never-answered".to_owned()), "control: before, it opens: {before:?}");

    let vault = house.open().unwrap();
    let (first, since) = (generation(&vault), Instant::now());
    while generation(&vault) == first {
        assert!(since.elapsed() < PATIENCE, "no batch took the slots of unanswered puts");
        std::thread::sleep(Duration::from_millis(10));
    }
    let opened = loot(home.path());
    assert!(opened.records.contains_key(&living.to_string()), "control: the answered one opens");
    assert!(!notes(&opened).contains(&"never-answered".to_owned()), "it opens to an attacker");
    vault.close().unwrap();
}
