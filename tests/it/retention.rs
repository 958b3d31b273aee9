//! Retention: what is due goes by itself, all of it, with evidence, and never a moment early.

mod clock;
mod moves;
mod wire;
mod year;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lethe::authz::ActionKind;
use lethe::class::{Classification, ErasureReason, FieldKind, Role};
use lethe::clock::{Clock, ManualClock, UnixMillis};
use lethe::id::{Day, RecordId};
use lethe::store::Memory;
use lethe::vault::calendar::parse_iso_date;
use lethe::vault::retention::policy::{PolicyDraft, StartKind};
use lethe::vault::retention::sweep::Swept;
use lethe::vault::schema::{FieldDraft, RetentionDraft, SchemaDraft};
use lethe::vault::value::Value;
use lethe::vault::{EngineChoice, NewRecord, Receipt, Setup, Vault, VaultError};

use crate::crash::scratch;
use crate::house::{House, TENANT, app, draft, fields, furnish, get, operator, permit, put, slug};

pub const DAY: i64 = 86_400_000;
const HOUR: i64 = 3_600_000;

/// Noon of a day.
pub fn noon(date: &str) -> UnixMillis {
    UnixMillis(i64::from(day(date).0) * DAY + 12 * HOUR)
}

pub fn day(date: &str) -> Day {
    parse_iso_date(date).unwrap()
}

/// When the day is over.
pub fn end(date: &str) -> UnixMillis {
    UnixMillis((i64::from(day(date).0) + 1) * DAY)
}

pub fn officer<A: ActionKind>() -> lethe::authz::Permit<A> {
    permit(Role::PrivacyOfficer, Some(TENANT))
}

/// A vault whose clock the test sets. It sweeps when it is asked to.
pub struct Scene {
    _dir: tempfile::TempDir,
    pub house: House,
    pub clock: Arc<ManualClock>,
    pub rows: Arc<Memory>,
}

impl Scene {
    pub fn at(date: &str, change: fn(&mut Setup)) -> Self {
        let dir = scratch();
        let rows = Arc::new(Memory::new());
        let clock = Arc::new(ManualClock::at(noon(date)));
        let mut house = House::new(dir.path(), EngineChoice::Given(rows.clone()));
        house.clock = Arc::clone(&clock) as Arc<dyn Clock>;
        house.change = change;
        Self { _dir: dir, house, clock, rows }
    }

    /// With the types of [`furnish`].
    pub async fn vault(&self) -> Vault {
        let vault = self.house.create();
        furnish(&vault).await;
        vault
    }
}

/// Sweeps only when asked.
pub fn by_hand(setup: &mut Setup) {
    setup.hooks.no_sweeps = true;
}

/// Sweeps all the time.
pub fn on_its_own(setup: &mut Setup) {
    setup.hooks.no_sweeps = false;
    setup.keeper.interval = Duration::from_millis(20);
}

pub async fn sweep(vault: &Vault) -> Swept {
    vault.run_retention(&permit(Role::PrivacyOfficer, None)).await.unwrap()
}

pub fn person(reference: &str) -> BTreeMap<String, Value> {
    fields(&[("reference", reference), ("city", "Ulm")])
}

/// Waits until it is so.
pub async fn until(what: &str, so: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to be that {what}");
}

pub fn is_gone(vault: &Vault, record: RecordId) -> bool {
    match get(vault, record) {
        Ok(_) | Err(VaultError::Restricted) => false,
        Err(VaultError::Erased(_)) => true,
        Err(e) => panic!("neither there nor erased: {e}"),
    }
}

pub async fn receipt(vault: &Vault, record: RecordId) -> Receipt {
    let reason = ErasureReason::SubjectRequest;
    let all = vault.erase_records(&app(), TENANT, &[record], reason, None).await.unwrap();
    all.receipts.into_iter().next().unwrap()
}

/// A type with a date, for rules that wait for an event.
pub fn contract() -> SchemaDraft {
    let field = |name: &str, kind| FieldDraft {
        name: name.into(),
        kind: Some(kind),
        class: Some(Classification::General),
        ..FieldDraft::default()
    };
    SchemaDraft {
        type_name: "contract".into(),
        fields: vec![field("number", FieldKind::Text), field("ended", FieldKind::Date)],
        retention: Some(RetentionDraft::OpenEnded(true)),
        erase_old_versions_synchronously: false,
    }
}

pub fn rule(id: &str, change: impl FnOnce(&mut PolicyDraft)) -> PolicyDraft {
    let mut draft =
        PolicyDraft { id: id.into(), start: Some(StartKind::Creation), ..PolicyDraft::default() };
    change(&mut draft);
    draft
}

#[tokio::test]
async fn what_is_due_goes_by_itself_when_its_day_is_over_and_not_a_moment_before() {
    let scene = Scene::at("2026-05-10", on_its_own);
    let vault = scene.vault().await;
    let visit = put(&vault, "visit", person("a")).await.unwrap();
    let customer = put(&vault, "customer", person("b")).await.unwrap();
    assert_eq!((visit.expires, customer.expires), (day("2026-05-11"), day("2029-05-10")));

    scene.clock.set(UnixMillis(end("2026-05-11").0 - 1));
    let before = vault.retention_state().last_sweep;
    until("it swept again", || vault.retention_state().last_sweep > before).await;
    until("the bucket was closed and listed", || vault.retention_state().closed_records == 1).await;
    assert!(!is_gone(&vault, visit.id), "a millisecond early");
    // Closed, it still serves, and what is put on its day meanwhile goes into a successor.
    scene.clock.set(end("2026-05-11"));
    until("the visit went", || is_gone(&vault, visit.id)).await;
    assert!(!is_gone(&vault, customer.id));

    let told = receipt(&vault, visit.id).await;
    assert_eq!(told.reason, ErasureReason::Retention);
    assert_eq!(told.requested, end("2026-05-11"), "when it was due");
    assert!(told.erased >= told.requested);
    until("the sweep is over", || vault.retention_state().due_buckets == 0).await;
    let state = vault.retention_state();
    assert_eq!((state.erased_buckets, state.erased_records, state.due_buckets), (1, 1, 0));
    assert_eq!(state.lateness.map(|(p50, _)| p50), Some(0), "the test's clock stood still");
    vault.close().unwrap();
}

#[tokio::test]
async fn all_that_is_due_of_all_tenants_goes_in_one_batch() {
    let scene = Scene::at("2026-05-10", by_hand);
    let vault = scene.vault().await;
    let other = slug("other");
    vault.create_tenant(&operator(None), other.clone(), String::new()).await.unwrap();
    let theirs = operator(Some("other"));
    vault.create_schema(&theirs, "other", draft("visit", Some("P1D"))).await.unwrap();
    let mut due = vec![put(&vault, "visit", person("a")).await.unwrap().id];
    let new = NewRecord { rtype: slug("visit"), subject: None, fields: person("x"), request: None };
    let foreign = permit(Role::Application, Some("other"));
    let theirs = vault.create_record(&foreign, "other", new).await.unwrap();
    scene.clock.set(noon("2026-05-11"));
    due.push(put(&vault, "visit", person("b")).await.unwrap().id);
    scene.clock.set(noon("2026-05-20"));
    let outlook = vault.outlook_of_retention(&permit(Role::PrivacyOfficer, None)).await.unwrap();
    let counts: Vec<_> = outlook.due.iter().map(|d| (d.expires, d.survey.records)).collect();
    let (first, second) = (day("2026-05-11"), day("2026-05-12"));
    assert_eq!(counts, [(first, 1), (first, 1), (second, 1)]);
    due.iter().for_each(|id| assert!(!is_gone(&vault, *id), "a look erased"));

    let swept = sweep(&vault).await;
    assert_eq!((swept.gone.len(), swept.failed), (3, 0));
    let generations: Vec<_> = swept.gone.iter().map(|g| g.receipt.generation).collect();
    assert!(generations.iter().all(|g| *g == generations[0]), "{generations:?}");
    due.iter().for_each(|id| assert!(is_gone(&vault, *id)));
    let read = vault.get_record(
        &permit(Role::Application, Some("other")),
        "other",
        theirs.id,
        &Default::default(),
    );
    assert!(matches!(read, Err(VaultError::Erased(_))));
    assert_eq!(sweep(&vault).await.gone.len(), 0, "nothing goes twice");
    vault.close().unwrap();
}

#[tokio::test]
async fn a_record_that_went_with_its_bucket_is_known_as_erased_for_ever() {
    let scene = Scene::at("2026-05-10", by_hand);
    let vault = scene.vault().await;
    let mut visits = Vec::new();
    for n in 0..700 {
        visits.push(put(&vault, "visit", person(&n.to_string())).await.unwrap().id);
    }
    scene.clock.set(end("2026-05-11"));
    let swept = sweep(&vault).await;
    assert_eq!(swept.gone[0].records, 700);
    let at_once = receipt(&vault, visits[5]).await;
    let left = || {
        let prefix = b"r".as_slice();
        lethe::store::Engine::scan(&*scene.rows, prefix, b"s", 10).unwrap().len()
    };
    // The subjects' own records stay: 700 rows of `r`; those of the visits are collected.
    until("its rows were collected", || {
        let visit_rows = lethe::store::Engine::scan(&*scene.rows, b"u", b"v", 2_000).unwrap().len();
        visit_rows == 700
    })
    .await;
    assert!(left() > 0);
    for id in &visits {
        assert!(is_gone(&vault, *id));
    }
    let later = receipt(&vault, visits[5]).await;
    assert_eq!(later.signed_bytes, at_once.signed_bytes);
    vault.close().unwrap();
    drop(vault);
    let vault = scene.house.open().unwrap();
    assert!(is_gone(&vault, visits[699]));
    assert_eq!(receipt(&vault, visits[699]).await.signed_bytes, at_once.signed_bytes);
    vault.close().unwrap();
}
