//! Records move where the rules want them, and nothing is lost or early on the way.

use lethe::class::Role;
use lethe::id::{Day, RecordId};
use lethe::vault::retention::policy::{PolicyProblem, StartKind};
use lethe::vault::schema::{Parts, RetentionDraft};
use lethe::vault::value::Value;
use lethe::vault::{ReadSpec, RecordChange, Vault, VaultError};

use super::{
    Scene, by_hand, contract, day, end, is_gone, noon, officer, on_its_own, person, rule, sweep,
    until,
};
use crate::house::{TENANT, app, draft, fields, get, operator, permit, put, slug, text, update};

async fn make(vault: &Vault, draft: lethe::vault::retention::policy::PolicyDraft) {
    vault.create_retention_policy(&officer(), TENANT, draft).await.unwrap();
}

fn expires(vault: &Vault, record: RecordId) -> Day {
    get(vault, record).unwrap().expires
}

fn moving(vault: &Vault) -> usize {
    vault.retention_state().rebucketing.len()
}

#[tokio::test]
async fn a_new_policy_moves_what_is_there_and_its_end_moves_it_back() {
    let scene = Scene::at("2026-05-10", by_hand);
    let vault = scene.vault().await;
    let mut all = Vec::new();
    for n in 0..60 {
        all.push(put(&vault, "customer", person(&n.to_string())).await.unwrap());
    }
    let etag = all[7].version;
    make(
        &vault,
        rule("short", |d| {
            (d.types, d.period) = (vec!["customer".into()], "P1M".into());
        }),
    )
    .await;
    until("all were moved", || moving(&vault) == 0).await;
    for record in &all {
        let now = get(&vault, record.id).unwrap();
        assert_eq!((now.expires, now.version), (day("2026-06-10"), etag), "the etag stays");
        assert_eq!(text(&now, "city"), Some("Ulm"));
    }
    // Each old copy is on its way out, as an old version is, or gone already; the count at the end sees any that stays.
    let waiting = lethe::store::Engine::scan(&*scene.rows, b"q", b"r", 1_000).unwrap().len();
    assert!(waiting <= all.len());
    let fresh = put(&vault, "customer", person("fresh")).await.unwrap();
    assert_eq!(fresh.expires, day("2026-06-10"));
    let told = vault.explain_retention(&app(), TENANT, fresh.id).unwrap();
    let line = told.decision.deciding().unwrap();
    assert_eq!(line.policy.as_ref().map(|p| p.as_str()), Some("short"));
    assert_eq!((line.ends, told.present), (Some(day("2026-06-10")), day("2026-06-10")));

    vault.delete_retention_policy(&officer(), TENANT, &slug("short"), None).await.unwrap();
    until("all were moved back", || moving(&vault) == 0).await;
    assert_eq!(expires(&vault, all[0].id), day("2029-05-10"));
    scene.clock.set(noon("2026-06-20"));
    sweep(&vault).await;
    assert!(all.iter().all(|r| !is_gone(&vault, r.id)), "an empty bucket went, no record");
    // A value that was moved twice is still found and still unique.
    let twin = put(&vault, "customer", person("7")).await;
    assert!(matches!(twin, Err(VaultError::Duplicate { .. })));
    vault.close().unwrap();
    drop(vault);
    // 61 customers and their 61 subjects: of none is there a second copy.
    let copies = lethe::store::Engine::scan(&*scene.rows, b"r", b"s", 1_000).unwrap().len();
    assert_eq!(copies, 2 * (all.len() + 1));
    let vault = scene.house.open().unwrap();
    assert_eq!(expires(&vault, all[59].id), day("2029-05-10"));
    vault.close().unwrap();
}

#[tokio::test]
async fn work_that_is_paused_waits_over_a_restart_and_goes_on() {
    let scene = Scene::at("2026-05-10", |setup| {
        by_hand(setup);
        setup.index_build_pages = 1;
    });
    let vault = scene.vault().await;
    let record = put(&vault, "customer", person("a")).await.unwrap().id;
    let paused = vault.pause_rebucketing(&officer(), TENANT, true).await.unwrap();
    assert!(!paused, "nothing was under way");
    make(&vault, rule("short", |d| d.period = "P1M".into())).await;
    let same = |vault: &Vault| {
        let state = vault.retention_state().rebucketing;
        assert!(state.len() == 2 && state.iter().all(|r| r.paused), "{state:?}");
        assert_eq!(expires(vault, record), day("2029-05-10"));
    };
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    same(&vault);
    vault.close().unwrap();
    drop(vault);
    let vault = scene.house.open().unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    same(&vault);
    assert!(vault.pause_rebucketing(&officer(), TENANT, false).await.unwrap());
    until("it was moved", || moving(&vault) == 0).await;
    assert_eq!(expires(&vault, record), day("2026-06-10"));
    vault.close().unwrap();
}

/// The bucket was closed and listed by the old rules when the new ones came: nothing may go by the old ones.
#[tokio::test]
async fn a_longer_rule_saves_what_was_listed_to_go() {
    let scene = Scene::at("2026-05-10", by_hand);
    let vault = scene.vault().await;
    let kept = put(&vault, "visit", person("kept")).await.unwrap().id;
    scene.clock.set(noon("2026-05-11"));
    sweep(&vault).await;
    scene.clock.set(lethe::clock::UnixMillis(end("2026-05-11").0 - 1_000));
    sweep(&vault).await;
    assert_eq!(vault.retention_state().closed_records, 1, "it is listed to go");
    vault.pause_rebucketing(&officer(), TENANT, true).await.unwrap();
    make(&vault, rule("law", |d| d.minimum = "P10Y".into())).await;
    scene.clock.set(noon("2026-05-15"));
    sweep(&vault).await;
    assert!(!is_gone(&vault, kept), "it went by rules that were no longer in force");
    assert_eq!(expires(&vault, kept), day("2036-05-10"));
    vault.close().unwrap();
}

#[tokio::test]
async fn a_changed_retention_of_the_schema_moves_its_records() {
    let scene = Scene::at("2026-05-10", by_hand);
    let vault = scene.vault().await;
    let record = put(&vault, "customer", person("a")).await.unwrap().id;
    let longer = draft("customer", Some("P5Y"));
    let parts = Parts::whole();
    vault.update_schema(&operator(Some(TENANT)), TENANT, longer, &parts).await.unwrap();
    until("it was moved", || moving(&vault) == 0).await;
    assert_eq!(expires(&vault, record), day("2031-05-10"));
    let mut open = draft("customer", None);
    open.retention = Some(RetentionDraft::OpenEnded(true));
    vault.update_schema(&operator(Some(TENANT)), TENANT, open, &parts).await.unwrap();
    until("it was moved", || moving(&vault) == 0).await;
    assert_eq!(expires(&vault, record), Day::OPEN_ENDED);
    vault.close().unwrap();
}

#[tokio::test]
async fn an_event_dates_a_record_that_waited_for_it() {
    let scene = Scene::at("2026-05-10", by_hand);
    let vault = scene.vault().await;
    vault.create_schema(&operator(Some(TENANT)), TENANT, contract()).await.unwrap();
    make(
        &vault,
        rule("after", |d| {
            (d.types, d.start) = (vec!["contract".into()], Some(StartKind::Event));
            (d.event_field, d.period, d.open_ended) = ("ended".into(), "P6M".into(), true);
            d.time_zone = "Asia/Shanghai".into();
        }),
    )
    .await;
    let number = fields(&[("number", "1")]);
    let record = put(&vault, "contract", number).await.unwrap();
    assert_eq!(record.expires, Day::OPEN_ENDED);
    let ended = |on: &str| [("ended".to_owned(), Value::Date(day(on)))].into();
    let dated = update(&vault, record.id, ended("2026-08-31")).await.unwrap();
    assert_eq!(dated.expires, day("2027-02-28"), "the last day of February");
    // In the last hour the contract turns out to have gone on: it leaves a bucket that is closed.
    scene.clock.set(lethe::clock::UnixMillis(end("2027-02-28").0 - 60_000));
    sweep(&vault).await;
    assert_eq!(vault.retention_state().closed_records, 1);
    update(&vault, record.id, ended("2027-02-01")).await.unwrap();
    assert_eq!(vault.retention_state().closed_records, 0);
    scene.clock.set(noon("2027-03-05"));
    sweep(&vault).await;
    assert_eq!(expires(&vault, record.id), day("2027-08-01"));
    // An event long past: due at once, and gone with the next sweep.
    update(&vault, record.id, ended("2020-01-01")).await.unwrap();
    assert!(!is_gone(&vault, record.id));
    let swept = sweep(&vault).await;
    assert_eq!(swept.gone.len(), 1);
    assert!(is_gone(&vault, record.id));
    vault.close().unwrap();
}

#[tokio::test]
async fn a_change_in_a_closed_bucket_goes_into_its_successor_and_both_go() {
    let scene = Scene::at("2026-05-10", by_hand);
    let vault = scene.vault().await;
    let changed = put(&vault, "visit", person("changed")).await.unwrap();
    let plain = put(&vault, "visit", person("plain")).await.unwrap();
    scene.clock.set(lethe::clock::UnixMillis(end("2026-05-11").0 - 60_000));
    sweep(&vault).await;
    let now = update(&vault, changed.id, fields(&[("city", "Bonn")])).await.unwrap();
    assert_eq!(now.expires, day("2026-05-11"));
    assert_eq!(text(&get(&vault, changed.id).unwrap(), "city"), Some("Bonn"));
    scene.clock.set(end("2026-05-11"));
    let swept = sweep(&vault).await;
    assert_eq!((swept.gone.len(), swept.gone[0].records), (1, 2), "each counts once");
    assert!(is_gone(&vault, changed.id) && is_gone(&vault, plain.id));
    vault.close().unwrap();
}

#[tokio::test]
async fn use_lengthens_a_life_and_a_look_of_the_officer_does_not() {
    let scene = Scene::at("2026-05-10", on_its_own);
    let vault = scene.vault().await;
    make(
        &vault,
        rule("seen", |d| {
            (d.types, d.start) = (vec!["customer".into()], Some(StartKind::LastUse));
            (d.period, d.maximum) = ("P1M".into(), "P3M".into());
        }),
    )
    .await;
    let record = put(&vault, "customer", person("a")).await.unwrap().id;
    let unseen = put(&vault, "customer", person("b")).await.unwrap().id;
    assert_eq!(expires(&vault, unseen), day("2026-06-10"));
    scene.clock.set(noon("2026-05-20"));
    let look: lethe::authz::Permit<lethe::authz::ReadRecord> =
        permit(Role::PrivacyOfficer, Some(TENANT));
    let spec = ReadSpec::default();
    vault.get_record(&look, TENANT, unseen, &spec).unwrap();
    get(&vault, record).unwrap();
    until("it was moved", || {
        let read = vault.get_record(&look, TENANT, record, &spec).unwrap();
        read.expires == day("2026-06-20")
    })
    .await;
    let read = vault.get_record(&look, TENANT, unseen, &spec).unwrap();
    assert_eq!(read.expires, day("2026-06-10"), "an officer's look is no use");
    // A change is a use too, at once.
    scene.clock.set(noon("2026-05-25"));
    let changed = update(&vault, record, fields(&[("city", "Bonn")])).await.unwrap();
    assert_eq!(changed.expires, day("2026-06-25"));
    scene.clock.set(noon("2026-06-12"));
    until("the other went", || {
        matches!(vault.get_record(&look, TENANT, unseen, &spec), Err(VaultError::Erased(_)))
    })
    .await;
    // What a use has earned is kept over a stop that follows at once, and never exceeds the maximum.
    get(&vault, record).unwrap();
    vault.close().unwrap();
    drop(vault);
    let vault = scene.house.open().unwrap();
    let read = vault.get_record(&look, TENANT, record, &spec).unwrap();
    assert_eq!(read.expires, day("2026-07-12"));
    for date in ["2026-07-01", "2026-07-25", "2026-08-05"] {
        scene.clock.set(noon(date));
        get(&vault, record).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    let read = vault.get_record(&look, TENANT, record, &spec).unwrap();
    assert_eq!(read.expires, day("2026-08-10"), "three months from creation");
    vault.close().unwrap();
}

/// A vault with so many records that are kept for a month from their last use.
async fn in_use(scene: &Scene, records: usize) -> (Vault, Vec<RecordId>) {
    let vault = scene.vault().await;
    make(
        &vault,
        rule("seen", |d| {
            (d.start, d.period) = (Some(StartKind::LastUse), "P1M".into());
        }),
    )
    .await;
    until("nothing moves", || moving(&vault) == 0).await;
    let mut all = Vec::with_capacity(records);
    for n in 0..records {
        all.push(put(&vault, "customer", person(&n.to_string())).await.unwrap().id);
    }
    (vault, all)
}

/// Nobody waits for a use to be written down: the sweep does, before it judges.
#[tokio::test]
async fn what_was_used_a_moment_before_the_sweep_stays() {
    let scene = Scene::at("2026-05-10", by_hand);
    let (vault, all) = in_use(&scene, 80).await;
    scene.clock.set(noon("2026-06-10"));
    all.iter().for_each(|id| drop(get(&vault, *id).unwrap()));
    scene.clock.set(end("2026-06-10"));
    sweep(&vault).await;
    assert!(all.iter().all(|id| !is_gone(&vault, *id)));
    assert_eq!(expires(&vault, all[0]), day("2026-07-10"));
    vault.close().unwrap();
}

/// The evidence of what went tells of nothing that lives.
#[tokio::test]
async fn what_leaves_after_the_list_was_made_is_not_on_it() {
    let scene = Scene::at("2026-05-10", by_hand);
    let (vault, all) = in_use(&scene, 4).await;
    scene.clock.set(lethe::clock::UnixMillis(end("2026-06-10").0 - 1_000));
    sweep(&vault).await;
    assert_eq!(vault.retention_state().closed_records, 4, "all are listed");
    all[1..].iter().for_each(|id| drop(get(&vault, *id).unwrap()));
    scene.clock.set(end("2026-06-10"));
    let swept = sweep(&vault).await;
    let gone: Vec<u64> = swept.gone.iter().map(|gone| gone.records).collect();
    assert_eq!(gone, [1]);
    assert!(is_gone(&vault, all[0]) && all[1..].iter().all(|id| !is_gone(&vault, *id)));
    vault.close().unwrap();
}

/// Under a minimum a use changes nothing; when the minimum is gone, it counts.
#[tokio::test]
async fn a_use_counts_for_the_rules_that_come_later() {
    let scene = Scene::at("2026-05-10", by_hand);
    let vault = scene.vault().await;
    let sliding = |minimum: &str, period: &str| {
        let (minimum, period) = (minimum.to_owned(), period.to_owned());
        rule("seen", move |d| {
            (d.start, d.period, d.minimum) = (Some(StartKind::LastUse), period, minimum);
        })
    };
    make(&vault, rule("law", |d| d.minimum = "P1Y".into())).await;
    make(&vault, sliding("", "P2M")).await;
    until("nothing moves", || moving(&vault) == 0).await;
    let record = put(&vault, "customer", person("a")).await.unwrap().id;
    assert_eq!(expires(&vault, record), day("2027-05-10"));
    scene.clock.set(noon("2026-06-01"));
    get(&vault, record).unwrap();
    sweep(&vault).await;
    scene.clock.set(noon("2026-06-20"));
    vault.delete_retention_policy(&officer(), TENANT, &slug("law"), None).await.unwrap();
    let changed = sliding("", "P1M");
    vault.update_retention_policy(&officer(), TENANT, changed, None, None).await.unwrap();
    until("it was moved", || moving(&vault) == 0).await;
    let look: lethe::authz::Permit<lethe::authz::ReadRecord> =
        permit(Role::PrivacyOfficer, Some(TENANT));
    let seen = vault.get_record(&look, TENANT, record, &ReadSpec::default()).unwrap();
    assert_eq!(seen.expires, day("2026-07-01"), "from the use, not from the creation");
    vault.close().unwrap();
}

#[tokio::test]
async fn policies_that_do_not_fit_are_refused_and_change_nothing() {
    let scene = Scene::at("2026-05-10", by_hand);
    let vault = scene.vault().await;
    make(&vault, rule("cap", |d| d.maximum = "P5Y".into())).await;
    let tried = |draft| {
        let vault = &vault;
        async move {
            match vault.create_retention_policy(&officer(), TENANT, draft).await {
                Err(VaultError::RetentionPolicy(found)) => {
                    found.into_iter().map(|v| (v.path, v.problem)).collect::<Vec<_>>()
                }
                other => panic!("{:?}", other.map(|p| p.id.to_string())),
            }
        }
    };
    let found = tried(rule("law", |d| d.minimum = "P10Y".into())).await;
    assert_eq!(found, [("minimum", PolicyProblem::Contradicts(slug("cap")))]);
    let found = tried(rule("x", |d| {
        (d.types, d.period) = (vec!["nothing".into()], "P1Y".into());
    }))
    .await;
    assert_eq!(found, [("schemas", PolicyProblem::UnknownType)]);
    let found = tried(rule("x", |d| {
        (d.types, d.start) = (vec!["customer".into()], Some(StartKind::Event));
        (d.event_field, d.period, d.open_ended) = ("city".into(), "P1Y".into(), true);
    }))
    .await;
    assert_eq!(found, [("event_field", PolicyProblem::NotADate)]);
    let again = vault.create_retention_policy(&officer(), TENANT, rule("cap", |_| ())).await;
    assert!(matches!(again, Err(VaultError::Exists(_))));
    let stale = vault.delete_retention_policy(&officer(), TENANT, &slug("cap"), Some(9)).await;
    assert!(matches!(stale, Err(VaultError::Stale(_))));
    let all = vault.retention_policies(&officer(), TENANT, None, 10).unwrap();
    assert_eq!(all.len(), 1);
    vault.close().unwrap();
}

/// A request id stands for its effect also after the record was moved.
#[tokio::test]
async fn a_repeated_call_finds_what_was_moved() {
    let scene = Scene::at("2026-05-10", by_hand);
    let vault = scene.vault().await;
    let request = lethe::id::RequestId::parse_random("0c7e8a7e-5a6d-4c3b-9a1f-1f2e3d4c5b6a");
    let new = || lethe::vault::NewRecord {
        rtype: slug("customer"),
        subject: None,
        fields: person("a"),
        request,
    };
    let made = vault.create_record(&app(), TENANT, new()).await.unwrap();
    make(&vault, rule("short", |d| d.period = "P1M".into())).await;
    until("it was moved", || moving(&vault) == 0).await;
    let again = vault.create_record(&app(), TENANT, new()).await.unwrap();
    assert_eq!((again.id, again.expires), (made.id, day("2026-06-10")));
    let change = RecordChange {
        record: made.id,
        etag: Some(made.version),
        set: fields(&[("city", "Bonn")]),
        remove: Vec::new(),
        replace: false,
        request: None,
    };
    vault.update_record(&app(), TENANT, change).await.unwrap();
    vault.close().unwrap();
}
