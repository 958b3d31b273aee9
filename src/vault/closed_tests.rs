//! Updates of records whose bucket is being killed: a newer version beside the bucket would outlive its kill.

use std::sync::Arc;

use super::records::Sort;
use super::schema::{FieldDraft, RetentionDraft, SchemaDraft};
use super::slug::Slug;
use super::testing::{permit, vault_on};
use super::value::Value;
use super::{NewRecord, RecordChange, VaultError};
use crate::class::{Classification, FieldKind, Role};
use crate::store::Memory;

fn slug(text: &str) -> Slug {
    Slug::parse(text).unwrap()
}

#[tokio::test]
async fn an_update_never_leaves_a_bucket_that_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let vault = vault_on(dir.path(), Arc::new(Memory::new()));
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
    let new =
        NewRecord { rtype: slug("visit"), subject: None, fields: note("first"), request: None };
    let app = Role::Application;
    let record = vault.create_record(&permit(app, acme), "acme", new).await.unwrap().id;

    // As a kill does, after the update has looked the record up.
    let tenant = vault.core.registry.find("acme").unwrap();
    let kid = vault.core.find_current(&tenant, record, Sort::Record).unwrap().pointer.kid;
    vault.core.tree.slots().close_bucket((kid.tenant, kid.bucket));
    tenant.state_mut().buckets.clear();
    let set = note("second");
    let change =
        RecordChange { record, etag: None, set, remove: Vec::new(), replace: false, request: None };
    let refused = vault.update_record(&permit(app, acme), "acme", change).await.map(drop);
    assert!(matches!(refused, Err(VaultError::Erased("record"))), "{refused:?}");
    let still = vault.core.find_current(&tenant, record, Sort::Record).unwrap().pointer.kid;
    assert_eq!(still, kid, "it stays where it was and dies with its bucket");
}
