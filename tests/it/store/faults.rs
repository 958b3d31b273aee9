//! Faults in engine and sink: nothing acknowledged is lost, and after a failed write everything refuses.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use lethe::id::VaultId;
use lethe::store::faulty::{Fault, Faulty, FaultySink, Plan};
use lethe::store::{Engine, Journal, Memory, NodeSink, Store, StoreError};

use super::{EMBEDDED, numbered, plain, put};

const VAULT: VaultId = VaultId([1; 16]);

fn io() -> StoreError {
    StoreError::Io("planned".into())
}

fn nodes(key: &[u8]) -> bool {
    key.first() == Some(&b'k')
}

fn journal(dir: &Path) -> Box<dyn NodeSink> {
    Box::new(Journal::open(dir, VAULT, nodes).unwrap())
}

/// Commits node rows until one fails; returns how many were acknowledged.
fn load(store: &Store, rows: u64) -> u64 {
    let acknowledged = (0..rows)
        .take_while(|n| store.commit_blocking(put(&numbered(b'k', *n), &n.to_be_bytes())).is_ok())
        .count() as u64;
    if acknowledged < rows {
        assert!(store.stopped());
        assert_eq!(store.commit_blocking(put(b"later", b"")), Err(StoreError::Stopped));
        assert_eq!(store.get(b"later"), Ok(None), "reads go on");
    }
    acknowledged
}

#[test]
fn a_failure_at_each_operation_in_turn_loses_nothing_acknowledged() {
    const ROWS: u64 = 8;
    let kinds: [fn(u64) -> Fault; 4] = [
        |n| Fault::Any(n, io()),
        |n| Fault::Write(n, io()),
        |n| Fault::Write(n, StoreError::Damaged("planned".into())),
        |n| Fault::WriteThenFail(n, io()),
    ];
    for kind in kinds {
        for in_sink in [false, true] {
            let mut n = 0;
            loop {
                n += 1;
                assert!(n < 100, "the fault never stops firing");
                let dir = tempfile::tempdir().unwrap();
                let plan = Plan::new(vec![kind(n)]);
                let counts = plan.clone();
                let rows: Arc<dyn Engine> = Arc::new(Memory::new());
                let (engine, sink): (Arc<dyn Engine>, Box<dyn NodeSink>) = if in_sink {
                    (rows.clone(), Box::new(FaultySink::new(journal(dir.path()), plan)))
                } else {
                    (Arc::new(Faulty::new(rows.clone(), plan)), journal(dir.path()))
                };
                let acknowledged = match Store::open(engine, Some(sink), None) {
                    Ok(store) => load(&store, ROWS),
                    Err(_) => 0,
                };
                let copy = Journal::load(dir.path(), VAULT).unwrap();
                for row in 0..acknowledged {
                    let key = numbered(b'k', row);
                    assert_eq!(rows.get(&key).unwrap(), Some(row.to_be_bytes().to_vec()));
                    assert_eq!(copy.get(&key), Some(&row.to_be_bytes().to_vec()));
                }
                // Reopened over what is really there, it goes on.
                let again = Store::open(rows, Some(journal(dir.path())), None).unwrap();
                again.commit_blocking(put(b"k", b"again")).unwrap();
                if acknowledged == ROWS {
                    assert!(n > ROWS, "no fault fired");
                    // To the sink each row is given and then synced.
                    assert!(!in_sink || counts.writes() == 2 * ROWS, "{}", counts.writes());
                    break;
                }
            }
        }
    }
}

#[test]
fn whoever_waits_behind_a_failed_write_is_told_and_nothing_of_it_is_written() {
    let rows: Arc<dyn Engine> = Arc::new(Memory::new());
    let plan = Plan::new(vec![Fault::Write(1, io())]);
    let store = plain(Arc::new(Faulty::new(rows.clone(), plan)));
    let waiting: Vec<_> =
        (0..3_000).map_while(|n| store.submit(put(&numbered(b'r', n), b"")).ok()).collect();
    let answers: Vec<_> = waiting.into_iter().map(|p| p.wait()).collect();
    assert!(answers.iter().all(|a| *a == Err(io()) || *a == Err(StoreError::Stopped)));
    assert_eq!(answers[0], Err(io()));
    assert!(rows.scan(b"", &[0xff; 9], 9).unwrap().is_empty());
}

#[test]
fn a_failed_read_of_an_expectation_refuses_that_batch_only() {
    // Read 1 is that of the sequence row.
    let plan = Plan::new(vec![Fault::Read(2, io())]);
    let store = plain(Arc::new(Faulty::new(Arc::new(Memory::new()), plan)));
    let mut expecting = put(b"a", b"");
    expecting.expect(b"b".as_slice(), None);
    assert_eq!(store.commit_blocking(expecting.clone()), Err(io()));
    assert!(!store.stopped());
    store.commit_blocking(expecting).unwrap();
}

#[test]
fn a_refusal_rests_on_nothing_that_was_lost() {
    // The second batch conflicts only with the first, which fails: its conflict never happened.
    struct Slow(Faulty);
    impl Engine for Slow {
        fn name(&self) -> &'static str {
            "slow"
        }
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            self.0.get(key)
        }
        fn scan(
            &self,
            start: &[u8],
            end: &[u8],
            limit: usize,
        ) -> Result<Vec<lethe::store::Row>, StoreError> {
            self.0.scan(start, end, limit)
        }
        fn commit(&self, writes: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), StoreError> {
            std::thread::sleep(std::time::Duration::from_millis(100));
            self.0.commit(writes)
        }
    }
    let plan = Plan::new(vec![Fault::Write(2, io())]);
    let store = plain(Arc::new(Slow(Faulty::new(Arc::new(Memory::new()), plan))));
    let first = store.submit(put(b"first", b"")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    let writer = store.submit(put(b"a", b"1")).unwrap();
    let mut absent = put(b"b", b"");
    absent.expect(b"a".as_slice(), None);
    let refused = store.submit(absent).unwrap();
    first.wait().unwrap();
    assert_eq!((writer.wait(), refused.wait()), (Err(io()), Err(io())));
}

#[test]
fn a_lying_disk_and_damaged_reads_show_what_was_planned() {
    let rows: Arc<dyn Engine> = Arc::new(Memory::new());
    let plan = Plan::new(vec![Fault::DropWrite(2)]);
    let engine = Faulty::new(rows, plan.clone());
    let write = |key: &[u8]| engine.commit(&[(key.to_vec(), Some(b"value".to_vec()))]);
    write(b"a").unwrap();
    write(b"b").unwrap();
    assert_eq!(engine.get(b"b").unwrap(), None);
    let seen = |fault: Fault| {
        plan.clear();
        plan.add(fault);
        let scanned = engine.scan(b"a", b"b", 9).unwrap();
        let got = engine.get(b"a").unwrap();
        assert_eq!(scanned.into_iter().next().map(|row| row.value), got);
        got
    };
    assert_eq!(seen(Fault::FlipOnRead(b"a".to_vec(), 1, 0)), Some(b"v`lue".to_vec()));
    assert_eq!(seen(Fault::CutOnRead(b"a".to_vec(), 2)), Some(b"va".to_vec()));
    assert_eq!(seen(Fault::HideOnRead(b"a".to_vec())), None);
    assert_eq!(seen(Fault::HideOnRead(b"z".to_vec())), Some(b"value".to_vec()));
    assert_eq!((plan.writes(), plan.operations() - plan.reads()), (2, 2));
}

#[test]
fn a_failure_under_many_callers_loses_nothing_acknowledged_on_embedded_engines() {
    for (name, open) in EMBEDDED {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = BTreeMap::new();
        {
            let plan = Plan::new(vec![Fault::WriteThenFail(4, io())]);
            let store = plain(Arc::new(Faulty::new(open(dir.path()).unwrap(), plan)));
            let acknowledged = std::sync::Mutex::new(&mut kept);
            std::thread::scope(|scope| {
                for caller in 0..16_u64 {
                    let (store, acknowledged) = (store.clone(), &acknowledged);
                    scope.spawn(move || {
                        for n in 0..50 {
                            let (key, value) = (numbered(b'r', caller * 50 + n), vec![7; 200]);
                            if store.commit_blocking(put(&key, &value)).is_err() {
                                return;
                            }
                            acknowledged.lock().unwrap().insert(key, value);
                        }
                    });
                }
            });
            assert!(store.stopped(), "{name}");
        }
        let engine = open(dir.path()).unwrap();
        assert!(!kept.is_empty() && kept.len() < 800, "{name}: {}", kept.len());
        for (key, value) in kept {
            assert_eq!(engine.get(&key).unwrap(), Some(value), "{name}");
        }
    }
}
