//! A field is made indexed, or not any more, or unique, while records come, change and go; and a crash falls anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lethe::authz::ReadRecord;
use lethe::class::ErasureReason;
use lethe::id::RecordId;
use lethe::store::{Engine, Memory};
use lethe::vault::schema::{FieldProblem, Parts, SchemaDraft, SchemaProblem};
use lethe::vault::value::Value;
use lethe::vault::{EngineChoice, ReadSpec, Vault, VaultError};
use tempfile::TempDir;

use crate::crash::attack::{attack, judge_final};
use crate::crash::scratch;
use crate::house::{House, TENANT, app, draft, fields, operator, put, slug, update};
use crate::peer::PATIENCE;

struct Scene {
    dir: TempDir,
    rows: Arc<Memory>,
    house: House,
    rt: tokio::runtime::Runtime,
    /// What each record's note is.
    notes: BTreeMap<RecordId, String>,
}

/// The type with its note as the test wants it.
fn customer(indexed: bool, unique: bool) -> SchemaDraft {
    let mut draft = draft("customer", Some("P3Y"));
    draft.fields[2].max_bytes = 100;
    (draft.fields[2].indexed, draft.fields[2].unique) = (indexed, unique);
    draft
}

impl Scene {
    fn new() -> (Self, Vault) {
        let dir = scratch();
        let rows = Arc::new(Memory::new());
        let mut house = House::new(dir.path(), EngineChoice::Given(rows.clone()));
        // A page at each step, so that there is something to be in the middle of.
        house.change = |setup| setup.index_build_pages = 1;
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let vault = house.create();
        rt.block_on(async {
            vault.create_tenant(&operator(None), slug(TENANT), "Acme".into()).await.unwrap();
            let draft = customer(false, false);
            vault.create_schema(&operator(Some(TENANT)), TENANT, draft).await.unwrap();
        });
        (Self { dir, rows, house, rt, notes: BTreeMap::new() }, vault)
    }

    fn put(&mut self, vault: &Vault, note: &str) -> RecordId {
        let view = self.rt.block_on(put(vault, "customer", fields(&[("note", note)]))).unwrap();
        self.notes.insert(view.id, note.to_owned());
        view.id
    }

    fn rename(&mut self, vault: &Vault, record: RecordId, note: &str) {
        self.rt.block_on(update(vault, record, fields(&[("note", note)]))).unwrap();
        self.notes.insert(record, note.to_owned());
    }

    fn erase(&mut self, vault: &Vault, record: RecordId) {
        let reason = ErasureReason::SubjectRequest;
        let erased = self.rt.block_on(vault.erase_records(&app(), TENANT, &[record], reason, None));
        assert_eq!(erased.unwrap().receipts.len(), 1);
        self.notes.remove(&record);
    }

    fn set(&self, vault: &Vault, indexed: bool, unique: bool) -> Result<(), VaultError> {
        let (permit, parts) = (operator(Some(TENANT)), Parts::whole());
        let changed = vault.update_schema(&permit, TENANT, customer(indexed, unique), &parts);
        self.rt.block_on(changed).map(drop)
    }

    /// Everything is found by its note, once, and nothing else.
    fn all_is_found(&self, vault: &Vault) {
        let mut expected = BTreeMap::<&str, BTreeSet<RecordId>>::new();
        for (record, note) in &self.notes {
            expected.entry(note).or_default().insert(*record);
        }
        for note in expected.keys().chain(&["gone", "never"]) {
            let found = find(vault, note).unwrap();
            let distinct: BTreeSet<RecordId> = found.iter().copied().collect();
            assert_eq!(found.len(), distinct.len(), "{note}: something is listed twice");
            assert_eq!(distinct, expected.get(note).cloned().unwrap_or_default(), "{note}");
        }
    }

    /// No listing names a version that is gone: the independent reader looks at every row there is.
    fn no_listing_is_left(&self) {
        let rows = self.rows.scan(&[0], &[0xff; 32], usize::MAX).unwrap();
        let regions =
            rows.iter().enumerate().map(|(n, r)| (1, (n as u64) << 20, r.value.as_slice()));
        let anchor = std::fs::read(self.dir.path().join("data/anchor")).unwrap();
        let home = scratch();
        let opened = attack(home.path(), regions, &anchor, (self.dir.path(), &[]), false);
        assert!(opened.listed.len() >= self.notes.len(), "control: it sees the listings");
        judge_final(&opened).unwrap();
    }
}

fn find(vault: &Vault, note: &str) -> Result<Vec<RecordId>, VaultError> {
    let (customer, spec) = (slug("customer"), ReadSpec::default());
    let value = Value::Text(note.into());
    let permit = app::<ReadRecord>();
    let found = vault.find_records(&permit, TENANT, &customer, "note", value, &spec)?.0;
    Ok(found.into_iter().map(|view| view.id).collect())
}

fn is_changing(vault: &Vault) -> bool {
    let permit = operator(Some(TENANT));
    vault.get_schema(&permit, TENANT, &slug("customer")).unwrap().is_changing()
}

fn percent(vault: &Vault) -> u8 {
    vault.index_percent(&operator(Some(TENANT)), TENANT, &slug("customer")).unwrap()
}

fn settle(vault: &Vault) {
    let since = Instant::now();
    while is_changing(vault) {
        assert!(since.elapsed() < PATIENCE, "the index is never what the schema says");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(percent(vault), 100);
}

fn is_too_early(outcome: Result<Vec<RecordId>, VaultError>) -> bool {
    matches!(outcome, Err(VaultError::Precondition(why)) if why.contains("still being built"))
}

fn is_not_indexed(outcome: Result<Vec<RecordId>, VaultError>) -> bool {
    matches!(outcome, Err(VaultError::Fields(v)) if v[0].problem == FieldProblem::NotIndexed)
}

#[test]
fn a_field_goes_into_the_index_and_out_while_everything_goes_on() {
    let (mut scene, vault) = Scene::new();
    let old: Vec<RecordId> = (0..400).map(|n| scene.put(&vault, &format!("n{}", n % 40))).collect();
    assert!(is_not_indexed(find(&vault, "n1")));
    scene.set(&vault, true, false).unwrap();
    assert!(is_changing(&vault) && percent(&vault) < 100 && is_too_early(find(&vault, "n1")));
    // On pages that are done and on those that are not: new ones, changed ones, and ones that go.
    let mut newer = Vec::new();
    for n in 0..30 {
        newer.push(scene.put(&vault, &format!("n{}", n % 40)));
        scene.rename(&vault, old[n * 13], &format!("m{n}"));
        scene.erase(&vault, old[n * 13 + 1]);
    }
    assert!(is_changing(&vault), "it was done before anything happened");
    settle(&vault);
    scene.all_is_found(&vault);
    scene.no_listing_is_left();

    scene.set(&vault, false, false).unwrap();
    assert!(is_changing(&vault) && is_not_indexed(find(&vault, "n1")));
    for n in 0..30 {
        scene.put(&vault, "n1");
        scene.rename(&vault, old[n * 13 + 2], "gone");
        scene.erase(&vault, old[n * 13 + 3]);
        scene.erase(&vault, old[399 - n * 13]);
    }
    assert!(is_changing(&vault), "it was done before anything happened");
    settle(&vault);
    // From now on no erasure looks for the field: what the tail had of it came into no run, and what runs had is gone.
    for _ in 0..300 {
        scene.put(&vault, "n1");
    }
    std::thread::sleep(Duration::from_millis(400));
    for n in 0..25 {
        scene.erase(&vault, newer[n]);
        scene.erase(&vault, old[n * 13 + 4]);
    }
    scene.no_listing_is_left();
    vault.close().unwrap();
    drop(vault);

    let vault = scene.house.open().unwrap();
    assert!(is_not_indexed(find(&vault, "n1")) && !is_changing(&vault));
    scene.set(&vault, true, false).unwrap();
    settle(&vault);
    for record in scene.notes.keys().copied().take(50).collect::<Vec<_>>() {
        scene.erase(&vault, record);
    }
    // Superseded versions go with the stop.
    vault.close().unwrap();
    drop(vault);
    scene.no_listing_is_left();
    let vault = scene.house.open().unwrap();
    let renamed: Vec<RecordId> =
        scene.notes.iter().filter(|(_, note)| *note == "gone").map(|(r, _)| *r).collect();
    for record in renamed {
        scene.rename(&vault, record, "back");
    }
    scene.all_is_found(&vault);
    vault.close().unwrap();
}

#[test]
fn a_crash_anywhere_in_it_is_gone_on_from() {
    let (mut scene, mut vault) = Scene::new();
    for n in 0..400 {
        scene.put(&vault, &format!("n{}", n % 40));
    }
    let mut interrupted = 0;
    for round in 0..12 {
        let on = round % 2 == 0;
        scene.set(&vault, on, false).unwrap();
        std::thread::sleep(Duration::from_millis(40 * round));
        interrupted += usize::from(is_changing(&vault));
        // A vault that is dropped is one that crashed.
        drop(vault);
        vault = scene.house.open().unwrap();
        let record = *scene.notes.keys().next().unwrap();
        scene.erase(&vault, record);
        scene.put(&vault, "n1");
        settle(&vault);
        scene.no_listing_is_left();
        if on {
            scene.all_is_found(&vault);
        } else {
            assert!(is_not_indexed(find(&vault, "n1")));
        }
    }
    assert!(interrupted > 4, "only {interrupted} crashes fell into the middle");
    vault.close().unwrap();
}

#[test]
fn a_change_of_mind_counts_from_where_it_falls() {
    let (mut scene, vault) = Scene::new();
    for n in 0..400 {
        scene.put(&vault, &format!("n{}", n % 40));
    }
    for _ in 0..3 {
        for on in [true, false, true] {
            scene.set(&vault, on, false).unwrap();
            std::thread::sleep(Duration::from_millis(150));
        }
        assert!(is_changing(&vault));
        settle(&vault);
        scene.all_is_found(&vault);
        scene.set(&vault, false, false).unwrap();
    }
    settle(&vault);
    scene.no_listing_is_left();
    vault.close().unwrap();
}

#[test]
fn a_field_becomes_unique_only_where_its_values_are() {
    let (mut scene, vault) = Scene::new();
    let first: Vec<RecordId> = (0..300).map(|n| scene.put(&vault, &format!("n{n}"))).collect();
    let turned_on = |outcome: Result<(), VaultError>| match outcome {
        Err(VaultError::Schema(v)) => v[0].problem == SchemaProblem::UniqueTurnedOn,
        _ => false,
    };
    assert!(turned_on(scene.set(&vault, true, true)), "without an index");
    scene.set(&vault, true, false).unwrap();
    assert!(turned_on(scene.set(&vault, true, true)), "before the index is whole");
    settle(&vault);
    // Old versions have the value too, and do not count.
    scene.rename(&vault, first[7], "other");
    scene.rename(&vault, first[8], "n7");
    let second = scene.put(&vault, "n200");
    let pairs = match scene.set(&vault, true, true) {
        Err(VaultError::NotUnique { field, pairs }) if field == "note" => pairs,
        other => panic!("{:?}", other.err()),
    };
    assert_eq!(pairs, [(first[200], second)]);
    // Refused, it changed nothing.
    let third = scene.put(&vault, "n200");
    assert_eq!(find(&vault, "n200").unwrap().len(), 3);
    scene.erase(&vault, second);
    scene.rename(&vault, third, "n1000");
    scene.set(&vault, true, true).unwrap();
    let double = scene.rt.block_on(put(&vault, "customer", fields(&[("note", "n200")]))).map(drop);
    assert!(matches!(double, Err(VaultError::Duplicate { record, .. }) if record == first[200]));
    vault.close().unwrap();
    drop(vault);
    let vault = scene.house.open().unwrap();
    let double = scene.rt.block_on(put(&vault, "customer", fields(&[("note", "n7")]))).map(drop);
    assert!(matches!(double, Err(VaultError::Duplicate { record, .. }) if record == first[8]));
    vault.close().unwrap();
}

/// Two puts of one value, one on each side of the change: one of them loses, or the change does.
#[test]
fn no_put_slips_through_while_a_field_becomes_unique() {
    for round in 0..20 {
        let (mut scene, vault) = Scene::new();
        for n in 0..40 {
            scene.put(&vault, &format!("n{n}"));
        }
        scene.set(&vault, true, false).unwrap();
        settle(&vault);
        let vault = Arc::new(vault);
        let rt = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (changed, puts) = rt.block_on(async {
            let putting = |pause| {
                let vault = vault.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_micros(pause)).await;
                    put(&vault, "customer", fields(&[("note", "same")])).await.is_ok()
                })
            };
            let puts = [putting(round * 100), putting(round * 150)];
            let (permit, parts) = (operator(Some(TENANT)), Parts::whole());
            let changed = vault.update_schema(&permit, TENANT, customer(true, true), &parts).await;
            let mut done = 0;
            for put in puts {
                done += usize::from(put.await.unwrap());
            }
            (changed.is_ok(), done)
        });
        assert!(puts >= 1 && !(changed && puts == 2), "round {round}: two records of one value");
        vault.close().unwrap();
    }
}
