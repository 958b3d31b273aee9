//! Rotations whose last step, the change of KEK files, fails: the batch is complete all the same, and the only key that
//! opens the anchor is never removed.

use super::batch::{BatchFacts, Edits};
use super::kek::KekSource;
use super::tests::{House, no_ledger};
use super::*;
use crate::clock::{ManualClock, UnixMillis};
use crate::id::Gen;

#[test]
fn a_kek_that_could_not_take_its_place_is_kept_until_it_can() {
    let house = House::new();
    let tree = house.create(Sabotage::None);
    let (kek, next) = (house.path("kek"), house.path("kek.next"));
    let source = KekSource::File(kek.clone());
    let clock = ManualClock::at(UnixMillis(9));
    let mut in_the_way = |facts: &BatchFacts| {
        // After the next KEK is made, and before it takes the old one's place.
        std::fs::remove_file(&kek).unwrap();
        std::fs::create_dir(&kek).unwrap();
        no_ledger(facts)
    };
    let done = tree.batch(Edits::default(), Some(&source), &clock, &mut in_the_way).unwrap();
    assert_eq!(
        done.generation(),
        Gen(2),
        "the anchor is sealed under the new KEK: the batch is done"
    );
    let only = std::fs::read(&next).unwrap();
    let again = tree.batch(Edits::default(), Some(&source), &clock, &mut no_ledger);
    assert!(matches!(again, Err(KeyError::Kek(_))), "{again:?}");
    assert_eq!(std::fs::read(&next).unwrap(), only, "all that opens the anchor");
    std::fs::remove_dir(&kek).unwrap();
    // The way is free again: it takes its place, and a new one follows it.
    tree.batch(Edits::default(), Some(&source), &clock, &mut no_ledger).unwrap();
    assert!(!next.exists() && std::fs::read(&kek).unwrap() != only);
    drop(tree);
    assert_eq!(house.open().unwrap().tree.generation(), Gen(3));
}
