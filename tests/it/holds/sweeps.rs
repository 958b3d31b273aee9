//! Holds and buckets: what is held leaves a bucket that goes, with what is kept of its past.

use lethe::class::ErasureReason;
use lethe::id::Day;
use lethe::vault::VaultError;
use lethe::vault::holds::draft::ScopeDraft;

use super::{hold, in_city, release};
use crate::house::{TENANT, fields, get, operator, put, slug, text, update};
use crate::retention::{Scene, by_hand, day, end, is_gone, noon, officer, person, sweep, until};

#[tokio::test]
async fn what_is_held_leaves_its_bucket_and_goes_with_the_day_on_which_the_hold_ends() {
    let scene = Scene::at("2026-05-10", by_hand);
    let vault = scene.vault().await;
    let held = put(&vault, "visit", person("a")).await.unwrap().id;
    let free = put(&vault, "visit", person("b")).await.unwrap().id;
    let kept = hold(&vault, ScopeDraft::Record(held)).await;
    let preview = vault.preview_retention(&officer(), TENANT, day("2026-05-20"), None).unwrap();
    let counted: Vec<_> =
        preview.forecasts.iter().map(|f| (f.survey.records, f.survey.held)).collect();
    assert_eq!(counted, [(2, 1)]);
    scene.clock.set(end("2026-05-11"));
    let swept = sweep(&vault).await;
    assert_eq!((swept.gone.len(), swept.gone[0].records, swept.failed), (1, 1, 0));
    assert!(is_gone(&vault, free));
    let now = get(&vault, held).unwrap();
    assert_eq!((text(&now, "city"), now.expires), (Some("Ulm"), Day::HELD));
    assert_eq!(vault.metrics().records_held_back.value(), 1);
    // Nobody can name the place where it is kept.
    let (eraser, rtype) = (operator(Some(TENANT)), slug("visit"));
    let why = ErasureReason::Contract;
    for day in [Day::HELD, Day::OPEN_ENDED] {
        let named = vault.erase_bucket(&eraser, TENANT, &rtype, day, why).await;
        assert!(matches!(named, Err(VaultError::NotFound(_))), "{day:?}");
    }
    let (buckets, _) = vault.list_buckets(&operator(Some(TENANT)), TENANT, None, 100).unwrap();
    assert!(buckets.iter().all(|bucket| bucket.expires != Day::HELD));
    assert!(get(&vault, held).is_ok());
    vault.close().unwrap();
    drop(vault);

    let vault = scene.house.open().unwrap();
    scene.clock.set(noon("2026-07-01"));
    sweep(&vault).await;
    assert!(!is_gone(&vault, held));
    release(&vault, kept).await;
    until("it is where the rules want it", || {
        get(&vault, held).is_ok_and(|view| view.expires == day("2026-07-01"))
    })
    .await;
    sweep(&vault).await;
    assert!(!is_gone(&vault, held), "its new day is not over");
    scene.clock.set(end("2026-07-01"));
    let swept = sweep(&vault).await;
    assert_eq!(swept.gone.iter().map(|g| g.records).sum::<u64>(), 1);
    assert!(is_gone(&vault, held));
    vault.close().unwrap();
}

#[tokio::test]
async fn a_hold_that_comes_after_the_list_was_made_still_wins() {
    let scene = Scene::at("2026-05-10", by_hand);
    let vault = scene.vault().await;
    let one = put(&vault, "visit", person("a")).await.unwrap();
    let two = put(&vault, "visit", person("b")).await.unwrap();
    // An hour before its day is over the bucket is closed and listed.
    scene.clock.set(lethe::clock::UnixMillis(end("2026-05-11").0 - 1_000));
    sweep(&vault).await;
    assert_eq!(vault.retention_state().closed_records, 2);
    hold(&vault, ScopeDraft::Subject(one.subject)).await;
    scene.clock.set(end("2026-05-11"));
    let swept = sweep(&vault).await;
    assert_eq!(swept.gone[0].records, 1);
    assert!(!is_gone(&vault, one.id) && is_gone(&vault, two.id));
    vault.close().unwrap();
}

#[tokio::test]
async fn what_is_put_while_held_never_lies_in_a_bucket_that_goes() {
    let scene = Scene::at("2026-05-10", by_hand);
    let vault = scene.vault().await;
    let first = put(&vault, "visit", person("a")).await.unwrap().id;
    let all = ScopeDraft::Query { rtype: slug("visit"), fields: fields(&[("city", "Ulm")]) };
    let kept = hold(&vault, all).await;
    scene.clock.set(lethe::clock::UnixMillis(end("2026-05-11").0 - 1_000));
    sweep(&vault).await;
    // Its day would be over in a second, and the bucket of that day is listed already.
    scene.clock.set(noon("2026-05-10"));
    let second = put(&vault, "visit", person("b")).await.unwrap().id;
    scene.clock.set(end("2026-05-12"));
    sweep(&vault).await;
    assert!(!is_gone(&vault, first) && !is_gone(&vault, second));
    release(&vault, kept).await;
    until("both are back", || {
        [first, second].iter().all(|r| get(&vault, *r).is_ok_and(|v| v.expires != Day::HELD))
    })
    .await;
    vault.close().unwrap();
}

#[tokio::test]
async fn a_bucket_that_someone_erases_loses_what_is_free_and_what_is_held_leaves_it() {
    let scene = Scene::at("2026-05-10", by_hand);
    let vault = scene.vault().await;
    let held = put(&vault, "customer", person("a")).await.unwrap();
    let free = put(&vault, "customer", fields(&[("reference", "b"), ("city", "Bonn")]));
    let free = free.await.unwrap().id;
    hold(&vault, in_city("Ulm")).await;
    let why = ErasureReason::Contract;
    let operator = operator(Some(TENANT));
    let (rtype, expires) = (slug("customer"), held.expires);
    let told = vault.erase_bucket(&operator, TENANT, &rtype, expires, why).await.unwrap();
    assert!(is_gone(&vault, free) && !is_gone(&vault, held.id));
    let again = vault.erase_bucket(&operator, TENANT, &rtype, expires, why).await.unwrap();
    assert_eq!(again.signed_bytes, told.signed_bytes);
    vault.close().unwrap();
}

/// The record is not there any more, but what it was when the hold came is.
#[tokio::test]
async fn an_old_version_that_is_kept_leaves_a_bucket_that_goes() {
    let scene = Scene::at("2026-05-10", by_hand);
    let vault = scene.vault().await;
    let record = put(&vault, "visit", person("a")).await.unwrap().id;
    let kept = hold(&vault, ScopeDraft::Record(record)).await;
    update(&vault, record, fields(&[("city", "Bonn")])).await.unwrap();
    let copies = || lethe::store::Engine::scan(&*scene.rows, b"r", b"s", 100).unwrap().len();
    assert_eq!(copies(), 4, "the subject, the hold, and two versions");
    scene.clock.set(end("2026-05-11"));
    let swept = sweep(&vault).await;
    assert_eq!(swept.failed, 0);
    until("what was moved was collected", || copies() == 4).await;
    vault.close().unwrap();
    drop(vault);
    let vault = scene.house.open().unwrap();
    assert_eq!(text(&get(&vault, record).unwrap(), "city"), Some("Bonn"));
    assert_eq!(copies(), 4, "both versions lived on");
    release(&vault, kept).await;
    until("the old one went, and the hold's own", || copies() == 3).await;
    vault.close().unwrap();
}
