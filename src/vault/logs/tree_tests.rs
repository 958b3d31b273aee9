//! The tree over logs of many sizes against the plain definition; every tile file missing, damaged or foreign in turn.

use std::cell::Cell;
use std::path::Path;

use super::*;
use crate::crypto::merkle::Frontier;

fn leaf(n: u64) -> Vec<u8> {
    [b"leaf".as_slice(), &n.to_be_bytes()].concat()
}

fn head(size: u64) -> Head {
    let mut tree = Frontier::default();
    (0..size).for_each(|n| tree.push(leaf_hash(&leaf(n))));
    (size, tree.root())
}

/// A log of which nothing was pruned.
impl<F: Fn(u64, u64) -> Result<Vec<Vec<u8>>, VaultError>> Source for F {
    fn entries(&self, start: u64, end: u64) -> Result<Vec<Vec<u8>>, VaultError> {
        self(start, end)
    }

    fn pruned(&self, _: u64) -> Result<Option<Digest32>, VaultError> {
        Ok(None)
    }
}

fn rows(start: u64, end: u64) -> Result<Vec<Vec<u8>>, VaultError> {
    Ok((start..end).map(leaf).collect())
}

fn tree(dir: &Path) -> TileTree {
    TileTree::new(TileFiles::new(dir.to_owned()), Arc::default(), "ledger")
}

fn check(view: &View<'_>, at: &[u64]) {
    let (size, root) = view.head;
    for index in at.iter().copied().filter(|index| *index < size) {
        let (found, proof) = view.inclusion(index, size).unwrap();
        assert_eq!((found, proof.head), (leaf(index), (size, root)));
        let (old, proof) = view.consistency(index, size).unwrap();
        assert_eq!((index, old), head(index), "{index} in {size}");
        assert_eq!(verify_consistency((index, old), (size, root), &proof.path), Ok(()));
    }
}

#[test]
fn a_tree_that_grows_and_one_that_is_loaded_say_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut grown = tree(dir.path());
    for size in [0, 1, 2, 255, 256, 257, 511, 512, 513, 1_000, 65_535, 65_536, 65_537, 66_000] {
        let at = [0, 1, 254, 255, 256, 511, 512, 800, 65_279, 65_535, 65_536, 65_999];
        check(&grown.reach(head(size), &rows).unwrap(), &at);
        check(&tree(dir.path()).reach(head(size), &rows).unwrap(), &at);
        let empty = tempfile::tempdir().unwrap();
        check(&tree(empty.path()).reach(head(size), &rows).unwrap(), &at);
    }
}

#[test]
fn a_proof_reads_a_few_tiles_and_not_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let size = 70_000;
    let head = head(size);
    tree(dir.path()).reach(head, &rows).unwrap();
    let asked = Cell::new(0);
    let counted = |start, end| {
        asked.set(asked.get() + end - start);
        rows(start, end)
    };
    let mut again = tree(dir.path());
    let view = again.reach(head, &counted).unwrap();
    assert_eq!(asked.get(), size % 256, "the entries after the last full tile");
    view.inclusion(12_345, size).unwrap();
    assert_eq!(asked.get(), size % 256 + 1, "and the entry itself");
    assert!(view.seen.borrow().len() <= 4, "{}", view.seen.borrow().len());
    view.consistency(60_001, size).unwrap();
    assert_eq!(asked.get(), size % 256 + 1);
    assert_eq!(again.metrics.log_tiles_rebuilt.value(), 0);
}

#[test]
fn what_is_beyond_the_bound_head_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut tree = tree(dir.path());
    let view = tree.reach(head(300), &rows).unwrap();
    let gone = |outcome: Result<(), VaultError>| matches!(outcome, Err(VaultError::NotFound(_)));
    assert!(gone(view.inclusion(300, 300).map(drop)) && gone(view.inclusion(0, 301).map(drop)));
    assert!(gone(view.inclusion(5, 5).map(drop)) && gone(view.consistency(1, 301).map(drop)));
    assert!(matches!(view.consistency(200, 100).map(drop), Err(VaultError::Argument { .. })));
    let lost =
        |outcome: Result<(), VaultError>| matches!(outcome, Err(VaultError::Damaged("ledger")));
    assert!(lost(view.hashes(0, 256, 45).map(drop)) && lost(view.hashes(7, 0, 1).map(drop)));
}

/// Files of a tree of this size, as paths below its folder.
fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { dirs.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

#[test]
fn each_file_that_is_missing_or_damaged_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let size = 66_000;
    let head = head(size);
    let mut warm = tree(dir.path());
    warm.reach(head, &rows).unwrap();
    let all = files(dir.path());
    assert_eq!(all.len(), 257 + 1, "full tiles of hashes");
    let one = dir.path().join("tile/0/009");
    let top = dir.path().join("tile/1/000");
    let last = dir.path().join("tile/0/256");
    for path in [&one, &top, &last] {
        let good = std::fs::read(path).unwrap();
        let mut flipped = good.clone();
        flipped[4_000] ^= 1;
        let other = std::fs::read(dir.path().join("tile/0/010")).unwrap();
        for bad in [None, Some(&[][..]), Some(&good[..8_191]), Some(&flipped[..]), Some(&other[..])]
        {
            match bad {
                None => std::fs::remove_file(path).unwrap(),
                Some(bytes) => std::fs::write(path, bytes).unwrap(),
            }
            // With the tip in memory, and from the files alone.
            check(&warm.reach(head, &rows).unwrap(), &[9 * 256 + 7, 65_536, 65_999]);
            assert!(path == &last || std::fs::read(path).unwrap() == good, "{path:?}");
            std::fs::write(path, bad.unwrap_or_default()).unwrap();
            check(&tree(dir.path()).reach(head, &rows).unwrap(), &[9 * 256 + 7, 65_536, 65_999]);
            assert_eq!(std::fs::read(path).unwrap(), good, "{path:?}");
        }
    }
    assert!(warm.metrics.log_tiles_rebuilt.value() > 0);
    // Two that agree with each other and not with the log.
    std::fs::write(&one, [0; 8_192]).unwrap();
    let mut forged = std::fs::read(&top).unwrap();
    forged[9 * 32..10 * 32].copy_from_slice(&root_of(&[[0; 32]; 256]));
    std::fs::write(&top, forged).unwrap();
    check(&warm.reach(head, &rows).unwrap(), &[9 * 256 + 7]);
    check(&tree(dir.path()).reach(head, &rows).unwrap(), &[9 * 256 + 7]);
    // A folder of another log.
    for path in files(dir.path()) {
        std::fs::write(path, [9; 8_192]).unwrap();
    }
    check(&tree(dir.path()).reach(head, &rows).unwrap(), &[0, 65_999]);
}

#[test]
fn a_log_that_does_not_lead_to_the_bound_root_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bad = |start: u64, end: u64| {
        let mut rows = rows(start, end)?;
        if let Some(row) = 270u64.checked_sub(start).and_then(|n| rows.get_mut(n as usize)) {
            row.push(0);
        }
        Ok(rows)
    };
    let damaged = |outcome: Result<View<'_>, VaultError>| {
        matches!(outcome.err(), Some(VaultError::Damaged("ledger")))
    };
    assert!(damaged(tree(dir.path()).reach(head(300), &bad)));
    assert!(damaged(tree(dir.path()).reach((300, [7; 32]), &rows)));
    // An entry whose row is damaged later is missed, and the others are proven all the same.
    let mut whole = tree(dir.path());
    whole.reach(head(600), &rows).unwrap();
    let view = whole.reach(head(600), &bad).unwrap();
    assert!(matches!(view.inclusion(270, 600).map(drop), Err(VaultError::Damaged("ledger"))));
    assert!(matches!(view.entries(256, 256).map(drop), Err(VaultError::Damaged("ledger"))));
    check(&view, &[269, 271, 599]);
}

#[test]
fn a_folder_that_cannot_be_written_costs_time_only() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let mut tree = tree(&file);
    check(&tree.reach(head(1_000), &rows).unwrap(), &[0, 300, 999]);
    assert!(tree.metrics.log_tiles_unwritten.value() > 0);
    assert_eq!(tree.metrics.log_tiles_written.value(), 0);
}

/// A log whose first blocks were pruned.
struct Short(u64);

impl Source for Short {
    fn entries(&self, start: u64, end: u64) -> Result<Vec<Vec<u8>>, VaultError> {
        let minimum = self.0 * TILE_WIDTH;
        if start < minimum { Err(VaultError::Pruned(minimum)) } else { rows(start, end) }
    }

    fn pruned(&self, block: u64) -> Result<Option<Digest32>, VaultError> {
        let hashes = (block * TILE_WIDTH..(block + 1) * TILE_WIDTH).map(|n| leaf_hash(&leaf(n)));
        Ok((block < self.0).then(|| root_of(&hashes.collect::<Vec<_>>())))
    }
}

#[test]
fn a_pruned_log_proves_what_is_left_of_it_and_no_single_entry_of_before() {
    let dir = tempfile::tempdir().unwrap();
    let size = 66_300;
    let head = head(size);
    // With all files of before, with none at all, and with those that may stay.
    for (pruned, files) in [(1, true), (2, false), (256, true), (257, false), (258, true)] {
        let minimum = pruned * TILE_WIDTH;
        let empty = tempfile::tempdir().unwrap();
        let folder = if files { dir.path() } else { empty.path() };
        let mut tree = tree(folder);
        tree.reach(head, &rows).map(drop).unwrap();
        tree.forget_entries(pruned);
        let short = Short(pruned);
        let view = tree.reach(head, &short).unwrap();
        check(&view, &[minimum, minimum + 1, minimum + 255, size - 1]);
        let pruned_error = |found: Result<(), VaultError>| {
            assert!(matches!(found, Err(VaultError::Pruned(at)) if at == minimum), "{found:?}");
        };
        for index in [0, minimum - 1] {
            pruned_error(view.inclusion(index, size).map(drop));
            pruned_error(view.entries(index, 1).map(drop));
            pruned_error(view.hashes(0, index, 1).map(drop));
        }
        // Trees of whole blocks have their roots still, others not.
        pruned_error(view.consistency(minimum - 1, size).map(drop));
        let (root, _) = view.consistency(minimum - TILE_WIDTH, size).unwrap();
        assert_eq!(root, self::head(minimum - TILE_WIDTH).1);
        // A file that is left, or put there, gives nothing away.
        for kept in [(0..256).map(|n| leaf_hash(&leaf(n))).collect(), vec![[1; 32]; 256]] {
            TileFiles::new(folder.to_owned()).write(0, 0, &kept).unwrap();
            pruned_error(view.hashes(0, 0, 1).map(drop));
        }
    }
}
