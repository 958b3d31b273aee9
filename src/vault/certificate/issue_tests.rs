//! Certificates as a vault issues them: who is told to have asked, several buckets in one, and none before its time.

use std::sync::Arc;

use super::*;
use crate::authz::{ActionKind, Authority, Binding, Principal, TenantScope};
use crate::class::Role;
use crate::clock::UnixMillis;
use crate::id::Gen;
use crate::store::{Engine, Memory};
use crate::vault::certificate::verify::{Held, verify};
use crate::vault::registry::Tenant;
use crate::vault::retention::manifest::{encode_ids, list_key, summary_key};
use crate::vault::rows::Tombstone;
use crate::vault::testing::{permit, vault_with, visited};
use crate::vault::{NewRecord, RecordView};

fn slug(text: &str) -> Slug {
    Slug::parse(text).unwrap()
}

/// A permit of one who is called so.
fn named<A: ActionKind>(name: &str, role: Role) -> Permit<A> {
    let principal = Principal::parse(&format!("spiffe://test/{name}")).unwrap();
    let tenants = TenantScope::parse(&["*".into()]).unwrap();
    let clear = Binding::default_clear(role);
    let binding = Binding { principal: principal.clone(), role, tenants, clear };
    Authority::new(vec![binding]).unwrap().decide(&principal, Some("acme")).unwrap()
}

struct Scene {
    _dir: tempfile::TempDir,
    rows: Arc<Memory>,
    vault: Vault,
    tenant: Arc<Tenant>,
}

impl Scene {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rows = Arc::new(Memory::new());
        let vault = vault_with(dir.path(), rows.clone(), |setup| setup.hooks.no_sweeps = true);
        visited(&vault, "acme").await;
        let tenant = vault.core.registry.find("acme").unwrap();
        Self { _dir: dir, rows, vault, tenant }
    }

    async fn put(&self) -> RecordView {
        let new =
            NewRecord { rtype: slug("visit"), subject: None, fields: [].into(), request: None };
        let app = permit(Role::Application, Some("acme"));
        self.vault.create_record(&app, "acme", new).await.unwrap()
    }

    async fn erase(&self, by: &str, record: RecordId) {
        let by = named(by, Role::Application);
        let reason = ErasureReason::SubjectRequest;
        self.vault.erase_records(&by, "acme", &[record], reason, None).await.unwrap();
    }

    async fn get(&self, wanted: Wanted, size: Option<u64>) -> Result<Document, VaultError> {
        let auditor = named("auditor", Role::Auditor);
        self.vault.certificate(&auditor, "acme", wanted, size).await
    }

    /// The certificate, verified.
    async fn whole(&self, wanted: Wanted) -> Document {
        let document = self.get(wanted, None).await.unwrap();
        let public_key = self.vault.core.tree.read().signer().unwrap().public_key();
        let head = self.vault.core.tree.bound().unwrap().ledger;
        let checkpoint = &self.vault.core.checkpoint(Log::Ledger, head);
        let held = Held { public_key, checkpoint, bridge: None, record: None };
        verify(&document, &held).unwrap();
        document
    }
}

#[tokio::test]
async fn a_certificate_names_who_asked_and_whom_the_schedule_served() {
    let scene = Scene::new().await;
    let (one, two, three) = (scene.put().await, scene.put().await, scene.put().await);
    // In one batch or in two, each has its own caller.
    tokio::join!(scene.erase("ada", one.id), scene.erase("berta", two.id));
    for (record, name) in [(one.id, "spiffe://test/ada"), (two.id, "spiffe://test/berta")] {
        let facts = scene.whole(Wanted::Record(record)).await.facts;
        assert_eq!((facts.asked_by.kind, facts.asked_by.name.as_str()), (AskerKind::Caller, name));
        assert_eq!(facts.asked_by.call, "EraseRecord");
        assert_eq!((facts.destroyed.version, facts.destroyed.records), (Some(1), 1));
    }
    // Of what the row says nothing any more, nobody else is named.
    let row = scene.rows.scan(b"e", b"f", 10).unwrap().remove(0);
    let mut bad = row.value.clone();
    bad[30] ^= 1;
    scene.rows.commit(&[(row.key.clone(), Some(bad))]).unwrap();
    let (first, second) = (Wanted::Record(one.id), Wanted::Record(two.id));
    let kinds =
        [scene.whole(first).await, scene.whole(second).await].map(|d| d.facts.asked_by.kind);
    assert!(kinds.contains(&AskerKind::NotKept), "{kinds:?}");
    scene.rows.commit(&[(row.key, Some(row.value))]).unwrap();

    let officer = named("officer", Role::PrivacyOfficer);
    let (visit, day) = (slug("visit"), three.expires);
    let reason = ErasureReason::Contract;
    scene.vault.erase_bucket(&officer, "acme", &visit, day, reason).await.unwrap();
    let facts = scene.whole(Wanted::Bucket { rtype: visit, expires: day }).await.facts;
    assert_eq!(facts.asked_by.name, "spiffe://test/officer");
    assert_eq!((facts.erasure.reason.as_str(), facts.destroyed.records), ("CONTRACT", 1));
    assert!(facts.basis.rules.is_empty(), "no rule wanted it");
    scene.vault.close().unwrap();
}

/// A bucket that is closed has a successor: one kill takes both, and one certificate covers them.
#[tokio::test]
async fn one_certificate_covers_all_buckets_of_a_type_and_day_that_one_kill_took() {
    let scene = Scene::new().await;
    let (first, second) = (scene.put().await, scene.put().await);
    let key = (scene.tenant.schema(&slug("visit")).unwrap().ord(), first.expires);
    scene.vault.keeper.close_buckets(Arc::clone(&scene.tenant), key).await.unwrap();
    let third = scene.put().await;
    let officer = || named("officer", Role::PrivacyOfficer);
    let (visit, reason) = (slug("visit"), ErasureReason::Retention);
    scene.vault.erase_bucket(&officer(), "acme", &visit, key.1, reason).await.unwrap();
    let bucket = || Wanted::Bucket { rtype: slug("visit"), expires: key.1 };
    let both = scene.whole(bucket()).await;
    assert_eq!((both.leaves.len(), both.facts.destroyed.records), (2, 3));
    assert_eq!(both.facts.basis.rules[0].name, "tenants/acme/schemas/visit");
    assert!(both.facts.basis.text.contains("as the caller said"), "its day is not over");
    assert_eq!(both.facts.asked_by.kind, AskerKind::Caller);
    let all = (UnixMillis(i64::MIN), UnixMillis(i64::MAX));
    let list = |from, size| {
        scene.vault.killed_buckets(&named("a", Role::Auditor), "acme", all, from, size)
    };
    let (page, rest) = list(0, 1).unwrap();
    let (next, end) = list(rest.unwrap(), 10).unwrap();
    assert_eq!((page.len(), next.len(), end), (1, 1, None));
    let found: Vec<u64> = page.iter().chain(&next).map(|k| k.leaf_index).collect();
    assert_eq!(found, both.leaves.iter().map(|l| l.index).collect::<Vec<_>>());
    for killed in page.iter().chain(&next) {
        let one = scene.whole(Wanted::Leaf(killed.leaf_index)).await;
        assert_eq!((one.leaves.len(), one.facts.destroyed.records), (1, killed.records.into()));
        let before = (UnixMillis(i64::MIN), killed.erased);
        let permit = named("a", Role::Auditor);
        let none = scene.vault.killed_buckets(&permit, "acme", before, 0, 10).unwrap();
        assert!(none.0.iter().all(|k| k.leaf_index != killed.leaf_index), "{killed:?}");
    }
    for record in [first.id, second.id, third.id] {
        let document = scene.whole(Wanted::Record(record)).await;
        assert_eq!(document.facts.destroyed.kind, Kind::RecordWithBucket);
        assert!(found.contains(&document.leaves[0].index));
    }
    // What was there before has the certificate of its own kill only.
    let again = scene.put().await;
    assert_eq!(again.expires, key.1);
    scene.vault.erase_bucket(&officer(), "acme", &slug("visit"), key.1, reason).await.unwrap();
    let last = scene.whole(bucket()).await;
    assert_eq!((last.leaves.len(), last.facts.destroyed.records), (1, 1));
    let level = scene.whole(Wanted::Leaf(found[0])).await.facts.erasure.level_leaf;
    assert!(level.is_some(), "the next batch states the level of the one before");
    scene.vault.close().unwrap();
}

#[tokio::test]
async fn there_is_no_certificate_for_what_is_not_erased_or_not_there() {
    let scene = Scene::new().await;
    let (here, gone) = (scene.put().await, scene.put().await);
    scene.erase("ada", gone.id).await;
    let refused = async |wanted| scene.get(wanted, None).await.err().unwrap();
    assert!(matches!(refused(Wanted::Record(here.id)).await, VaultError::Precondition(_)));
    assert!(matches!(refused(Wanted::Subject(here.id)).await, VaultError::NotFound("subject")));
    assert!(matches!(refused(Wanted::Subject(gone.id)).await, VaultError::NotFound("subject")));
    let nobody = Wanted::Record(RecordId([9; 16]));
    assert!(matches!(refused(nobody).await, VaultError::NotFound("record")));
    let bucket = Wanted::Bucket { rtype: slug("visit"), expires: here.expires };
    assert!(matches!(refused(bucket).await, VaultError::NotFound("certificate")));
    let bucket = Wanted::Bucket { rtype: slug("nothing"), expires: here.expires };
    assert!(matches!(refused(bucket).await, VaultError::NotFound("schema")));
    let sound = scene.whole(Wanted::Record(gone.id)).await;
    let index = sound.leaves[0].index;
    for index in [index, u64::MAX, 0] {
        let why = refused(Wanted::Leaf(index)).await;
        assert!(
            matches!(why, VaultError::NotFound("certificate")),
            "of a record, not a bucket: {why}"
        );
    }
    for size in [index, u64::MAX] {
        let why = scene.get(Wanted::Record(gone.id), Some(size)).await.err().unwrap();
        assert!(matches!(why, VaultError::Argument { field: "checkpoint_size", .. }), "{why}");
    }
    assert!(scene.get(Wanted::Record(gone.id), Some(index + 1)).await.is_ok());
    let other = permit::<ReadCertificate>(Role::Auditor, Some("other"));
    let why = scene.vault.certificate(&other, "acme", Wanted::Record(gone.id), None).await;
    assert!(matches!(why, Err(VaultError::Forbidden)), "before anything is looked up");
    scene.vault.close().unwrap();
}

/// Rows of a batch are durable before its anchor is: what they say counts once the generation is through.
#[tokio::test]
async fn there_is_no_certificate_of_a_batch_that_is_not_through() {
    let scene = Scene::new().await;
    let (gone, went) = (scene.put().await, scene.put().await);
    scene.erase("ada", gone.id).await;
    let officer = named("officer", Role::PrivacyOfficer);
    let (visit, reason) = (slug("visit"), ErasureReason::Retention);
    scene.vault.erase_bucket(&officer, "acme", &visit, went.expires, reason).await.unwrap();
    let next = Gen(scene.vault.core.tree.generation().0 + 1);
    let ahead = |key: Vec<u8>, change: &dyn Fn(&[u8]) -> Vec<u8>| {
        let good = scene.rows.get(&key).unwrap().unwrap();
        scene.rows.commit(&[(key.clone(), Some(change(&good)))]).unwrap();
        (key, Some(good))
    };
    let later = |row: &[u8]| {
        let found = Tombstone::decode(row).unwrap();
        Tombstone { generation: next, ..found }.encode()
    };
    let not_through =
        |e: VaultError| matches!(e, VaultError::Precondition(why) if why.contains("not through"));
    scene.whole(Wanted::Record(gone.id)).await;
    let good = ahead(Tombstone::key(scene.tenant.ord, gone.id).to_vec(), &later);
    assert!(not_through(scene.get(Wanted::Record(gone.id), None).await.err().unwrap()));
    scene.rows.commit(&[good]).unwrap();
    scene.whole(Wanted::Record(gone.id)).await;

    let key = (scene.tenant.schema(&visit).unwrap().ord(), went.expires);
    let bucket = || Wanted::Bucket { rtype: slug("visit"), expires: went.expires };
    let row = Tombstone::bucket_key(scene.tenant.ord, key.0, key.1);
    let good = ahead(row, &later);
    assert!(not_through(scene.get(bucket(), None).await.err().unwrap()));
    scene.rows.commit(&[good]).unwrap();
    let document = scene.whole(Wanted::Record(went.id)).await;
    let all = (UnixMillis(i64::MIN), UnixMillis(i64::MAX));
    let listed = || {
        let auditor = named("auditor", Role::Auditor);
        scene.vault.killed_buckets(&auditor, "acme", all, 0, 10).unwrap().0.len()
    };
    assert_eq!(listed(), 1, "control");
    let bucket = STANDARD.decode(&document.leaves[0].leaf).unwrap();
    let bucket = Leaf::decode(&bucket, document.leaves[0].index).unwrap().kid;
    let good = ahead(summary_key((bucket.tenant, bucket.bucket)), &|row| {
        let found = Killed::decode(row).unwrap();
        Killed { generation: next, ..found }.encode()
    });
    assert!(not_through(scene.get(Wanted::Record(went.id), None).await.err().unwrap()));
    assert_eq!(listed(), 0);
    scene.rows.commit(&[good]).unwrap();
    // A list that does not lead to the root that was logged proves nothing.
    let row = list_key((bucket.tenant, bucket.bucket), 0);
    let good = ahead(row, &|_| encode_ids(&[RecordId([1; 16])]));
    let why = scene.get(Wanted::Record(went.id), None).await.err().unwrap();
    assert!(matches!(why, VaultError::Damaged("bucket's list")), "{why}");
    scene.rows.commit(&[good]).unwrap();
    scene.whole(Wanted::Record(went.id)).await;
    scene.vault.close().unwrap();
}
