//! Records whose bucket is being killed: a newer version beside the bucket would outlive its kill, a hold would come
//! too late, and an erasure that waits is over.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::current::Sort;
use super::holds::postponed::{Postponed, prefix};
use super::slug::Slug;
use super::testing::{permit, place_on, vault_on, visited};
use super::value::Value;
use super::{NewRecord, RecordChange, Vault, VaultError};
use crate::audit::{Act, Entry, Kind};
use crate::class::{ErasureReason, Role};
use crate::clock::UnixMillis;
use crate::id::RecordId;
use crate::store::Memory;

fn slug(text: &str) -> Slug {
    Slug::parse(text).unwrap()
}

/// A vault with a visit, which is kept for a day.
async fn with_a_visit(dir: &std::path::Path) -> (Vault, RecordId) {
    let vault = vault_on(dir, Arc::new(Memory::new()));
    visited(&vault, "acme").await;
    let new =
        NewRecord { rtype: slug("visit"), subject: None, fields: note("first"), request: None };
    let app = permit(Role::Application, Some("acme"));
    let record = vault.create_record(&app, "acme", new).await.unwrap().id;
    (vault, record)
}

fn note(text: &str) -> BTreeMap<String, Value> {
    [("note".to_owned(), Value::Text(text.into()))].into()
}

#[tokio::test]
async fn who_leaves_a_bucket_is_waited_for_by_its_kill_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (vault, record) = with_a_visit(dir.path()).await;

    // A kill that was announced lets nobody out; one that comes later waits for who is on the way.
    let core = &*vault.core;
    let tenant = core.registry.find("acme").unwrap();
    let pointer = core.find_current(&tenant, record, Sort::Record).unwrap().pointer;
    let bucket = (pointer.kid.tenant, pointer.kid.bucket);
    {
        let _refused = core.mark_killing(&[bucket]);
        let refused = core.leave(record, pointer.kid).map(drop);
        assert!(matches!(refused, Err(VaultError::Erased("record"))), "{refused:?}");
        assert!(core.tree.slots().is_drained(bucket), "it is not waited for");
    }
    let leaving = core.leave(record, pointer.kid).unwrap();
    core.tree.slots().close_bucket(bucket);
    assert!(!core.tree.slots().is_drained(bucket), "the kill would not wait");
    drop(leaving);
    assert!(core.tree.slots().is_drained(bucket));

    // Closed and not being killed: what comes now goes into the successor.
    let set = note("second");
    let change =
        RecordChange { record, etag: None, set, remove: Vec::new(), replace: false, request: None };
    vault.update_record(&permit(Role::Application, Some("acme")), "acme", change).await.unwrap();
    let now = core.find_current(&tenant, record, Sort::Record).unwrap().pointer.kid;
    assert_ne!(now.bucket, pointer.kid.bucket);
    assert_eq!(tenant.day_of(now.bucket), tenant.day_of(pointer.kid.bucket));
}

/// Someone wants the whole bucket gone, and reads are refused already; what is held is held all the same.
#[tokio::test]
async fn an_erasure_of_what_is_held_waits_also_while_its_bucket_is_to_go() {
    let dir = tempfile::tempdir().unwrap();
    let (vault, record) = with_a_visit(dir.path()).await;
    place_on(&vault, "acme", record).await.unwrap();
    let core = &*vault.core;
    let tenant = core.registry.find("acme").unwrap();
    let kid = core.find_current(&tenant, record, Sort::Record).unwrap().pointer.kid;
    let marked = core.mark_killing(&[(kid.tenant, kid.bucket)]);
    let (app, reason) = (permit(Role::Application, Some("acme")), ErasureReason::SubjectRequest);
    let asked = vault.erase_records(&app, "acme", &[record], reason, None).await.unwrap();
    assert_eq!((asked.receipts.len(), asked.postponed.len()), (0, 1));
    drop(marked);
    assert!(core.find_current(&tenant, record, Sort::Record).is_ok());
}

/// The erasure began while the hold was being placed.
#[tokio::test]
async fn a_hold_on_what_begins_to_go_meanwhile_is_refused_and_not_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let (vault, record) = with_a_visit(dir.path()).await;
    let vault = Arc::new(vault);
    let core = &*vault.core;
    let tenant = core.registry.find("acme").unwrap();
    let kid = core.find_current(&tenant, record, Sort::Record).unwrap().pointer.kid;
    // The first hold makes its bucket, and waits for whoever makes another.
    let making = tenant.making.lock().await;
    let placing = {
        let vault = vault.clone();
        tokio::spawn(async move { place_on(&vault, "acme", record).await })
    };
    while tenant.writing.try_read().is_ok() {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let marked = core.mark_going(&[(kid.tenant, kid.bucket)]);
    drop(making);
    let refused = placing.await.unwrap();
    assert!(matches!(refused, Err(VaultError::Erased("record"))), "{refused:?}");
    assert!(core.holds.none(tenant.ord));
    drop(marked);
    place_on(&vault, "acme", record).await.unwrap();
    assert!(!core.holds.none(tenant.ord), "control");
}

/// A record whose erasure waited went with its bucket, by someone who was faster.
#[tokio::test]
async fn what_waited_and_went_with_its_bucket_waits_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let (vault, record) = with_a_visit(dir.path()).await;
    let core = &*vault.core;
    let tenant = core.registry.find("acme").unwrap();
    let pointer = core.find_current(&tenant, record, Sort::Record).unwrap().pointer;
    let waits = Postponed {
        rtype: pointer.rtype,
        reason: ErasureReason::SubjectRequest,
        requested: UnixMillis(0),
        asker: [0; 16],
    };
    let told = Entry::new(Kind::Vault, Act::PostponeErasure, UnixMillis(0)).of(tenant.ord);
    core.postpone(&tenant, &[(record, waits)], told).await.unwrap();
    let day = tenant.day_of(pointer.kid.bucket);
    let (operator, why) = (permit(Role::Operator, Some("acme")), ErasureReason::Contract);
    vault.erase_bucket(&operator, "acme", &slug("visit"), day, why).await.unwrap();
    let rows = || core.tree.store().scan(&prefix(tenant.ord), b"p", 9).unwrap().len();
    assert!(core.holds.postponed(tenant.ord, record).is_some() && rows() == 1, "control");
    core.holds.set_dirty(tenant.ord);
    for _ in 0..500 {
        if rows() == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!((core.holds.postponed(tenant.ord, record), rows()), (None, 0));
}
