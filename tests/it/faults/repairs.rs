//! R5, repair guard by guard: which version counts, what is evidence, which copy of a row is taken, and when nothing is
//! changed.

use std::path::Path;

use lethe::class::Role;
use lethe::clock::SystemClock;
use lethe::id::{RecordId, VaultId};
use lethe::keys::Sabotage;
use lethe::store::sum::with_sum;
use lethe::store::{Batch, Engine, Journal, Row, Store, StoreError};
use lethe::vault::{EngineChoice, LedgerState, NewRecord, VaultError, repair};

use super::files::{Original, repaired, rows_of, tamper};
use super::{copy_dir, erase, new, renew, runtime};
use crate::house::{House, TENANT, draft, fields, furnish, get, operator, permit, slug};

/// The keys of a record's versions, oldest first: those of their first chunks.
fn versions(store: &Store, id: RecordId) -> Vec<Row> {
    let mut rows = rows_of(store, b"r");
    rows.retain(|r| r.value[18..34] == id.0 && r.key.ends_with(&[0, 0]));
    rows.sort_by(|a, b| a.value[34..42].cmp(&b.value[34..42]));
    rows
}

fn forget(store: &Store, batch: &mut Batch, version: &Row) {
    rows_of(store, &version.key[..11]).into_iter().for_each(|r| batch.delete(r.key));
}

fn intent(version: &Row) -> Vec<u8> {
    [b"q".as_slice(), &version.key[1..11]].concat()
}

fn pointer(id: RecordId) -> Vec<u8> {
    [b"u".as_slice(), &[0; 3], &id.0].concat()
}

/// A pointer to a version.
fn pointing(version: &Row) -> Vec<u8> {
    with_sum([b"LTU1".as_slice(), &version.value[8..18], &version.value[34..44]].concat())
}

fn tombstone(id: RecordId) -> Vec<u8> {
    [b"t".as_slice(), &[0; 3], &id.0].concat()
}

#[test]
fn of_several_living_versions_the_right_one_counts_and_the_others_die() {
    let original = Original::new(EngineChoice::Redb);
    let (_dir, mut house) = original.copy();
    let (mut live, rt) = (original.live.clone(), runtime());
    house.change = |setup| setup.sabotage = Sabotage::KeepOldVersion;
    let vault = house.open().unwrap();
    // Three versions side by side in one page, so that an older one is met first.
    let mut beside = rt.block_on(new(&vault, "customer", 900, 0));
    rt.block_on(renew(&vault, &mut beside));
    rt.block_on(renew(&vault, &mut beside));
    live[..8].iter_mut().for_each(|known| rt.block_on(renew(&vault, known)));
    vault.close().unwrap();
    drop(vault);
    // Two are erased while the intent of their old version is lost.
    let mut gone = None;
    tamper(&house, |store| {
        gone = versions(store, live[6].id).pop();
        let mut batch = Batch::default();
        live[6..8].iter().for_each(|k| batch.delete(intent(&versions(store, k.id)[0])));
        store.commit_blocking(batch).unwrap();
    });
    let vault = house.open().unwrap();
    live[6..8].iter().for_each(|k| drop(rt.block_on(erase(&vault, k.id)).unwrap()));
    vault.close().unwrap();
    drop(vault);
    tamper(&house, |store| {
        let mut batch = Batch::default();
        let all: Vec<Vec<Row>> = live[..8].iter().map(|k| versions(store, k.id)).collect();
        assert!(all[..6].iter().all(|v| v.len() == 2) && all[6..].iter().all(|v| v.len() == 1));
        // Only the intent tells that the version that is left is an old one; and it is damaged, or another's.
        for known in 0..3 {
            batch.delete(pointer(live[known].id));
            forget(store, &mut batch, &all[known][1]);
        }
        batch.put(intent(&all[1][0]), b"LTQ1 cut".as_slice());
        let others = store.get(&intent(&all[3][0])).unwrap().unwrap();
        batch.put(intent(&all[2][0]), others);
        // Nothing but the versions themselves.
        batch.delete(pointer(live[3].id));
        batch.delete(intent(&all[3][0]));
        batch.delete(pointer(beside.id));
        versions(store, beside.id).iter().for_each(|v| batch.delete(intent(v)));
        // The pointer says that there was a later version than the one that is left.
        forget(store, &mut batch, &all[4][1]);
        batch.delete(intent(&all[4][0]));
        // The present version does not open.
        let mut torn = all[5][1].value.clone();
        *torn.last_mut().unwrap() ^= 1;
        batch.put(all[5][1].key.clone(), torn);
        // An erased record's pointer is back, with or without what it points to; and one to a key that is gone.
        forget(store, &mut batch, &all[7][0]);
        batch.put(pointer(live[7].id), pointing(&all[7][0]));
        let id = original.erased[0];
        batch.delete(tombstone(id));
        batch.put(pointer(id), pointing(gone.as_ref().unwrap()));
        store.commit_blocking(batch).unwrap();
    });
    house.change = |_| ();
    let (report, vault) = repaired(&house);
    let seen = |id| get(&vault, id).map(drop);
    for known in &live[..3] {
        assert!(matches!(seen(known.id), Err(VaultError::NotFound(_))), "{report}");
    }
    live[3].read(&vault).unwrap();
    beside.read(&vault).unwrap();
    for known in &live[4..6] {
        assert!(matches!(seen(known.id), Err(VaultError::Damaged(_))), "{:?}", seen(known.id));
    }
    for known in &live[6..8] {
        assert!(matches!(seen(known.id), Err(VaultError::Erased(_))), "an erased record came back");
    }
    assert!(matches!(seen(original.erased[0]), Err(VaultError::NotFound(_))));
    live[8..].iter().for_each(|k| k.read(&vault).unwrap());
    vault.close().unwrap();
    drop(vault);
    tamper(&house, |store| {
        let left: Vec<usize> = live[..8].iter().map(|k| versions(store, k.id).len()).collect();
        // Of the two that are lost a row says that they are missing.
        assert_eq!((left, versions(store, beside.id).len()), (vec![0, 0, 0, 1, 1, 1, 0, 0], 1));
    });
}

#[test]
fn evidence_that_is_damaged_is_counted_and_never_believed() {
    let original = Original::new(EngineChoice::Redb);
    let (_dir, house) = original.copy();
    let (future, cut) = (original.live[0].id, original.live[1].id);
    tamper(&house, |store| {
        let mut batch = Batch::default();
        let tombs: Vec<Vec<u8>> =
            original.erased.iter().map(|id| store.get(&tombstone(*id)).unwrap().unwrap()).collect();
        let mut later = tombs[0][..tombs[0].len() - 4].to_vec();
        later[14] ^= 1;
        batch.put(tombstone(future), with_sum(later));
        batch.put(tombstone(cut), tombs[0][..9].to_vec());
        // The level of the first is cut, that of the second says another generation, the third's leaf is gone.
        let level = |tomb: &[u8]| [b"g".as_slice(), &tomb[8..16]].concat();
        batch.put(level(&tombs[0]), b"LTG1 cut".as_slice());
        batch.put(level(&tombs[1]), store.get(&level(&tombs[2])).unwrap().unwrap());
        batch.delete([b"l".as_slice(), &tombs[2][16..24]].concat());
        store.commit_blocking(batch).unwrap();
    });
    let (report, vault) = repaired(&house);
    assert_eq!((report.ledger, report.whole()), (LedgerState::HeadOnly, false), "{report}");
    for what in ["level rows", "receipts", "ledger leaves"] {
        assert_eq!(
            report.lost.get(what),
            Some(&if what == "level rows" { 2 } else { 1 }),
            "{report}"
        );
    }
    original.live.iter().for_each(|k| k.read(&vault).unwrap());
    vault.close().unwrap();
    drop(vault);
    tamper(&house, |store| {
        assert_eq!(rows_of(store, b"t").len(), original.erased.len(), "of the living none is kept");
    });
    let vault = house.open().unwrap();
    let rt = runtime();
    for id in &original.erased {
        let again = rt.block_on(erase(&vault, *id));
        assert!(matches!(again, Err(VaultError::Damaged(_))), "{again:?}");
    }
    [future, cut].iter().for_each(|id| drop(rt.block_on(erase(&vault, *id)).unwrap()));
    vault.close().unwrap();
}

fn without_journal(house: &House) {
    std::fs::remove_dir_all(house.dir.join("data/journal")).unwrap();
}

#[test]
fn a_lost_page_loses_its_records_and_a_lost_bucket_or_name_leaves_all_as_it_is() {
    let original = Original::new(EngineChoice::Redb);
    let (_dir, house) = original.copy();
    let mut on_it = Vec::new();
    tamper(&house, |store| {
        let page = versions(store, original.live[20].id).remove(0).key[1..10].to_vec();
        let here = |k: &&super::Known| versions(store, k.id)[0].key[1..10] == page[..];
        on_it = original.live.iter().filter(here).map(|k| k.id).collect();
        let nodes = rows_of(store, &[b"k", [7].as_slice(), &page[..6]].concat());
        let node = nodes.iter().find(|n| n.key[12..15] == page[6..]).unwrap();
        let mut batch = Batch::default();
        batch.delete(node.key.clone());
        store.commit_blocking(batch).unwrap();
    });
    without_journal(&house);
    let (report, vault) = repaired(&house);
    assert_eq!(
        (report.lost_nodes.len(), report.lost.get("records")),
        (1, Some(&(on_it.len() as u64)))
    );
    assert!(!report.whole() && report.dropped.is_empty(), "{report}");
    for known in &original.live {
        match known.read(&vault) {
            Ok(()) => assert!(!on_it.contains(&known.id)),
            Err(VaultError::Damaged(_) | VaultError::Keys(_)) => assert!(on_it.contains(&known.id)),
            Err(e) => panic!("{e:?}"),
        }
    }
    vault.close().unwrap();

    for lost in [[b'k', 5].as_slice(), &[b'm', 0, 0, 0, 1]] {
        let (dir, house) = original.copy();
        tamper(&house, |store| {
            let mut batch = Batch::default();
            batch.delete(rows_of(store, lost).remove(0).key);
            store.commit_blocking(batch).unwrap();
        });
        without_journal(&house);
        let report = repair(&house.setup(), &SystemClock, false).unwrap();
        assert!(!report.opens() && report.damaged_kept_at.is_none(), "{report}");
        assert!(!dir.path().join("data/store.damaged-1").exists());
        assert!(!dir.path().join("data/store.repaired").exists());
    }
}

/// What the node journal holds, and what it should.
fn journal_is_that_of_the_store(house: &House) {
    tamper(house, |store| {
        let id = VaultId(store.get(b"v").unwrap().unwrap()[6..22].try_into().unwrap());
        let rows = [b"k", b"m", b"v"].map(|kind| rows_of(store, kind)).concat();
        let rows = rows.into_iter().map(|r| (r.key, r.value)).collect();
        assert!(Journal::load(&house.dir.join("data"), id).unwrap() == rows);
    });
}

fn sequence(house: &House) -> Vec<u8> {
    let mut row = None;
    tamper(house, |store| row = store.get(b"s").unwrap());
    row.unwrap()[4..12].to_vec()
}

#[test]
fn of_two_copies_of_a_row_the_later_one_that_opens_is_taken() {
    let original = Original::new(EngineChoice::Redb);
    let (_dir, house) = original.copy();
    let (mut live, rt) = (original.live.clone(), runtime());
    let (mut nodes, mut names) = (Vec::new(), Vec::new());
    tamper(&house, |store| {
        (nodes, names) = (rows_of(store, b"k"), rows_of(store, b"m"));
    });
    let aside = house.dir.join("aside");
    copy_dir(&house.dir.join("data/journal"), &aside);
    let vault = house.open().unwrap();
    rt.block_on(async {
        for n in 500..560 {
            live.push(new(&vault, "customer", n, 0).await);
        }
        let mut more = draft("customer", Some("P3Y"));
        more.fields[2].description = "changed".into();
        let parts = lethe::vault::schema::Parts::whole();
        vault.update_schema(&operator(Some(TENANT)), TENANT, more, &parts).await.unwrap();
    });
    vault.close().unwrap();
    drop(vault);
    let whole = |house: &House, what: &str| {
        let vault = house.open().unwrap_or_else(|e| panic!("{what}: {e}"));
        live.iter().for_each(|k| k.read(&vault).unwrap_or_else(|e| panic!("{what}: {e}")));
        vault.close().unwrap();
    };
    let both = tempfile::tempdir().unwrap();
    copy_dir(&house.dir, both.path());
    // The store's rows are old, or do not open; the journal's are right.
    let mut right = Vec::new();
    tamper(&house, |store| {
        right = rows_of(store, b"m");
        let mut batch = Batch::default();
        let stale =
            nodes.iter().filter(|n| store.get(&n.key).unwrap().is_some_and(|v| v != n.value));
        let stale: Vec<&Row> = stale.collect();
        assert!(!stale.is_empty());
        stale.into_iter().for_each(|n| batch.put(n.key.clone(), n.value.clone()));
        for (nth, name) in names.iter().enumerate() {
            let mut value = name.value.clone();
            if nth == 0 {
                value[16..20].fill(0xFF);
            }
            batch.put(name.key.clone(), value);
        }
        assert!(right.iter().zip(&names).any(|(a, b)| a.value[16..20] > b.value[16..20]));
        let mut header = store.get(b"v").unwrap().unwrap();
        header[9] ^= 4;
        batch.put(b"v".as_slice(), header);
        store.commit_blocking(batch).unwrap();
    });
    // What an interrupted repair left behind does not count.
    copy_dir(&house.dir.join("data/store"), &house.dir.join("data/store.repaired"));
    let left = House::new(&house.dir.join("left"), EngineChoice::Redb);
    copy_dir(&house.dir.join("data/store"), &left.dir.join("data/store"));
    tamper(&left, |store| {
        let mut batch = Batch::default();
        batch.put(b"z left".as_slice(), b"".as_slice());
        store.commit_blocking(batch).unwrap();
    });
    copy_dir(&left.dir.join("data/store"), &house.dir.join("data/store.repaired"));
    let before = sequence(&house);
    let report = repair(&house.setup(), &SystemClock, false).unwrap();
    assert!(report.whole(), "{report}");
    journal_is_that_of_the_store(&house);
    assert!(sequence(&house) >= before);
    tamper(&house, |store| {
        assert!(rows_of(store, b"z").is_empty() && rows_of(store, b"m") == right);
    });
    whole(&house, "an old store");
    // The journal is old; then its header is damaged.
    for header in [false, true] {
        let again = tempfile::tempdir().unwrap();
        copy_dir(both.path(), again.path());
        let house = House::new(again.path(), EngineChoice::Redb);
        let journal = house.dir.join("data/journal");
        if header {
            let file = std::fs::read_dir(&journal).unwrap().next().unwrap().unwrap().path();
            flip(&file);
        } else {
            std::fs::remove_dir_all(&journal).unwrap();
            copy_dir(&aside, &journal);
        }
        let report = repair(&house.setup(), &SystemClock, false).unwrap();
        assert_eq!((report.whole(), report.journal_trouble.is_some()), (true, header), "{report}");
        assert_eq!(house.dir.join("data/journal.damaged-1").exists(), header);
        journal_is_that_of_the_store(&house);
        whole(&house, "an old journal");
    }
}

fn flip(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[0] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

/// The anchor's newest generation was never answered, and storage lost its rows: the one before it counts.
#[test]
fn a_generation_whose_root_is_nowhere_is_given_up_by_repair_too() {
    let original = Original::new(EngineChoice::Redb);
    let (_dir, mut house) = original.copy();
    house.change = |setup| setup.sabotage = Sabotage::SkipScrub;
    let vault = house.open().unwrap();
    runtime().block_on(erase(&vault, original.live[0].id)).unwrap();
    drop(vault);
    let (_before, lied) = original.copy();
    std::fs::copy(house.dir.join("data/anchor"), lied.dir.join("data/anchor")).unwrap();
    let (report, vault) = repaired(&lied);
    assert!(report.opens(), "{report}");
    original.live.iter().for_each(|k| k.read(&vault).unwrap());
    runtime().block_on(erase(&vault, original.live[0].id)).unwrap();
    vault.close().unwrap();
}

/// A pointer into another tenant would have let the erasure of one record kill another's key.
#[test]
fn a_pointer_into_another_tenant_and_forgotten_writes_are_told() {
    let original = Original::new(EngineChoice::Redb);
    let (_dir, house) = original.copy();
    let vault = house.open().unwrap();
    let other = runtime().block_on(async {
        let (name, all) = ("other", operator(Some("other")));
        vault.create_tenant(&operator(None), slug(name), String::new()).await.unwrap();
        vault.create_schema(&all, name, draft("customer", None)).await.unwrap();
        let app = permit(Role::Application, Some(name));
        let set = fields(&[("note", "theirs")]);
        let record =
            NewRecord { rtype: slug("customer"), subject: None, fields: set, request: None };
        vault.create_record(&app, name, record).await.unwrap().id
    });
    vault.close().unwrap();
    drop(vault);
    let id = original.live[30].id;
    tamper(&house, |store| {
        let mut batch = Batch::default();
        forget(store, &mut batch, &versions(store, id)[0]);
        batch.put(pointer(id), pointing(&versions(store, other)[0]));
        store.commit_blocking(batch).unwrap();
    });
    let store = lethe::store::Redb::open(&house.dir.join("data/store"), 8 << 20).unwrap();
    let early = with_sum([b"LTS1".as_slice(), &1u64.to_be_bytes()].concat());
    store.commit(&[(b"s".to_vec(), Some(early))]).unwrap();
    drop(store);
    let (report, vault) = repaired(&house);
    assert_eq!(report.lost, [("pointers", 1)].into(), "{report}");
    assert!(report.to_string().contains("had forgotten writes"), "{report}");
    assert!(matches!(get(&vault, id), Err(VaultError::NotFound(_))));
    vault.close().unwrap();
    // Nothing is lost here but what the store had forgotten, if anything.
    let (_dir, house) = original.copy();
    let store = lethe::store::Redb::open(&house.dir.join("data/store"), 8 << 20).unwrap();
    let early = with_sum([b"LTS1".as_slice(), &1u64.to_be_bytes()].concat());
    store.commit(&[(b"s".to_vec(), Some(early))]).unwrap();
    drop(store);
    let report = repair(&house.setup(), &SystemClock, true).unwrap();
    assert!(report.lost.is_empty() && !report.whole(), "{report}");
}

/// Rows in memory, one of which cannot be read, nor any range that it is in.
struct Patchy(std::sync::Arc<dyn Engine>, Vec<u8>);

impl Engine for Patchy {
    fn name(&self) -> &'static str {
        "patchy"
    }
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if key == self.1 { Err(StoreError::Io("planned".into())) } else { self.0.get(key) }
    }
    fn scan(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        if start <= self.1.as_slice() && self.1.as_slice() < end {
            return Err(StoreError::Io("planned".into()));
        }
        self.0.scan(start, end, limit)
    }
    fn commit(&self, writes: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), StoreError> {
        self.0.commit(writes)
    }
}

#[test]
fn what_is_beside_an_unreadable_row_is_found() {
    let dir = crate::crash::scratch();
    let rows: std::sync::Arc<dyn Engine> = super::memory();
    let mut house = House::new(dir.path(), EngineChoice::Given(rows.clone()));
    let vault = house.create();
    let rt = runtime();
    rt.block_on(furnish(&vault));
    let all: Vec<RecordId> =
        (0..20).map(|n| rt.block_on(new(&vault, "customer", n, 0)).id).collect();
    vault.close().unwrap();
    drop(vault);
    for id in &all[..10] {
        let at = rows.get(&pointer(*id)).unwrap().unwrap()[4..14].to_vec();
        rows.commit(&[([b"r".as_slice(), &at, &[0, 0]].concat(), None)]).unwrap();
    }
    house.engine = EngineChoice::Given(std::sync::Arc::new(Patchy(rows, pointer(all[15]))));
    let report = repair(&house.setup(), &SystemClock, true).unwrap();
    assert_eq!(report.lost, [("records", 10), ("unreadable ranges of rows", 1)].into(), "{report}");
}
