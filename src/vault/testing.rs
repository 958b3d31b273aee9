//! What the unit tests of this and of higher layers work on: a vault over any engine, and permits.

use std::path::Path;
use std::sync::Arc;

use super::holds::draft::{HoldDraft, ScopeDraft};
use super::schema::{FieldDraft, RetentionDraft, SchemaDraft};
use super::slug::Slug;
use super::{EngineChoice, Setup, Vault, VaultError};
use crate::authz::{ActionKind, Authority, Binding, Permit, Principal, TenantScope};
use crate::class::{Classification, FieldKind, Role};
use crate::clock::SystemClock;
use crate::id::RecordId;
use crate::keys::kek::{KekSource, create_file};
use crate::store::Engine;

/// A new vault in a directory.
pub fn vault_on(dir: &Path, engine: Arc<dyn Engine>) -> Vault {
    vault_with(dir, engine, |_| ())
}

/// The same, set up otherwise than usual.
pub fn vault_with(dir: &Path, engine: Arc<dyn Engine>, change: impl FnOnce(&mut Setup)) -> Vault {
    create_file(&dir.join("kek")).unwrap();
    let kek = KekSource::File(dir.join("kek"));
    let data = dir.join("data");
    let mut setup = Setup::new(data.clone(), data.join("anchor"), EngineChoice::Given(engine), kek);
    change(&mut setup);
    Vault::create(&setup, Arc::new(SystemClock)).unwrap()
}

/// A permit of someone with every right of a role.
pub fn permit<A: ActionKind>(role: Role, tenant: Option<&str>) -> Permit<A> {
    let principal = Principal::parse("spiffe://test/someone").unwrap();
    let tenants = TenantScope::parse(&["*".into()]).unwrap();
    let clear = Binding::default_clear(role);
    let binding = Binding { principal: principal.clone(), role, tenants, clear };
    Authority::new(vec![binding]).unwrap().decide(&principal, tenant).unwrap()
}

/// Makes a tenant whose one record type is the visit, which is kept for a day and may have a note.
pub async fn visited(vault: &Vault, tenant: &str) {
    let slug = |text| Slug::parse(text).unwrap();
    let operator = permit(Role::Operator, None);
    vault.create_tenant(&operator, slug(tenant), String::new()).await.unwrap();
    let note = FieldDraft {
        name: "note".into(),
        kind: Some(FieldKind::Text),
        class: Some(Classification::General),
        max_bytes: 100,
        ..FieldDraft::default()
    };
    let draft = SchemaDraft {
        type_name: "visit".into(),
        fields: vec![note],
        retention: Some(RetentionDraft::RetainFor("P1D".into())),
        erase_old_versions_synchronously: false,
    };
    let operator = permit(Role::Operator, Some(tenant));
    vault.create_schema(&operator, tenant, draft).await.unwrap();
}

/// Places a legal hold on a record.
pub async fn place_on(vault: &Vault, tenant: &str, record: RecordId) -> Result<(), VaultError> {
    let hold = HoldDraft {
        scope: ScopeDraft::Record(record),
        reason: "litigation".into(),
        issuer: String::new(),
        reference: String::new(),
        readers: [].into(),
        expires: None,
    };
    let officer = permit(Role::PrivacyOfficer, Some(tenant));
    vault.place_hold(&officer, tenant, hold, None).await.map(drop)
}
