//! R5, keys: rows that a disk has moved to another key. Nothing seals the keys of the small rows, so each reader must
//! ask whether what it found is what it looked for.

use lethe::clock::SystemClock;
use lethe::keys::KeyError;
use lethe::keys::anchor::AnchorError;
use lethe::store::sum::with_sum;
use lethe::store::{Batch, Row, Store};
use lethe::vault::{EngineChoice, VaultError};

use super::files::{Original, Tally, round, rows_of, tamper};
use super::{Known, erase, runtime};
use crate::crash::scale;
use crate::house::{get, operator};
use crate::model::Dice;

fn moved(store: &Store, row: &Row, key: Vec<u8>) {
    let mut batch = Batch::default();
    batch.delete(row.key.clone());
    batch.put(key, row.value.clone());
    store.commit_blocking(batch).unwrap();
}

#[test]
fn a_row_under_a_changed_key_is_no_witness_and_does_no_harm() {
    let original = Original::new(EngineChoice::Redb);
    let mut dice = Dice::new(13);
    let (mut tally, mut saved) = (Tally::default(), 0);
    let kinds = [b"g", b"h", b"k", b"l", b"m", b"r", b"t", b"u"];
    let each = scale(5, 400);
    for kind in kinds {
        for _ in 0..each {
            let (_dir, house) = original.copy();
            tamper(&house, |store| {
                let rows = rows_of(store, kind);
                let row = dice.pick(&rows).unwrap();
                let mut key = row.key.clone();
                let at = 1 + dice.below(key.len() as u64 - 1) as usize;
                key[at] ^= 1 << dice.below(8);
                moved(store, row, key);
            });
            round(&original, &house, &mut tally, &mut saved);
        }
    }
    println!("R5 keys: {:?}", tally.0);
    // A metadata row that does not belong where it is is named, and what should be there is in the node journal.
    let refused = |what: &str| {
        tally.0.iter().filter(|(k, _)| k.starts_with(what)).map(|(_, n)| n).sum::<usize>()
    };
    assert!(refused("refused") <= each && refused("repair refused") == 0, "{:?}", tally.0);
    // One record's row or pointer at most.
    let lost: usize = (kinds.len() * each) * original.live.len() - saved;
    assert!(lost <= 2 * each, "{lost}");
}

/// One flipped bit in the key of a level row or frontier says a later generation; it once kept the vault shut and
/// `repair` out, as if an old anchor had been put back.
#[test]
fn a_later_generation_that_only_a_damaged_key_names_is_not_believed() {
    let original = Original::new(EngineChoice::Redb);
    let (mut tally, mut saved) = (Tally::default(), 0);
    for kind in [b"g", b"h"] {
        for (byte, bit) in [(8, 4), (8, 5), (3, 0), (1, 7)] {
            let (_dir, house) = original.copy();
            tamper(&house, |store| {
                let row = rows_of(store, kind).pop().unwrap();
                let mut key = row.key.clone();
                key[byte] |= 1 << bit;
                assert!(key > row.key);
                moved(store, &row, key);
            });
            round(&original, &house, &mut tally, &mut saved);
        }
    }
    assert_eq!(saved, 8 * original.live.len(), "{:?}", tally.0);
    assert_eq!(tally.0["opened whole"], 8);
}

/// While the anchor's own frontier is where it belongs, a later one is a witness.
#[test]
fn a_later_frontier_beside_the_anchors_own_is_believed() {
    let original = Original::new(EngineChoice::Redb);
    let (_dir, house) = original.copy();
    tamper(&house, |store| {
        let own = rows_of(store, b"h").pop().unwrap();
        let mut key = own.key.clone();
        key[1] = 1;
        let mut batch = Batch::default();
        batch.put(key, own.value);
        store.commit_blocking(batch).unwrap();
    });
    let older =
        |e: &VaultError| matches!(e, VaultError::Keys(KeyError::Anchor(AnchorError::Older { .. })));
    assert!(older(&house.open().err().unwrap()));
    assert!(older(&lethe::vault::repair(&house.setup(), &SystemClock, false).unwrap_err()));
}

/// Two whole pointers, each at the other's place: an erasure by one name would have killed the other record.
#[test]
fn a_pointer_to_another_record_reads_and_erases_nothing() {
    let original = Original::new(EngineChoice::Redb);
    let (_dir, house) = original.copy();
    let (a, b) = (&original.live[0], &original.live[1]);
    tamper(&house, |store| {
        let key = |known: &Known| [b"u".as_slice(), &[0; 3], &known.id.0].concat();
        let value = |known| store.get(&key(known)).unwrap().unwrap();
        let mut batch = Batch::default();
        batch.put(key(a), value(b));
        batch.put(key(b), value(a));
        store.commit_blocking(batch).unwrap();
    });
    let vault = house.open().unwrap();
    let damaged = |e: VaultError| matches!(e, VaultError::Damaged("record"));
    for known in [a, b] {
        assert!(damaged(known.read(&vault).unwrap_err()));
        assert!(damaged(runtime().block_on(erase(&vault, known.id)).unwrap_err()));
    }
    vault.close().unwrap();
    drop(vault);
    // Both are alive: a repair names each by what its own row says.
    lethe::vault::repair(&house.setup(), &SystemClock, false).unwrap();
    let vault = house.open().unwrap();
    original.live.iter().for_each(|k| k.read(&vault).unwrap());
    vault.close().unwrap();
}

/// A type without its schema was as if its records had never been; the node journal has it.
#[test]
fn a_schema_that_is_missing_is_taken_from_the_journal_or_named() {
    let original = Original::new(EngineChoice::Redb);
    for journal in [true, false] {
        let (dir, house) = original.copy();
        tamper(&house, |store| {
            let mut batch = Batch::default();
            rows_of(store, b"m").into_iter().for_each(|row| batch.delete(row.key));
            store.commit_blocking(batch).unwrap();
        });
        if !journal {
            std::fs::remove_dir_all(dir.path().join("data/journal")).unwrap();
            assert!(matches!(house.open(), Err(VaultError::Damaged("metadata"))));
            continue;
        }
        let vault = house.open().unwrap();
        original.live.iter().for_each(|k| k.read(&vault).unwrap());
        assert!(vault.metrics().journal_rescues.value() >= 2);
        vault.close().unwrap();
    }
}

/// Under the key of a generation that is yet to come, what is to be undone would be rows of the living.
#[test]
fn a_batch_journal_row_under_a_changed_key_undoes_nothing() {
    let original = Original::new(EngineChoice::Redb);
    let (mut tally, mut saved) = (Tally::default(), 0);
    let (_dir, house) = original.copy();
    tamper(&house, |store| {
        let generation = rows_of(store, b"g").pop().unwrap().key[1..].to_vec();
        let nodes = rows_of(store, b"k");
        let mut value = [b"LTB1".as_slice(), &generation].concat();
        value.extend((nodes.len() as u16).to_be_bytes());
        for node in nodes {
            value.extend([2, node.key.len() as u8]);
            value.extend(node.key);
        }
        let mut later = generation;
        later[2] |= 0x40;
        let mut batch = Batch::default();
        batch.put([b"b".as_slice(), &later, &[0, 0]].concat(), with_sum(value));
        store.commit_blocking(batch).unwrap();
    });
    round(&original, &house, &mut tally, &mut saved);
    assert_eq!((saved, tally.0["opened whole"]), (original.live.len(), 1), "{:?}", tally.0);
    tamper(&house, |store| assert!(rows_of(store, b"b").is_empty(), "it is done with"));
}

/// A whole pointer that says another type, and a header that says another vault above a root that does not open.
#[test]
fn what_contradicts_itself_is_not_believed() {
    let original = Original::new(EngineChoice::Redb);
    let (_dir, house) = original.copy();
    let id = original.live[30].id;
    tamper(&house, |store| {
        let key = [b"u".as_slice(), &[0; 3], &id.0].concat();
        let mut value = store.get(&key).unwrap().unwrap();
        value[23] ^= 3;
        let mut batch = Batch::default();
        batch.put(key, with_sum(value[..24].to_vec()));
        store.commit_blocking(batch).unwrap();
    });
    let vault = house.open().unwrap();
    assert!(matches!(get(&vault, id), Err(VaultError::Damaged("record"))));
    vault.close().unwrap();
    drop(vault);
    tamper(&house, |store| {
        let mut batch = Batch::default();
        for (key, at) in
            [(rows_of(store, b"v").remove(0), 9), (rows_of(store, b"k\x01").remove(0), 99)]
        {
            let mut bad = key.value.clone();
            bad[at] ^= 1;
            batch.put(key.key, bad);
        }
        store.commit_blocking(batch).unwrap();
    });
    let e = house.open().err().unwrap();
    assert!(matches!(e, VaultError::Keys(KeyError::Anchor(AnchorError::Foreign { .. }))), "{e:?}");
}

/// After a crash the records that no run lists are read again: a damaged one does not keep the others from service.
#[test]
fn a_damaged_record_among_the_unlisted_keeps_nothing_shut() {
    let original = Original::new(EngineChoice::Redb);
    let (_dir, mut house) = original.copy();
    house.change = |setup| setup.index_tail_max = 16_384;
    let vault = house.open().unwrap();
    let rt = super::runtime();
    let fresh: Vec<_> =
        (700..706).map(|n| rt.block_on(super::new(&vault, "customer", n, 0))).collect();
    drop(vault);
    tamper(&house, |store| {
        let rows = rows_of(store, b"r");
        let row = rows.iter().find(|r| r.value[18..34] == fresh[2].id.0).unwrap();
        let mut bad = row.value.clone();
        bad[80] ^= 1;
        let mut batch = Batch::default();
        batch.put(row.key.clone(), bad);
        store.commit_blocking(batch).unwrap();
    });
    let vault = house.open().unwrap();
    assert!(vault.metrics().damaged_rows.value() > 0);
    for known in original.live.iter().chain(&fresh) {
        let seen = known.read(&vault);
        assert_eq!(matches!(seen, Err(VaultError::Damaged("record"))), known.id == fresh[2].id);
        assert!(seen.is_ok() || known.id == fresh[2].id, "{seen:?}");
    }
    vault.close().unwrap();
}

/// After a crash a slot that no row names may have sealed a put that nobody was answered: it dies in the first batch.
#[test]
fn slots_that_an_unanswered_put_may_have_used_die_after_a_crash() {
    let original = Original::new(EngineChoice::Redb);
    let (_dir, mut house) = original.copy();
    house.change = |setup| setup.index_tail_max = 16_384;
    let vault = house.open().unwrap();
    super::runtime().block_on(super::new(&vault, "customer", 700, 0));
    let generation =
        |vault: &lethe::vault::Vault| vault.status(&operator(None)).unwrap().generation;
    let before = generation(&vault);
    drop(vault);
    let vault = house.open().unwrap();
    let began = std::time::Instant::now();
    while generation(&vault) == before {
        assert!(began.elapsed().as_secs() < 20, "no batch took them");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    vault.close().unwrap();
}
