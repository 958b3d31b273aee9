//! What shares an erasure batch, and what a batch that cannot be keeps as it was.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lethe::class::{ErasureReason, Role};
use lethe::id::RecordId;
use lethe::keys::KeyError;
use lethe::keys::path::NodeKind;
use lethe::store::faulty::{Faulty, Plan};
use lethe::store::{Engine, Memory};
use lethe::vault::{EngineChoice, RecordView, Vault, VaultError};

use crate::crash::scratch;
use crate::house::{House, TENANT, app, fields, furnish, get, operator, permit, put, slug, update};
use crate::peer::PATIENCE;

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn visit(vault: &Vault, n: usize) -> RecordView {
    let reference = format!("r{n}");
    let set = fields(&[("reference", &reference), ("city", "c"), ("note", "note")]);
    put(vault, "visit", set).await.unwrap()
}

async fn erase(vault: &Vault, id: RecordId) -> Result<(), VaultError> {
    let reason = ErasureReason::SubjectRequest;
    vault.erase_records(&app(), TENANT, &[id], reason, None).await.map(drop)
}

#[test]
fn reads_are_refused_as_soon_as_a_kill_waits_for_the_puts_under_way() {
    let dir = scratch();
    let plan = Arc::new(Plan::default());
    let engine = Faulty::new(Arc::new(Memory::new()), Arc::clone(&plan));
    let house = House::new(dir.path(), EngineChoice::Given(Arc::new(engine)));
    let vault = Arc::new(house.create());
    let rt = runtime();
    let first = rt.block_on(async {
        furnish(&vault).await;
        visit(&vault, 0).await
    });
    let hold = plan.hold();
    let second = rt.spawn({
        let vault = vault.clone();
        async move { visit(&vault, 1).await }
    });
    until("the put does not reach the engine", || plan.waiting() > 0);
    get(&vault, first.id).unwrap();
    let day = first.expires;
    let kill = rt.spawn({
        let vault = vault.clone();
        async move {
            let permit = operator(Some(TENANT));
            let reason = ErasureReason::Retention;
            vault.erase_bucket(&permit, TENANT, &slug("visit"), day, reason).await
        }
    });
    until("a bucket that waits for its kill is read", || {
        matches!(get(&vault, first.id), Err(VaultError::Erased("record")))
    });
    assert!(!kill.is_finished() && !second.is_finished());
    drop(hold);
    let second = rt.block_on(second).unwrap();
    rt.block_on(kill).unwrap().unwrap();
    for id in [first.id, second.id] {
        let seen = get(&vault, id);
        assert!(matches!(seen, Err(VaultError::Erased(_) | VaultError::NotFound(_))));
    }
    // The next put of the day goes into a bucket of its own.
    let third = rt.block_on(visit(&vault, 2));
    assert_eq!(third.expires, day);
    get(&vault, third.id).unwrap();
    vault.close().unwrap();
}

/// Destroys a key page's row, which the node journal does not have either.
fn lose_page(house: &House, rows: &Memory, page: u8) {
    let end = lethe::keys::rows::prefix_end(&[b'k', NodeKind::Page as u8]);
    let pages = rows.scan(&[b'k', NodeKind::Page as u8], &end, usize::MAX).unwrap();
    let customers = |key: &[u8]| key[7] == 1 && key[12..15] == [0, 0, page];
    let row = pages.into_iter().find(|r| customers(&r.key)).expect("no such page");
    rows.commit(&[(row.key, Some(vec![0; 40]))]).unwrap();
    std::fs::remove_dir_all(house.dir.join("data/journal")).unwrap();
}

fn pending(vault: &Vault) -> u64 {
    vault.status(&permit(Role::Operator, None)).unwrap().pending_erasures
}

#[test]
fn a_lost_page_fails_the_erasures_of_its_own_records_only() {
    let dir = scratch();
    let rows = Arc::new(Memory::new());
    let house = House::new(dir.path(), EngineChoice::Given(rows.clone()));
    let rt = runtime();
    let vault = house.create();
    let mut ids = rt.block_on(async {
        furnish(&vault).await;
        let mut ids = Vec::new();
        for n in 0..60 {
            let reference = format!("r{n}");
            let set = fields(&[("reference", &reference), ("city", "c"), ("note", "note")]);
            ids.push(put(&vault, "customer", set).await.unwrap().id);
        }
        // The old versions of the first page's records: their erasure waits when the page is lost.
        for id in &ids[2..4] {
            update(&vault, *id, fields(&[("note", "new")])).await.unwrap();
        }
        ids
    });
    drop(vault);
    lose_page(&house, &rows, 0);
    let vault = Arc::new(house.open().unwrap());
    assert_eq!(pending(&vault), 2);
    let (moved, lost): (Vec<RecordId>, Vec<RecordId>) =
        ids.drain(..8).partition(|id| get(&vault, *id).is_ok());
    assert_eq!((moved.len(), lost.len()), (2, 6), "two of the first page's records moved on");
    let all = [ids[..12].to_vec(), lost[..2].to_vec()].concat();
    let outcomes = rt.block_on(async {
        let calls = all.iter().map(|id| {
            let (vault, id) = (vault.clone(), *id);
            tokio::spawn(async move { erase(&vault, id).await })
        });
        let calls: Vec<_> = calls.collect();
        let mut outcomes = Vec::new();
        for call in calls {
            outcomes.push(call.await.unwrap());
        }
        outcomes
    });
    for (n, outcome) in outcomes.into_iter().enumerate() {
        let page_lost = matches!(outcome, Err(VaultError::Keys(KeyError::Damaged(NodeKind::Page))));
        assert_eq!(page_lost, n >= 12, "{n}: {outcome:?}");
        assert!(n >= 12 || outcome.is_ok(), "{n}: {outcome:?}");
    }
    for id in &ids[..12] {
        assert!(matches!(get(&vault, *id), Err(VaultError::Erased(_))));
    }
    ids[12..].iter().for_each(|id| drop(get(&vault, *id).unwrap()));
    until("what cannot be erased was forgotten", || pending(&vault) == 2);
    // Their present versions are on another page; as a whole they cannot be erased, and that forgets nothing either.
    for id in moved {
        let refused = rt.block_on(erase(&vault, id)).unwrap_err();
        assert!(matches!(refused, VaultError::Keys(KeyError::Damaged(NodeKind::Page))));
        until("an old version was forgotten", || pending(&vault) == 2);
        get(&vault, id).unwrap();
    }
    vault.close().unwrap();
    drop(vault);
    let vault = house.open().unwrap();
    assert_eq!(pending(&vault), 2);
    vault.close().unwrap();
}

#[test]
fn a_subject_is_never_answered_as_a_record_nor_a_record_as_a_subject() {
    let dir = scratch();
    let house = House::new(dir.path(), EngineChoice::Given(Arc::new(Memory::new())));
    let vault = house.create();
    let reason = ErasureReason::SubjectRequest;
    runtime().block_on(async {
        furnish(&vault).await;
        let living = visit(&vault, 0).await;
        let gone = visit(&vault, 1).await;
        let no_record = |r: Result<(), VaultError>| {
            assert!(matches!(r, Err(VaultError::NotFound("record"))), "{r:?}");
        };
        let no_subject = |r: Result<(), VaultError>| {
            assert!(matches!(r, Err(VaultError::NotFound("subject"))), "{r:?}");
        };
        let receipts = vault.erase_subject(&app(), TENANT, gone.subject, reason).await.unwrap();
        assert_eq!(receipts.receipts.len(), 2);
        for view in [living, gone] {
            no_record(get(&vault, view.subject).map(drop));
            no_record(erase(&vault, view.subject).await);
            no_subject(vault.get_subject(&app(), TENANT, view.id).map(drop));
            no_subject(vault.erase_subject(&app(), TENANT, view.id, reason).await.map(drop));
        }
    });
    vault.close().unwrap();
}
