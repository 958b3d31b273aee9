//! Updates of records whose bucket is being killed: a newer version beside the bucket would outlive its kill.

use std::sync::Arc;

use super::records::Sort;
use super::schema::{FieldDraft, RetentionDraft, SchemaDraft};
use super::slug::Slug;
use super::value::Value;
use super::{EngineChoice, NewRecord, RecordChange, Setup, Vault, VaultError};
use crate::authz::{ActionKind, Authority, Binding, Permit, Principal, TenantScope};
use crate::class::{Classification, FieldKind, Role};
use crate::clock::SystemClock;
use crate::keys::kek::{KekSource, create_file};
use crate::store::Memory;

fn permit<A: ActionKind>(role: Role, tenant: Option<&str>) -> Permit<A> {
    let principal = Principal::parse("spiffe://test/someone").unwrap();
    let tenants = TenantScope::parse(&["*".into()]).unwrap();
    let clear = Binding::default_clear(role);
    let binding = Binding { principal: principal.clone(), role, tenants, clear };
    Authority::new(vec![binding]).unwrap().decide(&principal, tenant).unwrap()
}

fn slug(text: &str) -> Slug {
    Slug::parse(text).unwrap()
}

#[tokio::test]
async fn an_update_never_leaves_a_bucket_that_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    create_file(&dir.path().join("kek")).unwrap();
    let kek = KekSource::File(dir.path().join("kek"));
    let (data, anchor) = (dir.path().join("data"), dir.path().join("data/anchor"));
    let engine = EngineChoice::Given(Arc::new(Memory::new()));
    let setup = Setup::new(data, anchor, engine, kek);
    let vault = Vault::create(&setup, Arc::new(SystemClock)).unwrap();
    let (acme, operator) = (Some("acme"), Role::Operator);
    vault.create_tenant(&permit(operator, None), slug("acme"), String::new()).await.unwrap();
    let note = FieldDraft {
        name: "note".into(),
        kind: Some(FieldKind::Text),
        class: Some(Classification::Sensitive),
        max_bytes: 100,
        ..FieldDraft::default()
    };
    let draft = SchemaDraft {
        type_name: "visit".into(),
        fields: vec![note],
        retention: Some(RetentionDraft::RetainFor("P1D".into())),
        erase_old_versions_synchronously: false,
    };
    vault.create_schema(&permit(operator, acme), "acme", draft).await.unwrap();
    let note = |text: &str| [("note".to_owned(), Value::Text(text.into()))].into();
    let new = NewRecord { rtype: slug("visit"), subject: None, fields: note("first") };
    let app = Role::Application;
    let record = vault.create_record(&permit(app, acme), "acme", new).await.unwrap().id;

    // As a kill does, after the update has looked the record up.
    let tenant = vault.core.registry.find("acme").unwrap();
    let kid = vault.core.find_current(&tenant, record, Sort::Record).unwrap().pointer.kid;
    vault.core.tree.slots().close_bucket((kid.tenant, kid.bucket));
    tenant.state_mut().buckets.clear();
    let set = note("second");
    let change = RecordChange { record, etag: None, set, remove: Vec::new(), replace: false };
    let refused = vault.update_record(&permit(app, acme), "acme", change).await.map(drop);
    assert!(matches!(refused, Err(VaultError::Erased("record"))), "{refused:?}");
    let still = vault.core.find_current(&tenant, record, Sort::Record).unwrap().pointer.kid;
    assert_eq!(still, kid, "it stays where it was and dies with its bucket");
}
