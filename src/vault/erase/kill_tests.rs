//! Kills of buckets against holds, changed rules, damaged lists, and erasures of what just went.

use super::*;
use crate::audit::Kind;
use crate::class::Role;
use crate::store::Memory;
use crate::vault::current::Sort;
use crate::vault::rows::Intent;
use crate::vault::testing::{permit, place_on, vault_on, visited};
use crate::vault::{NewRecord, ReadSpec};

fn slug(text: &str) -> Slug {
    Slug::parse(text).unwrap()
}

/// A vault with a visit, which is kept for a day.
async fn with_a_visit(dir: &std::path::Path) -> (Vault, crate::vault::RecordView) {
    let vault = vault_on(dir, Arc::new(Memory::new()));
    let made = visit(&vault, "acme").await;
    (vault, made)
}

/// A visit of a new tenant.
async fn visit(vault: &Vault, tenant: &str) -> crate::vault::RecordView {
    visited(vault, tenant).await;
    another(vault, tenant).await
}

async fn another(vault: &Vault, tenant: &str) -> crate::vault::RecordView {
    let (fields, subject, request) = ([].into(), None, None);
    let new = NewRecord { rtype: slug("visit"), subject, fields, request };
    let app = permit(Role::Application, Some(tenant));
    vault.create_record(&app, tenant, new).await.unwrap()
}

/// Has the visits of some tenants killed together.
fn kill(vault: &Vault, visits: &[(&str, Day)]) -> Vec<Fate> {
    let (done, answered) = oneshot::channel();
    let condemned = visits.iter().map(|(tenant, expires)| {
        let tenant = vault.core.registry.find(tenant).unwrap();
        let key = (tenant.schema(&slug("visit")).unwrap().ord(), *expires);
        let (reason, requested) = (ErasureReason::Retention, UnixMillis(0));
        Condemned { tenant, key, reason, requested, epoch: None }
    });
    let condemned = condemned.collect();
    let entry = Entry::new(Kind::Vault, Act::Sweep, UnixMillis(0));
    vault.eraser.send(Job::Kill { condemned, entry, done }).unwrap();
    answered.blocking_recv().unwrap().unwrap()
}

fn is_read(vault: &Vault, tenant: &str, record: crate::id::RecordId) -> bool {
    let app = permit(Role::Application, Some(tenant));
    vault.get_record(&app, tenant, record, &ReadSpec::default()).is_ok()
}

/// One that is stuck keeps nobody else's data past its end.
#[test]
fn a_bucket_that_cannot_be_killed_is_served_on_and_the_others_go() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (vault, first) = runtime.block_on(with_a_visit(dir.path()));
    let second = runtime.block_on(visit(&vault, "other"));
    let acme = vault.core.registry.find("acme").unwrap();
    let kid = vault.core.find_current(&acme, first.id, Sort::Record).unwrap().pointer.kid;
    let ticket = vault.core.tree.slots().hold(kid).unwrap();
    let visits = [("acme", first.expires), ("other", second.expires)];
    let fates = kill(&vault, &visits);
    assert!(matches!(fates.as_slice(), [Fate::Failed(_), Fate::Killed { records: 1, .. }]));
    assert!(is_read(&vault, "acme", first.id) && !is_read(&vault, "other", second.id));
    drop(ticket);
    let fates = kill(&vault, &visits);
    assert!(matches!(fates.as_slice(), [Fate::Killed { records: 1, .. }, Fate::Before(Some(_))]));
    assert!(!is_read(&vault, "acme", first.id));
    vault.close().unwrap();
}

/// An old version that a hold keeps may have come to be since the bucket was closed.
#[test]
fn a_bucket_with_an_old_version_that_is_held_is_not_killed_around_it() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (vault, made) = runtime.block_on(with_a_visit(dir.path()));
    let core = &*vault.core;
    let acme = core.registry.find("acme").unwrap();
    let old = core.find_current(&acme, made.id, Sort::Record).unwrap().pointer;
    let intent = Intent {
        kid: old.kid,
        record: made.id,
        rec_ver: old.rec_ver,
        rtype: old.rtype,
        reason: ErasureReason::Superseded,
        requested: UnixMillis(0),
    };
    runtime.block_on(place_on(&vault, "acme", made.id)).unwrap();
    core.superseded.hold(intent);
    let visits = [("acme", made.expires)];
    let fates = kill(&vault, &visits);
    assert!(matches!(fates.as_slice(), [Fate::Rules]));
    assert!(is_read(&vault, "acme", made.id));
    core.superseded.take_kid(old.kid);
    let fates = kill(&vault, &visits);
    assert!(matches!(fates.as_slice(), [Fate::Killed { records: 1, .. }]), "control");
    vault.close().unwrap();
}

/// The list only saves time: what is in the bucket says the same.
#[test]
fn a_list_that_was_damaged_since_it_was_made_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (vault, first) = runtime.block_on(with_a_visit(dir.path()));
    let _second = runtime.block_on(another(&vault, "acme"));
    let core = &*vault.core;
    let acme = core.registry.find("acme").unwrap();
    let kid = core.find_current(&acme, first.id, Sort::Record).unwrap().pointer.kid;
    let bucket = (kid.tenant, kid.bucket);
    assert_eq!(core.close_and_list(bucket, 1, &mut |_, _| Ok(false)).unwrap().count, 2);
    let app = permit(Role::Application, Some("acme"));
    let reason = ErasureReason::SubjectRequest;
    let gone = [first.id];
    runtime.block_on(vault.erase_records(&app, "acme", &gone, reason, None)).unwrap();
    let mut batch = crate::store::Batch::default();
    batch.put(crate::vault::retention::manifest::list_key(bucket, 0), vec![0; 9]);
    core.tree.store().commit_blocking(batch).unwrap();
    assert!(core.listed(bucket).is_err(), "the list is damaged");
    let fates = kill(&vault, &[("acme", first.expires)]);
    assert!(matches!(fates.as_slice(), [Fate::Killed { records: 1, .. }]));
    vault.close().unwrap();
}

/// The rules may change between the look at a bucket and its kill.
#[tokio::test]
async fn a_bucket_that_was_found_due_by_other_rules_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (vault, made) = with_a_visit(dir.path()).await;
    let tenant = vault.core.registry.find("acme").unwrap();
    let key = (tenant.schema(&slug("visit")).unwrap().ord(), made.expires);
    let epoch = tenant.state().rules_epoch;
    let asked = |epoch| {
        let (done, answered) = oneshot::channel();
        let condemned = vec![Condemned {
            tenant: tenant.clone(),
            key,
            reason: ErasureReason::Retention,
            requested: UnixMillis(0),
            epoch: Some(epoch),
        }];
        let entry = Entry::new(Kind::Vault, Act::Sweep, UnixMillis(0));
        vault.eraser.send(Job::Kill { condemned, entry, done }).unwrap();
        answered
    };
    tenant.state_mut().rules_epoch += 1;
    let fates = asked(epoch).await.unwrap().unwrap();
    assert!(matches!(fates.as_slice(), [Fate::Rules]));
    let read = permit(Role::Application, Some("acme"));
    vault.get_record(&read, "acme", made.id, &ReadSpec::default()).unwrap();
    let fates = asked(epoch + 1).await.unwrap().unwrap();
    assert!(matches!(fates.as_slice(), [Fate::Killed { records: 1, .. }]), "control");
    assert!(vault.get_record(&read, "acme", made.id, &ReadSpec::default()).is_err());
    vault.close().unwrap();
}

/// An erasure that waits while its record goes with the bucket erases nothing again: the bucket's evidence is
/// given.
#[tokio::test]
async fn who_asks_for_what_just_went_with_its_bucket_gets_the_evidence_of_that() {
    let dir = tempfile::tempdir().unwrap();
    let (vault, made) = with_a_visit(dir.path()).await;
    let core = &*vault.core;
    let tenant = core.registry.find("acme").unwrap();
    let pointer = core.find_current(&tenant, made.id, Sort::Record).unwrap().pointer;
    let reason = ErasureReason::SubjectRequest;
    let unit = Intent {
        kid: pointer.kid,
        record: made.id,
        rec_ver: pointer.rec_ver,
        rtype: pointer.rtype,
        reason,
        requested: UnixMillis(0),
    };
    let doomed = core.doom(Some(&tenant), &unit, true).unwrap();
    let operator = permit(Role::Operator, Some("acme"));
    let why = ErasureReason::Contract;
    let killed =
        vault.erase_bucket(&operator, "acme", &slug("visit"), made.expires, why).await.unwrap();
    let (answer, answered) = oneshot::channel();
    vault.erasures().send_units(vec![doomed], None, answer).unwrap();
    assert!(matches!(answered.await.unwrap(), Err(VaultError::Erased(_))));
    let app = permit(Role::Application, Some("acme"));
    let told = vault.erase_records(&app, "acme", &[made.id], reason, None).await.unwrap();
    assert_eq!(told.receipts[0].signed_bytes, killed.signed_bytes);
    vault.close().unwrap();
}

/// Whoever is killed last may be followed by nobody.
#[test]
fn what_a_kill_wiped_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (vault, first) = runtime.block_on(with_a_visit(dir.path()));
    let core = &*vault.core;
    let acme = core.registry.find("acme").unwrap();
    let kid = core.find_current(&acme, first.id, Sort::Record).unwrap().pointer.kid;
    let bucket = (kid.tenant, kid.bucket);
    core.index.flush(&core.tree, bucket, core.first_unlisted(bucket)).unwrap();
    let fates = kill(&vault, &[("acme", first.expires)]);
    assert!(matches!(fates.as_slice(), [Fate::Killed { records: 1, .. }]));
    let since = std::time::Instant::now();
    while core.tree.to_free() + core.index.to_free() > 0 {
        assert!(since.elapsed().as_secs() < 10, "it piles up");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    vault.close().unwrap();
}
