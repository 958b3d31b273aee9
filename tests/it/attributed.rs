//! An erasure of a subject leaves nothing of the subject behind, also where records do not open: either they are known
//! to be the subject's and go too, or the erasure is refused until they are dealt with.

use std::sync::Arc;

use lethe::class::{ErasureReason, Role};
use lethe::id::RecordId;
use lethe::keys::path::NodeKind;
use lethe::keys::rows::prefix_end;
use lethe::store::{Engine, Memory};
use lethe::vault::value::Value;
use lethe::vault::{EngineChoice, NewRecord, ReadSpec, Vault, VaultError, repair};
use tempfile::TempDir;

use crate::crash::scratch;
use crate::house::{House, TENANT, app, fields, furnish, get, permit, slug};

struct Scene {
    _dir: TempDir,
    rows: Arc<Memory>,
    house: House,
    rt: tokio::runtime::Runtime,
    /// Subjects with their records.
    about: Vec<(RecordId, Vec<RecordId>)>,
}

fn new(subject: RecordId, reference: &str) -> NewRecord {
    let fields = fields(&[("reference", reference), ("city", "c"), ("note", "x")]);
    NewRecord { rtype: slug("customer"), subject: Some(subject), fields, request: None }
}

impl Scene {
    /// A closed vault with three records about each of so many subjects.
    fn new(subjects: usize) -> Self {
        let dir = scratch();
        let rows = Arc::new(Memory::new());
        let house = House::new(dir.path(), EngineChoice::Given(rows.clone()));
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let vault = house.create();
        let about = rt.block_on(async {
            furnish(&vault).await;
            let mut about = Vec::new();
            for s in 0..subjects {
                let subject = vault.create_subject(&app(), TENANT, None).await.unwrap().id;
                let mut records = Vec::new();
                for n in 0..3 {
                    let new = new(subject, &format!("{s}-{n}"));
                    records.push(vault.create_record(&app(), TENANT, new).await.unwrap().id);
                }
                about.push((subject, records));
            }
            about
        });
        vault.close().unwrap();
        Self { _dir: dir, rows, house, rt, about }
    }

    fn row_of(&self, record: RecordId) -> (Vec<u8>, Vec<u8>) {
        let all = self.rows.scan(b"r", b"s", usize::MAX).unwrap();
        let own = all.into_iter().find(|r| r.value[18..34] == record.0).unwrap();
        (own.key, own.value)
    }

    fn write(&self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.rows.commit(&[(key, value)]).unwrap();
    }

    /// Changes one bit of the sealed part, or of the header that names the record.
    fn spoil(&self, record: RecordId, at: usize) {
        let (key, mut value) = self.row_of(record);
        value[at] ^= 1;
        self.write(key, Some(value));
    }

    fn erase_subject(&self, vault: &Vault, n: usize) -> Result<Vec<RecordId>, VaultError> {
        let (subject, reason) = (self.about[n].0, ErasureReason::SubjectRequest);
        let erased = self.rt.block_on(vault.erase_subject(&app(), TENANT, subject, reason))?;
        let mut erased: Vec<RecordId> = erased.receipts.into_iter().map(|(id, _)| id).collect();
        assert_eq!(erased.remove(0), subject);
        erased.sort();
        Ok(erased)
    }

    fn erase(&self, vault: &Vault, record: RecordId) {
        let reason = ErasureReason::SubjectRequest;
        let erased = self.rt.block_on(vault.erase_records(&app(), TENANT, &[record], reason, None));
        assert_eq!(erased.unwrap().receipts.len(), 1);
    }

    fn sorted(&self, n: usize) -> Vec<RecordId> {
        let mut records = self.about[n].1.clone();
        records.sort();
        records
    }
}

fn damaged(vault: &Vault) -> Vec<RecordId> {
    let spec = ReadSpec::default();
    vault
        .list_records(&app::<lethe::authz::ReadRecord>(), TENANT, None, None, 1000, &spec)
        .unwrap()
        .damaged
}

fn find_is_incomplete(vault: &Vault) -> bool {
    let (customer, spec) = (slug("customer"), ReadSpec::default());
    let value = Value::Text("nowhere".into());
    vault.find_records(&app(), TENANT, &customer, "city", value, &spec).unwrap().1
}

fn warned(vault: &Vault) -> bool {
    let warnings = vault.status(&permit(Role::Auditor, None)).unwrap().warnings;
    warnings.iter().any(|w| w.contains("do not open"))
}

fn is_refused(outcome: Result<Vec<RecordId>, VaultError>) -> bool {
    match outcome {
        Err(VaultError::Precondition(why)) => why.contains("may be the subject's"),
        Err(e) => panic!("{e:?}"),
        Ok(_) => false,
    }
}

#[test]
fn a_damaged_record_that_nothing_attributes_holds_up_every_subject_until_it_is_erased() {
    for (at, clean) in [(70, true), (20, true), (70, false)] {
        let scene = Scene::new(2);
        let lost = scene.about[0].1[1];
        scene.spoil(lost, at);
        if !clean {
            // As after a crash: the slots that no row names are erased, this one is named.
            drop(scene.house.open().unwrap());
        }
        let vault = scene.house.open().unwrap();
        assert!(warned(&vault) && find_is_incomplete(&vault));
        for n in 0..2 {
            assert!(is_refused(scene.erase_subject(&vault, n)), "byte {at}");
            get(&vault, scene.about[n].1[0]).unwrap();
        }
        assert_eq!(damaged(&vault), [lost], "byte {at}");
        scene.erase(&vault, lost);
        assert!(!warned(&vault) && !find_is_incomplete(&vault) && damaged(&vault).is_empty());
        let rest: Vec<_> = scene.sorted(0).into_iter().filter(|r| *r != lost).collect();
        assert_eq!(scene.erase_subject(&vault, 0).unwrap(), rest);
        assert_eq!(scene.erase_subject(&vault, 1).unwrap(), scene.sorted(1));
        vault.close().unwrap();
    }
}

#[test]
fn a_damaged_record_that_is_put_back_holds_up_nobody() {
    let scene = Scene::new(1);
    let lost = scene.about[0].1[2];
    let (key, value) = scene.row_of(lost);
    scene.spoil(lost, 70);
    let vault = scene.house.open().unwrap();
    assert!(is_refused(scene.erase_subject(&vault, 0)));
    scene.write(key, Some(value));
    assert!(!warned(&vault));
    vault.close().unwrap();
    drop(vault);
    let vault = scene.house.open().unwrap();
    assert_eq!(scene.erase_subject(&vault, 0).unwrap(), scene.sorted(0));
    vault.close().unwrap();
}

/// Where a run lists the version the index says whose it is, and that a unique value is taken.
#[test]
fn a_damaged_record_that_the_index_lists_goes_with_its_subject_and_keeps_its_value() {
    let scene = Scene::new(60);
    let (own, lost) = (3, scene.about[3].1[0]);
    for whole in [false, true] {
        let (key, value) = scene.row_of(lost);
        if whole {
            scene.write(key.clone(), None);
        } else {
            scene.spoil(lost, 70);
        }
        let vault = scene.house.open().unwrap();
        assert_eq!(damaged(&vault), [lost]);
        let double = new(scene.about[4].0, &format!("{own}-0"));
        let double = scene.rt.block_on(vault.create_record(&app(), TENANT, double)).map(drop);
        assert!(matches!(double, Err(VaultError::Duplicate { record, .. }) if record == lost));
        assert_eq!(scene.erase_subject(&vault, 50 + usize::from(whole)).unwrap().len(), 3);
        if whole {
            assert_eq!(scene.erase_subject(&vault, own).unwrap(), scene.sorted(own));
            assert!(matches!(get(&vault, lost), Err(VaultError::Erased(_))));
        }
        vault.close().unwrap();
        drop(vault);
        if !whole {
            scene.write(key, Some(value));
        }
    }
}

/// Found by a scene whose damaged page no run covered: the next clean stop wrote a run over that page, and from then on
/// no start looked at it again. The subject was erased around the record.
#[test]
fn a_damaged_record_is_not_forgotten_when_a_run_is_written_behind_it() {
    let scene = Scene::new(2);
    let lost = scene.about[0].1[1];
    scene.spoil(lost, 70);
    for start in 0..4 {
        let vault = scene.house.open().unwrap();
        for n in 0..2 {
            assert!(is_refused(scene.erase_subject(&vault, n)), "start {start}");
        }
        assert!(warned(&vault), "start {start}");
        vault.close().unwrap();
    }
    let vault = scene.house.open().unwrap();
    scene.erase(&vault, lost);
    vault.close().unwrap();
    drop(vault);
    let vault = scene.house.open().unwrap();
    assert_eq!(scene.erase_subject(&vault, 1).unwrap(), scene.sorted(1));
    vault.close().unwrap();
}

/// The same where an index was lost too and is made anew: its runs cover no page with damage either. This scene also
/// found that what was listed again was listed a second time by the next start, where its last part was written before
/// the last page.
#[test]
fn a_damaged_record_is_not_forgotten_when_its_index_is_made_anew() {
    let scene = Scene::new(60);
    let lost = scene.about[30].1[0];
    scene.spoil(lost, 70);
    let runs = [b'k', NodeKind::Run as u8];
    for row in scene.rows.scan(&runs, &prefix_end(&runs), usize::MAX).unwrap() {
        scene.write(row.key, None);
    }
    std::fs::remove_dir_all(scene.house.dir.join("data/journal")).unwrap();
    for start in 0..3 {
        let vault = scene.house.open().unwrap();
        let rebuilt = || {
            let counters = vault.status(&permit(Role::Auditor, None)).unwrap().counters;
            // That of subjects, and that of customers.
            counters.iter().any(|(name, n)| *name == "indexes_rebuilt" && *n == 2)
        };
        let since = std::time::Instant::now();
        while start == 0 && !rebuilt() {
            assert!(since.elapsed() < crate::peer::PATIENCE, "no index was made anew");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        for n in [2, 30] {
            assert!(is_refused(scene.erase_subject(&vault, n)), "start {start}");
        }
        let (customer, spec) = (slug("customer"), ReadSpec::default());
        let value = Value::Text("c".into());
        let found = vault.find_records(&app(), TENANT, &customer, "city", value, &spec).unwrap();
        assert_eq!(found.0.len(), 179, "start {start}: the others are found");
        vault.close().unwrap();
    }
}

/// The index says that there is a record of the subject, and the damaged header names another one.
#[test]
fn a_record_whose_header_names_another_holds_up_its_subject() {
    // In a run; and where only the records themselves say what there is: a page that is not full stays in the tail.
    for (subjects, own, foreign) in [(60, 3, 2), (2, 1, 0)] {
        let scene = Scene::new(subjects);
        let (key, mut value) = scene.row_of(scene.about[own].1[0]);
        for other in [scene.about[foreign].1[0], scene.about[own].1[1], RecordId([9; 16])] {
            value[18..34].copy_from_slice(&other.0);
            scene.write(key.clone(), Some(value.clone()));
            let vault = scene.house.open().unwrap();
            assert!(is_refused(scene.erase_subject(&vault, own)));
            vault.close().unwrap();
        }
    }
}

#[test]
fn records_on_a_lost_page_of_keys_hold_up_every_subject() {
    let scene = Scene::new(2);
    let page = [b'k', NodeKind::Page as u8];
    let pages = scene.rows.scan(&page, &prefix_end(&page), usize::MAX).unwrap();
    // Of the bucket of customers: the tenant's first, after that of subjects.
    let lost = pages.iter().find(|r| r.key[7] == 1).unwrap();
    scene.write(lost.key.clone(), Some(vec![0; 40]));
    std::fs::remove_dir_all(scene.house.dir.join("data/journal")).unwrap();
    for start in 0..3 {
        let vault = scene.house.open().unwrap();
        assert!(warned(&vault), "start {start}");
        assert!(is_refused(scene.erase_subject(&vault, 0)), "start {start}");
        vault.close().unwrap();
    }
}

/// What a repair could not save is known to be missing: it is named, and no subject is erased around it.
#[test]
fn what_a_repair_lost_is_named_and_holds_up_every_subject_until_it_is_erased() {
    let dir = scratch();
    let house = House::new(dir.path(), EngineChoice::Redb);
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let vault = house.create();
    let (subject, record) = rt.block_on(async {
        furnish(&vault).await;
        let subject = vault.create_subject(&app(), TENANT, None).await.unwrap().id;
        let made = vault.create_record(&app(), TENANT, new(subject, "1")).await.unwrap().id;
        vault.create_record(&app(), TENANT, new(subject, "2")).await.unwrap();
        (subject, made)
    });
    vault.close().unwrap();
    drop(vault);
    crate::faults::tamper(&house, |store| {
        let all = store.scan(b"r", b"s", usize::MAX).unwrap();
        let own = all.into_iter().find(|r| r.value[18..34] == record.0).unwrap();
        let mut batch = lethe::store::Batch::default();
        batch.delete(own.key);
        store.commit_blocking(batch).unwrap();
    });
    let report = repair(&house.setup(), &lethe::clock::SystemClock, false).unwrap();
    assert_eq!(report.lost.get("records"), Some(&1), "{report}");
    let vault = house.open().unwrap();
    assert!(warned(&vault));
    assert_eq!(damaged(&vault), [record]);
    let reason = ErasureReason::SubjectRequest;
    let whole = app();
    let erase = || rt.block_on(vault.erase_subject(&whole, TENANT, subject, reason));
    assert!(matches!(erase().map(drop), Err(VaultError::Precondition(_))));
    let permit = app();
    let names = [record];
    let by_name = vault.erase_records(&permit, TENANT, &names, reason, None);
    assert_eq!(rt.block_on(by_name).unwrap().receipts.len(), 1);
    assert_eq!(erase().unwrap().receipts.len(), 2);
    vault.close().unwrap();
}
