//! The node journal on disk: torn tails, flipped bits, rewrites and the crashes between their steps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lethe::id::VaultId;
use lethe::store::faulty::{Fault, FaultySink, Plan};
use lethe::store::{Batch, Engine, Journal, Memory, NodeSink, Row, Store, StoreError};

use super::{noise, numbered, put};

const VAULT: VaultId = VaultId([1; 16]);

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn nodes(key: &[u8]) -> bool {
    matches!(key.first(), Some(b'k' | b'v' | b'm'))
}

fn open(dir: &Path) -> Journal {
    Journal::open(dir, VAULT, nodes).unwrap()
}

fn write(journal: &mut Journal, key: &[u8], value: Option<&[u8]>) {
    journal.append(&[&(key.to_vec(), value.map(<[u8]>::to_vec))]).unwrap();
    journal.sync().unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join("journal")).unwrap();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn only_file(dir: &Path) -> PathBuf {
    dir.join("journal").join("0000000000000001.journal")
}

/// Three rows, of which one was put twice and one deleted; returns the length before the last frame.
fn three_rows(dir: &Path) -> u64 {
    let mut journal = open(dir);
    write(&mut journal, b"k1", Some(b"old"));
    write(&mut journal, b"k1", Some(b"new"));
    write(&mut journal, b"k2", Some(b""));
    write(&mut journal, b"k3", Some(b"gone"));
    write(&mut journal, b"k3", None);
    let before = journal.bytes().0;
    write(&mut journal, b"v", Some(&noise(1, 100)));
    before
}

#[test]
fn the_newest_value_of_each_row_is_found_also_after_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Journal::load(dir.path(), VAULT), Ok(Model::new()));
    three_rows(dir.path());
    let mut journal = open(dir.path());
    write(&mut journal, b"m", Some(b"more"));
    let expected = [
        (b"k1".to_vec(), b"new".to_vec()),
        (b"k2".to_vec(), vec![]),
        (b"m".to_vec(), b"more".to_vec()),
        (b"v".to_vec(), noise(1, 100)),
    ];
    assert_eq!(Journal::load(dir.path(), VAULT), Ok(Model::from(expected)));
    let lookup = |key: &[u8]| Journal::lookup(dir.path(), VAULT, key).unwrap();
    assert_eq!((lookup(b"k1"), lookup(b"k3")), (Some(b"new".to_vec()), None));
    assert!(!journal.wants_compaction());
}

#[test]
fn after_one_failed_append_everything_refuses_until_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let long = (b"k1".to_vec(), Some(vec![0; 9000]));
    assert!(matches!(journal.append(&[&long]), Err(StoreError::RowTooLarge(_))));
    let good = (b"k1".to_vec(), Some(vec![0; 90]));
    assert_eq!(journal.append(&[&good]), Err(StoreError::Stopped));
    assert_eq!(journal.sync(), Err(StoreError::Stopped));
    drop(journal);
    let mut journal = open(dir.path());
    journal.append(&[&good]).unwrap();
    journal.sync().unwrap();
}

#[test]
fn another_vaults_journal_and_a_cut_header_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    three_rows(dir.path());
    let other = VaultId([2; 16]);
    assert!(matches!(Journal::load(dir.path(), other), Err(StoreError::Damaged(_))));
    assert!(matches!(Journal::open(dir.path(), other, nodes), Err(StoreError::Damaged(_))));
    let whole = std::fs::read(only_file(dir.path())).unwrap();
    for len in 0..22 {
        std::fs::write(only_file(dir.path()), &whole[..len]).unwrap();
        assert!(matches!(Journal::open(dir.path(), VAULT, nodes), Err(StoreError::Damaged(_))));
    }
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_the_cut_is_remembered_until_a_rewrite() {
    let dir = tempfile::tempdir().unwrap();
    let before = three_rows(dir.path()) as usize;
    let whole = std::fs::read(only_file(dir.path())).unwrap();
    let full = Journal::load(dir.path(), VAULT).unwrap();
    let mut rest = full.clone();
    rest.remove(b"v".as_slice()).unwrap();
    for len in before..whole.len() {
        for torn_by in ["length", "zeros"] {
            let mut bytes = whole.clone();
            bytes[len..].fill(0);
            if torn_by == "length" {
                bytes.truncate(len);
            }
            if bytes == whole {
                continue;
            }
            std::fs::write(only_file(dir.path()), &bytes).unwrap();
            assert_eq!(Journal::load(dir.path(), VAULT).unwrap(), rest, "{torn_by} at {len}");
            let mut journal = open(dir.path());
            let cut = len > before || torn_by == "zeros";
            assert_eq!(journal.wants_compaction(), cut, "{torn_by} at {len}");
            drop(journal);
            journal = open(dir.path());
            assert_eq!(journal.wants_compaction(), cut, "forgotten: {torn_by} at {len}");
            write(&mut journal, b"v", Some(&noise(1, 100)));
            drop(journal);
            assert_eq!(Journal::load(dir.path(), VAULT).unwrap(), full);
            let _ = std::fs::remove_file(only_file(dir.path()).with_extension("cut"));
        }
    }
}

#[test]
fn a_flipped_bit_ends_the_journal_before_its_frame() {
    let dir = tempfile::tempdir().unwrap();
    three_rows(dir.path());
    let whole = std::fs::read(only_file(dir.path())).unwrap();
    // Every state that the journal went through, by the length of the file.
    let states: BTreeMap<usize, Model> = (22..=whole.len())
        .map(|len| {
            std::fs::write(only_file(dir.path()), &whole[..len]).unwrap();
            (len, Journal::load(dir.path(), VAULT).unwrap())
        })
        .collect();
    for bit in 22 * 8..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(only_file(dir.path()), &bytes).unwrap();
        // The state up to the frame with the bit is that of a file cut at that byte.
        assert_eq!(&Journal::load(dir.path(), VAULT).unwrap(), &states[&(bit / 8)]);
    }
}

#[test]
fn a_rewrite_keeps_the_rows_drops_the_history_and_takes_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    for n in 0..2_000_u64 {
        write(&mut journal, &numbered(b'k', n % 10), Some(&noise(n, 200)));
    }
    let model = Journal::load(dir.path(), VAULT).unwrap();
    let (bytes, live) = journal.bytes();
    assert!(bytes > 100 * live);
    let rows = model.iter().map(|(k, v)| Ok(Row { key: k.clone(), value: v.clone() }));
    journal.compact(rows).unwrap();
    assert_eq!(names(dir.path()), ["0000000000000002.journal"]);
    assert_eq!(journal.bytes(), (live + 22, live));
    assert_eq!(Journal::load(dir.path(), VAULT).unwrap(), model);
    write(&mut journal, b"k", Some(b"after"));
    drop(journal);
    assert_eq!(open(dir.path()).bytes().1, live + 17);
    assert_eq!(Journal::lookup(dir.path(), VAULT, b"k").unwrap(), Some(b"after".to_vec()));
}

#[test]
fn a_rewrite_that_fails_or_is_cut_off_leaves_the_old_file_in_force() {
    let dir = tempfile::tempdir().unwrap();
    three_rows(dir.path());
    let model = Journal::load(dir.path(), VAULT).unwrap();
    let mut journal = open(dir.path());
    let failing =
        [Ok(Row { key: b"k9".to_vec(), value: vec![] }), Err(StoreError::Io("planned".into()))];
    assert!(journal.compact(failing.into_iter()).is_err());
    assert_eq!(names(dir.path()), ["0000000000000001.journal"]);
    write(&mut journal, b"k1", Some(b"new"));
    // Killed before the rename: the unfinished file goes. Killed after it: the older one goes.
    drop(journal);
    let journal_dir = dir.path().join("journal");
    std::fs::write(journal_dir.join("0000000000000002.tmp"), b"LTJ1").unwrap();
    assert_eq!(Journal::load(dir.path(), VAULT).unwrap(), model);
    drop(open(dir.path()));
    assert_eq!(names(dir.path()), ["0000000000000001.journal"]);
    std::fs::copy(only_file(dir.path()), journal_dir.join("000000000000000a.journal")).unwrap();
    std::fs::write(journal_dir.join("notes.journal"), b"").unwrap();
    drop(open(dir.path()));
    assert_eq!(names(dir.path()), ["000000000000000a.journal", "notes.journal"]);
    assert_eq!(Journal::load(dir.path(), VAULT).unwrap(), model);
}

/// A store whose journal holds much history and a row that the engine alone has.
fn store_with_history(dir: &Path, plan: Arc<Plan>) -> (Store, Arc<Memory>) {
    let engine = Arc::new(Memory::new());
    engine.commit(&[(b"m1".to_vec(), Some(b"only here".to_vec()))]).unwrap();
    let sink = FaultySink::new(Box::new(open(dir)), plan);
    let store = Store::open(engine.clone(), Some(Box::new(sink)), None).unwrap();
    for n in 0..4_u64 {
        let mut batch = Batch::default();
        for row in 0..700 {
            batch.put(numbered(b'k', row), noise(n, 50));
            batch.put(numbered(b'r', row), noise(n, 50));
        }
        store.commit_blocking(batch).unwrap();
    }
    (store, engine)
}

fn wanted(engine: &Memory) -> Model {
    let rows = engine.scan(b"", &[0xff; 300], usize::MAX).unwrap().into_iter();
    rows.filter(|row| nodes(&row.key)).map(|row| (row.key, row.value)).collect()
}

#[test]
fn the_committer_rewrites_between_groups_and_misses_no_write() {
    let dir = tempfile::tempdir().unwrap();
    let (store, engine) = store_with_history(dir.path(), Plan::new(vec![]));
    std::thread::scope(|scope| {
        let writer = store.clone();
        scope.spawn(move || {
            for n in 0..300_u64 {
                let mut batch = put(&numbered(b'k', n * 3), &n.to_be_bytes());
                batch.delete(numbered(b'k', (n * 7) % 700));
                writer.commit_blocking(batch).unwrap();
            }
        });
        for _ in 0..5 {
            store.compact_journal().unwrap().wait().unwrap();
            store.compact_journal().unwrap().wait().unwrap();
        }
    });
    assert_eq!(Journal::load(dir.path(), VAULT).unwrap(), wanted(&engine));
    store.compact_journal().unwrap().wait().unwrap();
    drop(store);
    assert_eq!(Journal::load(dir.path(), VAULT).unwrap(), wanted(&engine));
    let (bytes, live) = open(dir.path()).bytes();
    assert_eq!(bytes, live + 22);
    assert_eq!(names(dir.path()).len(), 1);
}

#[test]
fn a_fault_at_each_step_of_a_rewrite_harms_neither_the_journal_nor_the_store() {
    let mut n = 0;
    loop {
        n += 1;
        assert!(n < 100, "the fault never stops firing");
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan::new(vec![]);
        let (store, engine) = store_with_history(dir.path(), plan.clone());
        plan.add(Fault::Write(plan.writes() + n, StoreError::Io("planned".into())));
        let outcome = store.compact_journal().unwrap().wait();
        plan.clear();
        assert!(!store.stopped());
        store.commit_blocking(put(b"k", b"after")).unwrap();
        let copy = Journal::load(dir.path(), VAULT).unwrap();
        let mut expected = wanted(&engine);
        if outcome.is_ok() {
            assert_eq!(copy, expected);
            assert!(n > 4, "no fault fired");
            return;
        }
        expected.remove(b"m1".as_slice());
        assert_eq!(copy, expected);
        assert_eq!(names(dir.path()), ["0000000000000001.journal"], "nothing is left behind");
    }
}
