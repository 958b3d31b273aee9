//! Holds against erasures that are under way: one of both wins, wholly.

use std::sync::Arc;

use lethe::class::ErasureReason;
use lethe::vault::VaultError;
use lethe::vault::holds::draft::ScopeDraft;

use super::{draft, erase};
use crate::house::{TENANT, app, get, put};
use crate::retention::{Scene, by_hand, end, is_gone, officer, person};

/// A hold that is placed is never of something that is erased for another reason than that it came too late.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hold_and_an_erasure_at_once_leave_one_winner() {
    let scene = Scene::at("2026-05-10", by_hand);
    let vault = Arc::new(scene.vault().await);
    let (mut held, mut erased) = (0, 0);
    for n in 0..60 {
        let one = put(&vault, "customer", person(&n.to_string())).await.unwrap();
        let (id, subject) = (one.id, one.subject);
        let eraser = vault.clone();
        let erasing = tokio::spawn(async move { erase(&eraser, id).await.receipts.len() });
        if n % 3 == 0 {
            tokio::task::yield_now().await;
        }
        let scope = match n % 2 {
            0 => ScopeDraft::Record(id),
            _ => ScopeDraft::Subject(subject),
        };
        let placed = vault.place_hold(&officer(), TENANT, draft(scope), None).await;
        let gone = erasing.await.unwrap() == 1;
        match placed {
            Ok(_) if n % 2 == 0 => assert!(!gone, "held, and erased all the same"),
            Ok(_) => {}
            Err(VaultError::Erased(_)) => assert!(gone, "refused for nothing"),
            Err(e) => panic!("{e}"),
        }
        assert_eq!(is_gone_or_waits(&vault, id), gone);
        held += usize::from(!gone);
        erased += usize::from(gone);
    }
    println!("{held} held, {erased} erased");
    Arc::into_inner(vault).unwrap().close().unwrap();
}

fn is_gone_or_waits(vault: &lethe::vault::Vault, id: lethe::id::RecordId) -> bool {
    match get(vault, id) {
        Err(VaultError::Erased(_)) => true,
        Err(VaultError::Restricted) | Ok(_) => false,
        Err(e) => panic!("{e}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hold_and_a_sweep_at_once_leave_one_winner() {
    for round in 0..12 {
        let scene = Scene::at("2026-05-10", by_hand);
        let vault = Arc::new(scene.vault().await);
        let record = put(&vault, "visit", person("a")).await.unwrap().id;
        scene.clock.set(end("2026-05-11"));
        let sweeper = vault.clone();
        let sweeping = tokio::spawn(async move { crate::retention::sweep(&sweeper).await });
        tokio::time::sleep(std::time::Duration::from_micros(300 * round)).await;
        let draft = draft(ScopeDraft::Record(record));
        let placed = vault.place_hold(&officer(), TENANT, draft, None).await;
        sweeping.await.unwrap();
        match placed {
            Ok(_) => assert!(!is_gone(&vault, record), "round {round}: held, and swept"),
            Err(VaultError::Erased(_)) => assert!(is_gone(&vault, record)),
            Err(e) => panic!("{e}"),
        }
        Arc::into_inner(vault).unwrap().close().unwrap();
    }
}

/// A crash after the erasure was postponed, or after the hold ended, changes nothing of what happens.
#[tokio::test]
async fn what_was_postponed_is_carried_out_after_a_crash_too() {
    let scene = Scene::at("2026-05-10", by_hand);
    let vault = scene.vault().await;
    let record = put(&vault, "customer", person("a")).await.unwrap().id;
    let kept = super::hold(&vault, ScopeDraft::Record(record)).await;
    erase(&vault, record).await;
    // Dropped, not closed.
    drop(vault);
    let vault = scene.house.open().unwrap();
    assert!(super::is_restricted(&vault, record));
    let reason = ErasureReason::Contract;
    let asked = vault.erase_records(&app(), TENANT, &[record], reason, None).await.unwrap();
    assert_eq!(asked.postponed[0].1.reason, ErasureReason::SubjectRequest, "the first one counts");
    super::release(&vault, kept).await;
    drop(vault);
    let vault = scene.house.open().unwrap();
    crate::retention::until("it was erased", || is_gone(&vault, record)).await;
    vault.close().unwrap();
}
