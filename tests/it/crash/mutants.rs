//! R4: each way to break the erasure path must be caught by a suite that passes without it.

use super::attack::{Loot, judge, judge_final};
use super::fate::fates;
use super::images::{Life, try_crashes};
use super::scratch;
use std::sync::Arc;

use lethe::keys::Sabotage;
use lethe::store::{Engine, Memory};
use lethe::vault::EngineChoice;
use lethe_recorder::Event;

use crate::house::{House, fields, furnish, get, put};

fn crashes_catch(sabotage: &'static str) {
    let life = Life::record("redb", sabotage, 21, 40);
    let (tried, wrong) = try_crashes(&life, 1500, 21);
    println!("R4 {sabotage}: caught after {tried} images: {wrong:?}");
    assert!(wrong.is_some(), "{sabotage} was not caught by {tried} crash images");
}

fn attack_catches(sabotage: &'static str) {
    // On a busy machine what is being looked for may not happen in a short life.
    let wrong = (22..26).find_map(|seed| attack(sabotage, seed));
    println!("R4 {sabotage}: caught: {wrong:?}");
    assert!(wrong.is_some(), "{sabotage} was not caught by the independent reader");
}

fn attack(sabotage: &'static str, seed: u64) -> Option<String> {
    let life = Life::record("redb", sabotage, seed, 40);
    let home = scratch();
    let mut wrong = None;
    let is_answer = |e: &Event| matches!(e, Event::Write { data, .. } if data.starts_with(b"E "));
    let answers: Vec<usize> =
        (0..life.log.events.len()).filter(|n| is_answer(&life.log.events[*n])).collect();
    for at in answers.iter().rev().step_by(answers.len().div_ceil(5)).map(|n| n + 1) {
        let loot = Loot { life: &life, history_to: at, anchor_at: at, old_anchors: false };
        let opened = loot.open(home.path());
        wrong = wrong.or(judge(&opened, &fates(&life.answers(at))).err());
    }
    let end = life.log.events.len();
    let loot = Loot { life: &life, history_to: end, anchor_at: end, old_anchors: false };
    wrong.or(judge_final(&loot.open(home.path())).err())
}

/// Whether a vault whose store lost every node row opens from its journal.
fn journal_saves(change: fn(&mut lethe::vault::Setup)) -> bool {
    let home = scratch();
    let engine = Arc::new(Memory::new());
    let mut house = House::new(home.path(), EngineChoice::Given(engine.clone()));
    house.change = change;
    let vault = house.create();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let id = runtime.block_on(async {
        furnish(&vault).await;
        put(&vault, "customer", fields(&[("note", "kept")])).await.unwrap().id
    });
    drop(vault);
    let nodes = engine.scan(b"k", b"l", usize::MAX).unwrap();
    let gone: Vec<_> = nodes.into_iter().map(|r| (r.key, None)).collect();
    engine.commit(&gone).unwrap();
    house.open().is_ok_and(|vault| get(&vault, id).is_ok())
}

#[test]
fn r4_a_skipped_journal_is_caught() {
    assert!(journal_saves(|_| ()));
    assert!(!journal_saves(|setup| setup.sabotage = Sabotage::SkipJournal));
}

#[test]
fn r4_the_anchor_before_the_store_is_caught() {
    crashes_catch("anchor-before-store");
}

#[test]
fn r4_old_rows_deleted_before_the_anchor_are_caught() {
    crashes_catch("delete-early");
}

#[test]
fn r4_a_skipped_scrub_is_caught() {
    attack_catches("skip-scrub");
}

#[test]
fn r4_a_reused_node_key_is_caught() {
    attack_catches("reuse-node-key");
}

#[test]
fn r4_a_kept_index_entry_is_caught() {
    attack_catches("keep-index-entry");
}

#[test]
fn r4_a_kept_old_version_is_caught() {
    attack_catches("keep-old-version");
}
