//! Who reads the index while it changes, and who prunes it while it is made.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::search::pages_about;
use super::*;
use crate::audit::named::{NamedRow, span_key};
use crate::audit::pruned;
use crate::audit::spans::Span;
use crate::audit::{Act, Entry, Kind, Member, row_key};
use crate::clock::UnixMillis;
use crate::id::{Day, TenantOrd};
use crate::limits::AUDIT_LOOK_MAX;
use crate::store::{Engine, Memory, Row, Write};
use crate::vault::Vault;
use crate::vault::testing::vault_with;

const SUBJECT: [u8; 16] = [0x5a; 16];

fn tenant() -> TenantOrd {
    TenantOrd::from_bytes([0, 0, 3])
}

type Work = Box<dyn FnOnce() + Send>;

/// Does something once, right before rows from a key on are read.
#[derive(Default)]
struct Between {
    rows: Memory,
    work: Mutex<Option<(Vec<u8>, Work)>>,
}

impl Between {
    fn before_scan_from(&self, prefix: &[u8], work: impl FnOnce() + Send + 'static) {
        *self.work.lock().unwrap() = Some((prefix.to_vec(), Box::new(work)));
    }
}

impl Engine for Between {
    fn name(&self) -> &'static str {
        "between"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.rows.get(key)
    }

    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        let due = self.work.lock().unwrap().take_if(|(prefix, _)| start.starts_with(prefix));
        if let Some((_, work)) = due {
            work();
        }
        self.rows.scan(start, end, limit)
    }

    fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        self.rows.commit(writes)
    }
}

/// A vault whose index is brought on by hand, with so many blocks in it, and the log somewhat longer.
fn indexed(dir: &std::path::Path, blocks: u64) -> (Vault, Arc<Between>) {
    let engine = Arc::new(Between::default());
    let vault = vault_with(dir, engine.clone(), |setup| {
        setup.audit_retain = "P30D".parse().ok();
        setup.hooks.no_sweeps = true;
    });
    vault.subject_indexer.stop();
    grow(&vault, blocks);
    vault.core.index_full_blocks(|| false).unwrap();
    assert_eq!(vault.core.subject_log.blocks(), blocks);
    (vault, engine)
}

/// The log gets so long that so many blocks are full; each entry is about the subject.
fn grow(vault: &Vault, blocks: u64) {
    let members = vec![Member { subject: SUBJECT, record: [7; 16] }];
    let entry = Entry::new(Kind::Call, Act::GetRecord, UnixMillis(1));
    let entry = Entry { tenant: Some(tenant()), members, ..entry }.encode();
    while vault.core.log_size().unwrap() < blocks * BLOCK_ENTRIES {
        let mut batch = Batch { urgency: Urgency::Vital, ..Batch::default() };
        (0..64).for_each(|_| batch.entries.extend(entry.iter().cloned()));
        vault.core.tree.store().commit_blocking(batch).unwrap();
    }
}

/// The first blocks are due; what prunes them.
fn prune_due(vault: &Vault, blocks: u64) -> impl FnOnce() + Send + 'static {
    let core = vault.core.clone();
    let mut batch = Batch { urgency: Urgency::Vital, ..Batch::default() };
    batch.put(pruned::day_key(Day(1)), pruned::day_row(blocks * BLOCK_ENTRIES));
    core.tree.store().commit_blocking(batch).unwrap();
    core.tree.refresh(core.clock.now(), false).unwrap();
    move || {
        core.tend_log().unwrap();
        assert_eq!(core.minimum_index(), blocks * BLOCK_ENTRIES);
    }
}

/// Numbers of all entries about the subject, from pages that look at so much.
fn about(core: &Core, most: u64) -> Vec<u64> {
    pages_about(core, (tenant(), SUBJECT), most).concat()
}

/// The index has all about the subject from an entry on, and nothing of what is before it.
fn check(engine: &Between, minimum: u64, spans: &[Span]) {
    let rows = engine.rows.scan(&[INDEXED_KEY, &[0]].concat(), b"z", usize::MAX).unwrap();
    let rows: Vec<_> =
        rows.iter().map(|row| NamedRow::decode(&row.key, &row.value).unwrap()).collect();
    let found: BTreeSet<Span> = rows.iter().map(|row| row.span).collect();
    assert_eq!(found.into_iter().collect::<Vec<_>>(), spans);
    let seqs = |row: &NamedRow| row.postings.iter().map(|p| p.of(row.span).0).collect::<Vec<_>>();
    let seqs: BTreeSet<u64> = rows.iter().flat_map(seqs).collect();
    assert!(seqs.iter().all(|seq| *seq >= minimum), "{minimum}: {:?}", seqs.first());
    assert!(seqs.len() > 1_900, "control: {}", seqs.len());
}

#[test]
fn a_span_that_became_part_of_a_wider_one_is_looked_for_there() {
    let dir = tempfile::tempdir().unwrap();
    let (vault, engine) = indexed(dir.path(), 15);
    let core = vault.core.clone();
    let good = about(&core, AUDIT_LOOK_MAX);
    assert!(good.len() > 3_000 && good.is_sorted_by(|a, b| a > b));
    grow(&vault, 18);
    let of = core.clone();
    engine.before_scan_from(&span_key(Span::block(9)), move || {
        of.index_full_blocks(|| false).unwrap();
        assert_eq!(of.subject_log.blocks(), 18);
    });
    let mut found = about(&core, AUDIT_LOOK_MAX);
    found.retain(|seq| *seq <= good[0]);
    assert_eq!(found, good);
    assert_eq!(core.metrics.damaged_rows.value(), 0);
    check(&engine, 0, &[Span::block(16), Span::block(17), Span { level: 1, number: 0 }]);
    vault.close().unwrap();
}

/// However little a page looks at, but a row and an entry, the next one goes on: also where the index has nothing.
#[test]
fn a_page_looks_at_so_much_and_the_next_one_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (vault, _) = indexed(dir.path(), 21);
    let core = &*vault.core;
    let good = about(core, AUDIT_LOOK_MAX);
    for most in [2, 3, 7, 300] {
        assert!(about(core, most) == good, "{most}");
        let none = pages_about(core, (tenant(), [1; 16]), most);
        assert!(none.iter().all(|page| page.is_empty()));
        // A row for each of the five blocks and for the span before them.
        assert!(none.len() as u64 >= 6_u64.div_ceil(most), "{most}: {}", none.len());
    }
    vault.close().unwrap();
}

#[test]
fn what_is_pruned_while_somebody_asks_is_not_taken_for_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let (vault, engine) = indexed(dir.path(), 15);
    let core = vault.core.clone();
    let prune = prune_due(&vault, 4);
    engine.before_scan_from(&span_key(Span::block(2)), prune);
    let found = about(&core, AUDIT_LOOK_MAX);
    let minimum = core.minimum_index();
    // Of earlier pages some are pruned meanwhile.
    assert!(minimum > 0 && found.len() > 2_500);
    assert!(found.iter().all(|seq| *seq >= 3 * BLOCK_ENTRIES));
    assert_eq!(core.metrics.damaged_rows.value(), 0);
    vault.close().unwrap();
}

/// What a step has read already would come back with it.
#[test]
fn what_is_pruned_while_a_span_is_made_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (vault, engine) = indexed(dir.path(), 15);
    grow(&vault, 16);
    let prune = prune_due(&vault, 8);
    let (tell, told) = sync_channel(1);
    // The blocks after it are read.
    engine.before_scan_from(&span_key(Span::block(0)), move || {
        tell.send(std::thread::spawn(prune)).unwrap();
        std::thread::sleep(Duration::from_millis(300));
    });
    vault.core.index_full_blocks(|| false).unwrap();
    told.recv().unwrap().join().unwrap();
    let minimum = vault.core.minimum_index();
    assert_eq!(minimum, 8 * BLOCK_ENTRIES);
    check(&engine, minimum, &[Span { level: 1, number: 0 }]);
    assert!(engine.rows.scan(&row_key(0), &row_key(minimum), 1).unwrap().is_empty());
    assert_eq!(vault.core.metrics.damaged_rows.value(), 0);
    vault.close().unwrap();
}

/// Rows under pseudonyms say of pruned entries whom they were about: those go before the entries do.
#[test]
fn nothing_of_the_log_is_cleared_while_rows_of_an_older_form_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let (vault, engine) = indexed(dir.path(), 15);
    let prune = prune_due(&vault, 4);
    let old = [INDEXED_KEY, &SUBJECT, &u64::MAX.to_be_bytes()].concat();
    engine.rows.commit(&[(old.clone(), Some(b"LTY1".to_vec()))]).unwrap();
    *vault.core.subject_log.change() = Rest::All;
    prune();
    let entries = || engine.rows.scan(&row_key(0), &row_key(4 * BLOCK_ENTRIES), 1).unwrap();
    assert!(!entries().is_empty() && engine.get(&old).unwrap().is_some());
    vault.core.index_full_blocks(|| false).unwrap();
    assert_eq!(engine.get(&old).unwrap(), None);
    vault.core.tend_log().unwrap();
    assert!(entries().is_empty());
    let blocks = (4..15).map(Span::block).collect::<Vec<_>>();
    check(&engine, 4 * BLOCK_ENTRIES, &blocks);
    vault.close().unwrap();
}
