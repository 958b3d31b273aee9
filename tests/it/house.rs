//! A vault in a directory of its own, without a door: what the suites of store, erasure and faults work on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lethe::authz::{ActionKind, Authority, Binding, Permit, Principal, TenantScope};
use lethe::class::{Classification, FieldKind, Role};
use lethe::clock::{Clock, SystemClock};
use lethe::id::RecordId;
use lethe::keys::kek::{KekSource, create_file};
use lethe::vault::schema::{FieldDraft, RetentionDraft, SchemaDraft};
use lethe::vault::slug::Slug;
use lethe::vault::value::Value;
use lethe::vault::{
    EngineChoice, Hooks, NewRecord, ReadSpec, RecordChange, RecordView, Setup, Vault, VaultError,
};

pub const TENANT: &str = "acme";

/// A principal with every right of a role on every tenant.
pub fn permit<A: ActionKind>(role: Role, tenant: Option<&str>) -> Permit<A> {
    let principal = Principal::parse("spiffe://test/someone").unwrap();
    let binding = Binding {
        principal: principal.clone(),
        role,
        tenants: TenantScope::parse(&["*".into()]).unwrap(),
        clear: Binding::default_clear(role),
    };
    Authority::new(vec![binding]).unwrap().decide::<A>(&principal, tenant).unwrap()
}

pub fn app<A: ActionKind>() -> Permit<A> {
    permit(Role::Application, Some(TENANT))
}

pub fn operator<A: ActionKind>(tenant: Option<&str>) -> Permit<A> {
    permit(Role::Operator, tenant)
}

pub fn slug(text: &str) -> Slug {
    Slug::parse(text).unwrap()
}

/// Where everything of a vault lies.
pub struct House {
    pub dir: PathBuf,
    pub engine: EngineChoice,
    pub clock: Arc<dyn Clock>,
    pub change: fn(&mut Setup),
    pub hooks: Hooks,
}

impl House {
    pub fn new(dir: &Path, engine: EngineChoice) -> Self {
        Self {
            dir: dir.to_owned(),
            engine,
            clock: Arc::new(SystemClock),
            change: |_| (),
            hooks: Hooks::default(),
        }
    }

    pub fn setup(&self) -> Setup {
        let kek = KekSource::File(self.dir.join("kek"));
        let data = self.dir.join("data");
        let mut setup = Setup::new(data.clone(), data.join("anchor"), self.engine.clone(), kek);
        setup.engine_cache_bytes = 16 << 20;
        setup.node_cache_bytes = 16 << 20;
        setup.hooks = self.hooks.clone();
        // Suites that set the clock far ahead are about other things; those of retention say otherwise.
        setup.hooks.no_sweeps = true;
        // Small, so that runs are written and merged in short tests too.
        setup.index_tail_max = 48;
        (self.change)(&mut setup);
        setup
    }

    pub fn create(&self) -> Vault {
        create_file(&self.dir.join("kek")).unwrap();
        Vault::create(&self.setup(), self.clock.clone()).unwrap()
    }

    pub fn open(&self) -> Result<Vault, VaultError> {
        Vault::open(&self.setup(), self.clock.clone())
    }
}

fn field(name: &str, kind: FieldKind, indexed: bool, unique: bool) -> FieldDraft {
    FieldDraft {
        name: name.into(),
        kind: Some(kind),
        class: Some(Classification::Sensitive),
        indexed,
        unique,
        max_bytes: match (kind, indexed) {
            (FieldKind::Text, true) => 100,
            (FieldKind::Bytes, _) => 1 << 20,
            _ => 0,
        },
        ..FieldDraft::default()
    }
}

/// A type with a unique, an indexed, a plain and a large field.
pub fn draft(type_name: &str, retain_for: Option<&str>) -> SchemaDraft {
    SchemaDraft {
        type_name: type_name.into(),
        fields: vec![
            field("reference", FieldKind::Text, true, true),
            field("city", FieldKind::Text, true, false),
            field("note", FieldKind::Text, false, false),
            field("photo", FieldKind::Bytes, false, false),
        ],
        retention: Some(match retain_for {
            Some(period) => RetentionDraft::RetainFor(period.into()),
            None => RetentionDraft::OpenEnded(true),
        }),
        erase_old_versions_synchronously: false,
    }
}

/// The tenant and the types `customer` (three years) and `visit` (a day).
pub async fn furnish(vault: &Vault) {
    vault.create_tenant(&operator(None), slug(TENANT), "Acme".into()).await.unwrap();
    let permit = operator(Some(TENANT));
    vault.create_schema(&permit, TENANT, draft("customer", Some("P3Y"))).await.unwrap();
    vault.create_schema(&permit, TENANT, draft("visit", Some("P1D"))).await.unwrap();
}

pub fn fields(pairs: &[(&str, &str)]) -> BTreeMap<String, Value> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), Value::Text((*v).to_owned()))).collect()
}

pub async fn put(
    vault: &Vault,
    rtype: &str,
    fields: BTreeMap<String, Value>,
) -> Result<RecordView, VaultError> {
    let new = NewRecord { rtype: slug(rtype), subject: None, fields, request: None };
    vault.create_record(&app(), TENANT, new).await
}

pub fn get(vault: &Vault, record: RecordId) -> Result<RecordView, VaultError> {
    vault.get_record(&app(), TENANT, record, &ReadSpec::default())
}

pub async fn update(
    vault: &Vault,
    record: RecordId,
    set: BTreeMap<String, Value>,
) -> Result<RecordView, VaultError> {
    let change =
        RecordChange { record, etag: None, set, remove: Vec::new(), replace: false, request: None };
    vault.update_record(&app(), TENANT, change).await
}

/// The text of a field.
pub fn text<'a>(view: &'a RecordView, field: &str) -> Option<&'a str> {
    view.fields.text(field)
}
