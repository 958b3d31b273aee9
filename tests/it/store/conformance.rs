//! One suite for all engines: whatever passes here may stand behind a vault.

use std::collections::BTreeMap;

use lethe::limits;
use lethe::store::{Engine, Memory, StoreError};

use super::{EMBEDDED, noise, numbered, pairs};

/// Runs a check on a fresh engine of each kind.
fn on_all(check: fn(&dyn Engine)) {
    check(&Memory::new());
    for (name, open) in EMBEDDED {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(dir.path()).unwrap();
        assert_eq!(engine.name(), name);
        check(engine.as_ref());
    }
}

type Writes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

fn puts(keys: &[&[u8]]) -> Writes {
    keys.iter().map(|k| (k.to_vec(), Some(k.to_vec()))).collect()
}

#[test]
fn rows_come_in_byte_order_within_bounds_and_limit() {
    on_all(|engine| {
        engine.commit(&puts(&[b"b", b"a", b"a\x00", b"ab", b"\xff\xff", b"c", b"\x00"])).unwrap();
        let keys = |start: &[u8], end: &[u8], limit| -> Vec<Vec<u8>> {
            engine.scan(start, end, limit).unwrap().into_iter().map(|row| row.key).collect()
        };
        let all = keys(b"", &[0xff; 300], 100);
        let expected: [&[u8]; 7] = [b"\x00", b"a", b"a\x00", b"ab", b"b", b"c", b"\xff\xff"];
        assert_eq!(all, expected);
        assert_eq!(keys(b"a", b"b", 100), [b"a".as_slice(), b"a\x00", b"ab"]);
        assert_eq!(keys(b"a", b"c", 2), [b"a".as_slice(), b"a\x00"]);
        assert_eq!(keys(b"a\x00", b"a\x01", 9), [b"a\x00".as_slice()]);
        for nothing in [keys(b"a", b"b", 0), keys(b"b", b"b", 9), keys(b"c", b"a", 9)] {
            assert!(nothing.is_empty());
        }
    });
}

#[test]
fn the_last_write_to_a_key_in_a_commit_wins() {
    on_all(|engine| {
        let write = |key: &[u8], value: Option<&[u8]>| (key.to_vec(), value.map(<[u8]>::to_vec));
        engine
            .commit(&[
                write(b"gone", Some(b"1")),
                write(b"gone", None),
                write(b"back", None),
                write(b"back", Some(b"2")),
                write(b"twice", Some(b"1")),
                write(b"twice", Some(b"2")),
                write(b"never", None),
            ])
            .unwrap();
        assert_eq!(engine.get(b"gone").unwrap(), None);
        assert_eq!(engine.get(b"back").unwrap(), Some(b"2".to_vec()));
        assert_eq!(engine.get(b"twice").unwrap(), Some(b"2".to_vec()));
        assert_eq!(engine.get(b"never").unwrap(), None);
        engine.commit(&[]).unwrap();
    });
}

#[test]
fn empty_and_greatest_values_and_keys_come_back_whole() {
    on_all(|engine| {
        let big = noise(1, limits::ROW_BYTES_MAX);
        let key = noise(2, limits::KEY_BYTES_MAX);
        engine
            .commit(&[(b"empty".to_vec(), Some(vec![])), (key.clone(), Some(big.clone()))])
            .unwrap();
        assert_eq!(engine.get(b"empty").unwrap(), Some(vec![]));
        assert_eq!(engine.get(&key).unwrap(), Some(big));
    });
}

#[test]
fn a_reader_sees_a_commit_whole_or_not_at_all() {
    on_all(|engine| {
        let write = |n: u64| -> Writes {
            (0..20).map(|key| (numbered(b'r', key), Some(n.to_be_bytes().to_vec()))).collect()
        };
        engine.commit(&write(0)).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| (1..20).for_each(|n| engine.commit(&write(n)).unwrap()));
            for _ in 0..200 {
                for (one, other) in [(0, 19), (19, 0)] {
                    let seen = engine.get(&numbered(b'r', one)).unwrap().unwrap();
                    // Written in the same commit as what was just read, or a later one.
                    assert!(engine.get(&numbered(b'r', other)).unwrap().unwrap() >= seen);
                }
            }
        });
    });
}

#[test]
fn random_commits_equal_the_model_also_after_a_reopen() {
    for (name, open) in EMBEDDED {
        let dir = tempfile::tempdir().unwrap();
        let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for round in 0..4_u64 {
            let engine = open(dir.path()).unwrap();
            assert_eq!(
                pairs(engine.scan(b"", &[0xff; 300], usize::MAX).unwrap()),
                Vec::from_iter(model.clone())
            );
            for commit in 0..12 {
                let dice = noise(round * 100 + commit, 64);
                let writes: Writes = (0_u64..)
                    .zip(&dice)
                    .map(|(n, die)| {
                        let key = numbered(b'r', u64::from(*die) / 2);
                        let size = [0, 40, 200, 4_156, 8_192][usize::from(*die) % 5];
                        (key, (die % 7 != 0).then(|| noise(n * 31 + commit, size)))
                    })
                    .collect();
                engine.commit(&writes).unwrap();
                for (key, value) in writes {
                    match value {
                        Some(value) => model.insert(key, value),
                        None => model.remove(&key),
                    };
                }
            }
            assert!(!model.is_empty(), "{name}");
        }
    }
}

#[test]
fn a_directory_has_one_holder() {
    for (name, open) in EMBEDDED {
        let dir = tempfile::tempdir().unwrap();
        let held = open(dir.path()).unwrap();
        assert_eq!(open(dir.path()).err(), Some(StoreError::InUse), "{name}");
        drop(held);
        assert!(open(dir.path()).is_ok(), "{name}");
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error() {
    for (name, open) in EMBEDDED {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let refused = open(&file.join("store")).err();
        assert!(matches!(refused, Some(StoreError::Io(_))), "{name}: {refused:?}");
    }
}

/// A page of sled's that outgrows its log goes to a file that sled never syncs, and a crash then loses acknowledged
/// rows. With sled's default segment, sixteen of the greatest rows in one leaf were enough.
#[test]
fn the_greatest_rows_never_make_sled_start_a_blob() {
    let dir = tempfile::tempdir().unwrap();
    let engine = super::sled(dir.path()).unwrap();
    for round in 0..10_u64 {
        let dice = noise(round, 100);
        let writes: Writes = (0_u64..)
            .zip(&dice)
            .map(|(n, die)| match round % 3 {
                // In order, then anywhere, then mostly gone, so that leaves split, grow and merge.
                0 => (numbered(b'r', round * 100 + n), Some(noise(n, limits::ROW_BYTES_MAX))),
                1 => (numbered(b'r', u64::from(*die)), Some(noise(n, limits::ROW_BYTES_MAX))),
                _ => (numbered(b'r', (round - 2) * 100 + n), None),
            })
            .collect();
        engine.commit(&writes).unwrap();
        let blobs = std::fs::read_dir(dir.path().join("blobs")).unwrap().count();
        assert_eq!(blobs, 0, "round {round}");
    }
}
