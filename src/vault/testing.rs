//! What the unit tests of this and of higher layers work on: a vault over any engine, and permits.

use std::path::Path;
use std::sync::Arc;

use super::holds::draft::{HoldDraft, ScopeDraft};
use super::{EngineChoice, Setup, Vault, VaultError};
use crate::authz::{ActionKind, Authority, Binding, Permit, Principal, TenantScope};
use crate::class::Role;
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
