//! The committer: order, atomicity, expectations, many callers, closing.

use std::sync::{Arc, Condvar, Mutex};

use lethe::limits;
use lethe::store::sum::with_sum;
use lethe::store::{Batch, Engine, Memory, Row, Store, StoreError};

use super::{EMBEDDED, numbered, plain, put};

/// Stores over each engine, with the directory that must outlive them.
fn stores() -> Vec<(Store, Option<tempfile::TempDir>)> {
    let mut all = vec![(plain(Arc::new(Memory::new())), None)];
    for (_, open) in EMBEDDED {
        let dir = tempfile::tempdir().unwrap();
        all.push((plain(open(dir.path()).unwrap()), Some(dir)));
    }
    all
}

#[test]
fn an_expectation_that_fails_leaves_its_batch_out_and_nothing_else() {
    for (store, _dir) in stores() {
        store.commit_blocking(put(b"a", b"1")).unwrap();
        let mut wrong = put(b"b", b"x");
        wrong.put(b"a".as_slice(), b"x".as_slice());
        wrong.expect(b"a".as_slice(), Some(b"2".to_vec()));
        assert_eq!(store.commit_blocking(wrong), Err(StoreError::Conflict));
        assert_eq!(store.get(b"a").unwrap(), Some(b"1".to_vec()));
        assert_eq!(store.get(b"b").unwrap(), None);
        let mut absent = put(b"a", b"x");
        absent.expect(b"a".as_slice(), None);
        assert_eq!(store.commit_blocking(absent), Err(StoreError::Conflict));
        let mut right = put(b"a", b"2");
        right.expect(b"a".as_slice(), Some(b"1".to_vec()));
        right.expect(b"b".as_slice(), None);
        store.commit_blocking(right).unwrap();
        assert_eq!(store.get(b"a").unwrap(), Some(b"2".to_vec()));
    }
}

#[test]
fn sixty_four_callers_count_without_losing_one() {
    for (store, _dir) in stores() {
        let per_caller = 4_u64;
        std::thread::scope(|scope| {
            for caller in 0..64_u64 {
                let store = store.clone();
                scope.spawn(move || {
                    for n in 0..per_caller {
                        count_up(&store);
                        store
                            .commit_blocking(put(&numbered(b'r', caller * 100 + n), b"x"))
                            .unwrap();
                    }
                });
            }
        });
        let count = store.get(b"count").unwrap().unwrap();
        assert_eq!(count, (64 * per_caller).to_be_bytes());
        assert_eq!(store.prefix(b"r").count() as u64, 64 * per_caller);
        assert!(store.seq() <= 128 * per_caller, "a group is at least one batch");
    }
}

/// Adds one to a shared row by compare and swap.
fn count_up(store: &Store) {
    loop {
        let old = store.get(b"count").unwrap();
        let n = old.as_ref().map_or(0, |v| u64::from_be_bytes(v.as_slice().try_into().unwrap()));
        let mut batch = put(b"count", &(n + 1).to_be_bytes());
        batch.expect(b"count".as_slice(), old);
        match store.commit_blocking(batch) {
            Ok(_) => return,
            Err(e) => assert_eq!(e, StoreError::Conflict),
        }
    }
}

/// An engine whose commits wait for a gate, and which remembers the size of each.
#[derive(Default)]
struct Gated {
    rows: Memory,
    open: Mutex<bool>,
    changed: Condvar,
    commits: Mutex<Vec<usize>>,
}

impl Gated {
    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }
}

impl Engine for Gated {
    fn name(&self) -> &'static str {
        "gated"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.rows.get(key)
    }

    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        self.rows.scan(start, end, limit)
    }

    fn commit(&self, writes: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), StoreError> {
        let gate = self.open.lock().unwrap();
        drop(self.changed.wait_while(gate, |open| !*open).unwrap());
        self.commits.lock().unwrap().push(writes.len());
        self.rows.commit(writes)
    }
}

#[test]
fn a_group_takes_what_waits_up_to_its_bound_in_order_and_never_cuts_a_batch() {
    let engine = Arc::new(Gated::default());
    let store = plain(engine.clone());
    let first = store.submit(put(b"first", b"")).unwrap();
    let mut huge = Batch::default();
    (0..3_000).for_each(|n| huge.put(numbered(b'h', n), b"".as_slice()));
    let mut waiting = Vec::new();
    for n in 0..1_500_u64 {
        let mut batch = put(b"last", &n.to_be_bytes());
        if n > 0 {
            // Only true of the group's own earlier write.
            batch.expect(b"last".as_slice(), Some((n - 1).to_be_bytes().to_vec()));
        }
        waiting.push(store.submit(batch).unwrap());
    }
    let huge = store.submit(huge).unwrap();
    engine.open();
    first.wait().unwrap();
    let seqs: Vec<u64> = waiting.into_iter().map(|p| p.wait().unwrap()).collect();
    assert!(seqs.is_sorted());
    assert!(huge.wait().unwrap() > seqs[1_499]);
    assert_eq!(store.get(b"last").unwrap(), Some(1_499_u64.to_be_bytes().to_vec()));
    let commits = engine.commits.lock().unwrap().clone();
    // Each group adds the sequence row. The first took whatever was there when the thread woke up.
    let (tail, head) = commits.split_last().unwrap();
    assert_eq!(*tail, 3_001);
    assert!(head.iter().all(|n| *n <= limits::COMMIT_GROUP_MAX + 1), "{commits:?}");
    assert_eq!(head.iter().map(|n| n - 1).sum::<usize>(), 1_501);
    assert_eq!(store.seq(), commits.len() as u64);
}

#[test]
fn the_queue_is_bounded_and_a_dropped_answer_takes_nothing_back() {
    let engine = Arc::new(Gated::default());
    let store = plain(engine.clone());
    let mut accepted = 0_u64;
    let refused = loop {
        match store.submit(put(&numbered(b'r', accepted), b"")) {
            Ok(pending) => drop(pending),
            Err(e) => break e,
        }
        accepted += 1;
        if accepted == 100_000 {
            engine.open();
            panic!("nothing bounds the queue");
        }
    };
    assert_eq!(refused, StoreError::Busy);
    assert!(accepted >= limits::COMMIT_QUEUE_MAX as u64);
    engine.open();
    store.close();
    assert_eq!(store.prefix(b"r").count() as u64, accepted);
    assert_eq!(store.commit_blocking(put(b"a", b"")), Err(StoreError::Stopped));
    assert!(!store.stopped(), "closed is not failed");
    assert_eq!(store.get(&numbered(b'r', 0)).unwrap(), Some(vec![]));
}

#[test]
fn a_row_over_the_limit_is_refused_before_it_waits() {
    let store = plain(Arc::new(Memory::new()));
    let long = vec![0; limits::ROW_BYTES_MAX + 1];
    assert_eq!(store.submit(put(b"a", &long)).err(), Some(StoreError::RowTooLarge(long.len())));
    assert_eq!(store.submit(put(&long[..257], b"")).err(), Some(StoreError::RowTooLarge(257)));
    store.commit_blocking(put(b"a", &long[1..])).unwrap();
    assert_eq!(store.seq(), 1);
}

#[test]
fn the_sequence_is_a_row_that_survives_and_only_grows_with_writes() {
    for (name, open) in EMBEDDED {
        let dir = tempfile::tempdir().unwrap();
        let store = plain(open(dir.path()).unwrap());
        assert_eq!((store.seq(), store.engine_name()), (0, name));
        store.commit_blocking(put(b"a", b"1")).unwrap();
        assert_eq!(store.commit_blocking(put(b"a", b"2")), Ok(2));
        assert_eq!(store.commit_blocking(Batch::default()), Ok(2));
        assert_eq!(store.get(b"s").unwrap(), Some(with_sum(b"LTS1\0\0\0\0\0\0\0\x02".to_vec())));
        drop(store);
        let store = plain(open(dir.path()).unwrap());
        assert_eq!(store.seq(), 2);
        assert_eq!(store.commit_blocking(put(b"a", b"3")), Ok(3));
    }
}

#[test]
fn a_damaged_sequence_row_is_named() {
    for bad in [b"LTS1\0\0\0\0\0\0\0\x02\0\0\0\0".as_slice(), b"LTS1\0", b""] {
        let engine = Memory::new();
        engine.commit(&[(b"s".to_vec(), Some(bad.to_vec()))]).unwrap();
        let refused = Store::open(Arc::new(engine), None, None).err();
        assert!(matches!(refused, Some(StoreError::Damaged(_))));
    }
}

#[tokio::test]
async fn tasks_commit_together_and_cancelled_ones_still_commit() {
    let store = plain(Arc::new(Memory::new()));
    let tasks: Vec<_> = (0..64_u64)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.commit(put(&numbered(b'r', n), b"")).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    drop(store.submit(put(b"cancelled", b"")).unwrap());
    store.commit(put(b"after", b"")).await.unwrap();
    assert_eq!(store.prefix(b"r").count(), 64);
    assert_eq!(store.get(b"cancelled").unwrap(), Some(vec![]));
}
