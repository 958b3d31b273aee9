//! Legal holds: they win over every erasure, and what was asked for meanwhile happens when they end.

mod races;
mod sweeps;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

use lethe::class::{ErasureReason, Role};
use lethe::clock::UnixMillis;
use lethe::id::RecordId;
use lethe::vault::holds::draft::{HoldDraft, ScopeDraft};
use lethe::vault::{
    EngineChoice, Erasure, NewRecord, ReadSpec, Receipt, RecordChange, Vault, VaultError, repair,
};

use crate::crash::scratch;
use crate::house::{House, TENANT, app, fields, furnish, get, permit, put, slug, text, update};
use crate::retention::{Scene, by_hand, is_gone, noon, officer, person, until};

/// A hold without an end, for a reason.
pub fn draft(scope: ScopeDraft) -> HoldDraft {
    HoldDraft {
        scope,
        reason: "litigation".into(),
        issuer: "district court".into(),
        reference: "7 O 12/26".into(),
        readers: BTreeSet::new(),
        expires: None,
    }
}

pub async fn hold(vault: &Vault, scope: ScopeDraft) -> RecordId {
    vault.place_hold(&officer(), TENANT, draft(scope), None).await.unwrap().hold.id
}

pub async fn release(vault: &Vault, hold: RecordId) {
    let note = "the case is closed".to_owned();
    vault.release_hold(&officer(), TENANT, hold, note).await.unwrap();
}

pub async fn erase(vault: &Vault, record: RecordId) -> Erasure<Receipt> {
    let reason = ErasureReason::SubjectRequest;
    vault.erase_records(&app(), TENANT, &[record], reason, None).await.unwrap()
}

pub fn is_restricted(vault: &Vault, record: RecordId) -> bool {
    matches!(get(vault, record), Err(VaultError::Restricted))
}

pub fn by_officer(vault: &Vault, record: RecordId) -> bool {
    vault.get_record(&officer(), TENANT, record, &ReadSpec::default()).is_ok()
}

fn in_city(city: &str) -> ScopeDraft {
    ScopeDraft::Query { rtype: slug("customer"), fields: fields(&[("city", city)]) }
}

#[tokio::test]
async fn an_erasure_of_what_is_held_waits_and_runs_by_itself_when_the_last_hold_ends() {
    let scene = Scene::at("2026-05-10", by_hand);
    let vault = scene.vault().await;
    let record = put(&vault, "customer", person("a")).await.unwrap().id;
    let first = hold(&vault, ScopeDraft::Record(record)).await;
    let second = hold(&vault, ScopeDraft::Record(record)).await;
    assert_eq!(text(&get(&vault, record).unwrap(), "city"), Some("Ulm"), "held is not restricted");

    scene.clock.set(noon("2026-05-12"));
    let asked = erase(&vault, record).await;
    assert_eq!((asked.receipts.len(), asked.postponed.len()), (0, 1));
    assert_eq!(asked.postponed[0].1.requested, noon("2026-05-12"));
    // Only whom the holds name reads it, nobody finds, lists or changes it.
    assert!(is_restricted(&vault, record) && by_officer(&vault, record));
    let found = vault.find_records(
        &app(),
        TENANT,
        &slug("customer"),
        "reference",
        lethe::vault::value::Value::Text("a".into()),
        &ReadSpec::default(),
    );
    assert!(found.unwrap().0.is_empty());
    let listed = vault.list_records::<lethe::authz::ReadRecord>(
        &app(),
        TENANT,
        None,
        None,
        100,
        &ReadSpec::default(),
    );
    assert!(listed.unwrap().views.is_empty());
    let changed = update(&vault, record, fields(&[("city", "Bonn")])).await;
    assert!(matches!(changed, Err(VaultError::Restricted)));
    // Asking again changes nothing: it waits since it was first asked for.
    scene.clock.set(noon("2026-05-13"));
    assert_eq!(erase(&vault, record).await.postponed[0].1.requested, noon("2026-05-12"));

    // Over a restart.
    vault.close().unwrap();
    drop(vault);
    let vault = scene.house.open().unwrap();
    assert!(is_restricted(&vault, record));
    release(&vault, first).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert!(is_restricted(&vault, record), "another hold keeps it");
    let waits = vault.postponed_erasures(&officer(), TENANT, None, 10).unwrap();
    assert_eq!((waits.len(), waits[0].record, &waits[0].holds), (1, record, &vec![second]));
    release(&vault, second).await;
    until("it was erased", || is_gone(&vault, record)).await;
    let told = erase(&vault, record).await.receipts.remove(0);
    assert_eq!(told.reason, ErasureReason::SubjectRequest);
    assert_eq!(told.requested, noon("2026-05-12"), "when it was first asked for");
    assert!(vault.postponed_erasures(&officer(), TENANT, None, 10).unwrap().is_empty());
    vault.close().unwrap();
    drop(vault);
    let left = lethe::store::Engine::scan(&*scene.rows, b"o", b"p", 10).unwrap();
    assert!(left.is_empty(), "its row went with it");
}

#[tokio::test]
async fn of_a_batch_the_rest_goes_at_once_and_a_subject_waits_for_its_held_record() {
    let scene = Scene::at("2026-05-10", by_hand);
    let vault = scene.vault().await;
    let one = put(&vault, "customer", person("a")).await.unwrap();
    let new = NewRecord {
        rtype: slug("visit"),
        subject: Some(one.subject),
        fields: person("b"),
        request: None,
    };
    let two = vault.create_record(&app(), TENANT, new).await.unwrap();
    let kept = hold(&vault, ScopeDraft::Record(one.id)).await;
    let reason = ErasureReason::SubjectRequest;
    let done = vault.erase_subject(&app(), TENANT, one.subject, reason).await.unwrap();
    let gone: Vec<_> = done.receipts.iter().map(|(id, _)| *id).collect();
    let waits: BTreeSet<_> = done.postponed.iter().map(|(id, _)| *id).collect();
    assert_eq!((gone, waits), (vec![two.id], BTreeSet::from([one.id, one.subject])));
    assert!(is_gone(&vault, two.id) && is_restricted(&vault, one.id));
    let subject = |p: &lethe::authz::Permit<_>| vault.get_subject(p, TENANT, one.subject);
    assert!(matches!(subject(&app()), Err(VaultError::Restricted)));
    assert!(subject(&officer()).is_ok());
    // Nothing is added to what is only kept.
    let new = NewRecord {
        rtype: slug("visit"),
        subject: Some(one.subject),
        fields: person("c"),
        request: None,
    };
    let refused = vault.create_record(&app(), TENANT, new).await;
    assert!(matches!(refused, Err(VaultError::Restricted)));
    // The person may come back as somebody new, with the same value in a unique field.
    let again = put(&vault, "customer", person("a")).await.unwrap();
    assert_ne!((again.id, again.subject), (one.id, one.subject));

    // The end of another hold has them looked at: the subject still waits for what is held of it.
    let other = hold(&vault, ScopeDraft::Record(again.id)).await;
    release(&vault, other).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert!(subject(&officer()).is_ok(), "its record is held");
    release(&vault, kept).await;
    until("the record went", || is_gone(&vault, one.id)).await;
    until("the subject went after it", || {
        matches!(subject(&officer()), Err(VaultError::Erased(_)))
    })
    .await;
    assert!(!is_gone(&vault, again.id));
    vault.close().unwrap();
}

#[tokio::test]
async fn a_query_holds_what_it_reached_once_and_what_comes_to_be_reached() {
    let scene = Scene::at("2026-05-10", by_hand);
    let vault = scene.vault().await;
    let ulm = put(&vault, "customer", person("a")).await.unwrap().id;
    let bonn = put(&vault, "customer", fields(&[("reference", "b"), ("city", "Bonn")]));
    let bonn = bonn.await.unwrap().id;
    let by_city = hold(&vault, in_city("Ulm")).await;
    let later = put(&vault, "customer", person("c")).await.unwrap().id;
    // It leaves what the query says, and stays held; the other comes into it.
    update(&vault, ulm, fields(&[("city", "Köln")])).await.unwrap();
    update(&vault, bonn, fields(&[("city", "Ulm")])).await.unwrap();
    assert_eq!(erase(&vault, ulm).await.postponed.len(), 1);
    vault.close().unwrap();
    drop(vault);
    let vault = scene.house.open().unwrap();
    for record in [ulm, bonn, later] {
        assert_eq!(erase(&vault, record).await.postponed.len(), 1);
    }
    let other = put(&vault, "customer", fields(&[("reference", "d"), ("city", "Rom")]));
    let other = other.await.unwrap().id;
    assert_eq!(erase(&vault, other).await.receipts.len(), 1, "the query does not reach it");
    release(&vault, by_city).await;
    for record in [ulm, bonn, later] {
        until("all were erased", || is_gone(&vault, record)).await;
    }
    vault.close().unwrap();
    drop(vault);
    assert!(lethe::store::Engine::scan(&*scene.rows, b"o", b"p", 10).unwrap().is_empty());
}

#[tokio::test]
async fn old_versions_of_what_is_held_are_kept_until_the_hold_ends() {
    let scene = Scene::at("2026-05-10", by_hand);
    let vault = scene.vault().await;
    let record = put(&vault, "customer", person("a")).await.unwrap().id;
    let free = put(&vault, "customer", person("b")).await.unwrap().id;
    let kept = hold(&vault, ScopeDraft::Record(record)).await;
    update(&vault, record, fields(&[("city", "Bonn")])).await.unwrap();
    update(&vault, free, fields(&[("city", "Bonn")])).await.unwrap();
    let copies = || {
        let rows = lethe::store::Engine::scan(&*scene.rows, b"r", b"s", 100).unwrap();
        rows.len()
    };
    // Two customers, their subjects, the hold, and one old version; the other goes.
    until("the free record's old version went", || copies() == 6).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(copies(), 6);
    vault.close().unwrap();
    drop(vault);
    let vault = scene.house.open().unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(copies(), 6, "over a restart");
    release(&vault, kept).await;
    // The hold's own older version goes too.
    until("the old version went", || copies() == 5).await;
    assert_eq!(text(&get(&vault, record).unwrap(), "city"), Some("Bonn"));
    vault.close().unwrap();
}

#[tokio::test]
async fn a_hold_ends_by_its_own_time_and_not_before() {
    let scene = Scene::at("2026-05-10", by_hand);
    let vault = scene.vault().await;
    let record = put(&vault, "customer", person("a")).await.unwrap().id;
    let expires = Some(noon("2026-06-01"));
    let draft = HoldDraft { expires, ..draft(ScopeDraft::Record(record)) };
    let placed = vault.place_hold(&officer(), TENANT, draft, None).await.unwrap().hold;
    assert_eq!(erase(&vault, record).await.postponed.len(), 1);
    scene.clock.set(UnixMillis(noon("2026-06-01").0 - 1));
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert!(is_restricted(&vault, record), "a millisecond early");
    scene.clock.set(noon("2026-06-01"));
    until("it was erased", || is_gone(&vault, record)).await;
    let ended = vault.hold(&officer(), TENANT, placed.id).unwrap().hold;
    let ending = ended.ended.as_ref().unwrap();
    assert_eq!((ending.by.as_deref(), ending.at), (None, noon("2026-06-01")));
    let again = vault.release_hold(&officer(), TENANT, placed.id, "late".into()).await;
    assert!(matches!(again, Err(VaultError::Precondition(_))));
    vault.close().unwrap();
}

#[tokio::test]
async fn only_named_readers_read_what_is_restricted() {
    let scene = Scene::at("2026-05-10", by_hand);
    let vault = scene.vault().await;
    let record = put(&vault, "customer", person("a")).await.unwrap().id;
    let readers = BTreeSet::from([Role::Support]);
    let draft = HoldDraft { readers, ..draft(ScopeDraft::Record(record)) };
    vault.place_hold(&officer(), TENANT, draft, None).await.unwrap();
    erase(&vault, record).await;
    let read = |role| {
        let permit = permit(role, Some(TENANT));
        vault.get_record(&permit, TENANT, record, &ReadSpec::default()).map(drop)
    };
    assert!(matches!(read(Role::Application), Err(VaultError::Restricted)));
    assert!(matches!(read(Role::PrivacyOfficer), Err(VaultError::Restricted)));
    assert!(read(Role::Support).is_ok());
    // Whoever is named reads, and does not change.
    let record = put(&vault, "customer", person("b")).await.unwrap().id;
    let readers = BTreeSet::from([Role::Application]);
    let draft = HoldDraft { readers, ..self::draft(ScopeDraft::Record(record)) };
    vault.place_hold(&officer(), TENANT, draft, None).await.unwrap();
    erase(&vault, record).await;
    assert!(get(&vault, record).is_ok());
    let changed = update(&vault, record, fields(&[("city", "Bonn")])).await;
    assert!(matches!(changed, Err(VaultError::Restricted)));
    vault.close().unwrap();
}

#[tokio::test]
async fn what_is_wrong_with_a_hold_is_said_at_once_and_nothing_is_placed() {
    let scene = Scene::at("2026-05-10", by_hand);
    let vault = scene.vault().await;
    let record = put(&vault, "customer", person("a")).await.unwrap().id;
    let bad = HoldDraft {
        reason: " ".into(),
        issuer: "x".repeat(1_001),
        reference: "a\u{7}b".into(),
        expires: Some(noon("2026-05-09")),
        ..draft(ScopeDraft::Record(record))
    };
    let refused = vault.place_hold(&officer(), TENANT, bad, None).await;
    let Err(VaultError::Hold(found)) = refused else { panic!("it was placed") };
    let paths: Vec<_> = found.iter().map(|v| v.path).collect();
    assert_eq!(paths, ["reason", "issuer", "reference", "expire_time"]);
    let place = |scope| {
        let vault = &vault;
        async move { vault.place_hold(&officer(), TENANT, draft(scope), None).await.map(drop) }
    };
    let nobody = RecordId([7; 16]);
    assert!(matches!(place(ScopeDraft::Record(nobody)).await, Err(VaultError::NotFound(_))));
    assert!(matches!(place(ScopeDraft::Subject(record)).await, Err(VaultError::NotFound(_))));
    let unknown = ScopeDraft::Query { rtype: slug("customer"), fields: fields(&[("shoe", "1")]) };
    assert!(matches!(place(unknown).await, Err(VaultError::Fields(_))));
    let no_type = ScopeDraft::Query { rtype: slug("nothing"), fields: BTreeMap::new() };
    assert!(matches!(place(no_type).await, Err(VaultError::NotFound(_))));
    let gone = put(&vault, "customer", person("b")).await.unwrap().id;
    erase(&vault, gone).await;
    assert!(matches!(place(ScopeDraft::Record(gone)).await, Err(VaultError::Erased(_))));
    let kept = hold(&vault, ScopeDraft::Record(record)).await;
    let unsaid = vault.release_hold(&officer(), TENANT, kept, "  ".into()).await;
    assert!(matches!(unsaid, Err(VaultError::Argument { field: "note", .. })));
    // A hold is no record, and none is answered as one.
    let as_record = vault.get_record(&officer(), TENANT, kept, &ReadSpec::default());
    assert!(matches!(as_record, Err(VaultError::NotFound(_))));
    let erased = ErasureReason::SubjectRequest;
    let erased = vault.erase_records(&app(), TENANT, &[kept], erased, None).await;
    assert!(matches!(erased, Err(VaultError::NotFound(_))));
    let change = RecordChange {
        record: kept,
        etag: None,
        set: person("x"),
        remove: Vec::new(),
        replace: false,
        request: None,
    };
    let changed = vault.update_record(&app(), TENANT, change).await;
    assert!(matches!(changed, Err(VaultError::NotFound(_))));
    let (all, _) = vault.holds(&officer(), TENANT, true, None, 100).unwrap();
    assert_eq!(all.len(), 1);
    vault.close().unwrap();
}

/// A hold that nobody can read may be on anything.
#[tokio::test]
async fn a_hold_that_does_not_open_holds_everything_of_its_tenant_and_the_status_says_so() {
    // A byte of what is sealed, then of the header that names it.
    for at in [100, 20] {
        let scene = Scene::at("2026-05-10", by_hand);
        let vault = scene.vault().await;
        let held = put(&vault, "customer", person("a")).await.unwrap().id;
        hold(&vault, in_city("Ulm")).await;
        update(&vault, held, fields(&[("city", "Köln")])).await.unwrap();
        let other =
            |name| put(&vault, "customer", fields(&[("reference", name), ("city", "Bonn")]));
        let gone = other("b").await.unwrap().id;
        assert_eq!(erase(&vault, gone).await.receipts.len(), 1, "control: the hold is not on it");
        let other = other("c").await.unwrap().id;
        vault.close().unwrap();
        drop(vault);
        let rows = lethe::store::Engine::scan(&*scene.rows, b"r", b"s", 100).unwrap();
        let is_hold = |value: &[u8]| value[42..44] == (u16::MAX - 1).to_be_bytes();
        let row = rows.into_iter().find(|row| is_hold(&row.value)).unwrap();
        let mut spoilt = row.value.clone();
        spoilt[at] ^= 1;
        let write = |value| {
            lethe::store::Engine::commit(&*scene.rows, &[(row.key.clone(), Some(value))]).unwrap();
        };
        write(spoilt);
        let vault = scene.house.open().unwrap();
        assert_eq!(erase(&vault, other).await.postponed.len(), 1, "byte {at}");
        let status = vault.status(&permit(Role::Auditor, None)).unwrap();
        assert!(status.warnings.iter().any(|w| w.contains("legal holds do not open")), "byte {at}");
        vault.close().unwrap();
        drop(vault);
        // It is restored: what it reached once it still holds.
        write(row.value.clone());
        let vault = scene.house.open().unwrap();
        assert_eq!(erase(&vault, held).await.postponed.len(), 1, "byte {at}");
        vault.close().unwrap();
    }
}

#[tokio::test]
async fn a_repair_keeps_what_is_held_and_what_waits() {
    let dir = scratch();
    let house = House::new(dir.path(), EngineChoice::Redb);
    let vault = house.create();
    furnish(&vault).await;
    let bound = put(&vault, "customer", person("a")).await.unwrap().id;
    let by_query = hold(&vault, in_city("Ulm")).await;
    update(&vault, bound, fields(&[("city", "Köln")])).await.unwrap();
    let named = fields(&[("reference", "b"), ("city", "Bonn")]);
    let named = put(&vault, "customer", named).await.unwrap().id;
    let by_name = hold(&vault, ScopeDraft::Record(named)).await;
    assert_eq!(erase(&vault, named).await.postponed.len(), 1);
    vault.close().unwrap();
    drop(vault);
    repair(&house.setup(), &*house.clock, false).unwrap();
    let vault = house.open().unwrap();
    assert_eq!(erase(&vault, bound).await.postponed.len(), 1, "it was bound by its query");
    assert!(is_restricted(&vault, named));
    release(&vault, by_name).await;
    until("what waited was erased", || is_gone(&vault, named)).await;
    assert!(is_restricted(&vault, bound));
    release(&vault, by_query).await;
    until("what waited was erased", || is_gone(&vault, bound)).await;
    vault.close().unwrap();
}
