//! R1: kill -9 under mixed load, again and again on the same vault.

use std::time::Duration;

use super::certified::certificates_hold;
use super::fate::{check, fates, log_holds, repeat};
use super::named::index_holds;
use super::trees::trees_hold;
use super::worker::Shifted;
use super::{Orders, scale, scratch};
use crate::house::House;
use crate::model::Dice;

fn rounds(engine: &'static str, rounds: usize, seed: u64) {
    let home = scratch();
    let dir = home.path().join("vault");
    std::fs::create_dir(&dir).unwrap();
    let mut dice = Dice::new(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for round in 0..rounds {
        let orders = Orders {
            secs: 20,
            ..Orders::new(&dir, engine, seed * 100_000 + round as u64, 1_000_000)
        };
        let mut worker = orders.spawn(None);
        let answers = dir.join("answers");
        let before = std::fs::read(&answers).map_or(0, |a| a.len());
        // Bounded: a worker that writes nothing is a failure of its own, seen below.
        for _ in 0..2000 {
            if std::fs::read(&answers).map_or(0, |a| a.len()) > before {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(dice.below(120)));
        worker.kill().unwrap();
        worker.wait().unwrap();
        let answers = std::fs::read_to_string(&answers).unwrap();
        assert!(answers.len() > before, "round {round}: the worker was answered nothing");
        // A line that was cut off must not swallow the next worker's first.
        let whole = answers.rfind('\n').map_or("", |end| &answers[..=end]);
        std::fs::write(dir.join("answers"), whole).unwrap();
        let mut house = House::new(&dir, orders.engine());
        house.clock = Shifted::of(&dir);
        let vault = house.open();
        let vault = vault.unwrap_or_else(|e| panic!("round {round}: does not open: {e}"));
        let fates = fates(whole);
        let verdict = check(&vault, &fates)
            .and_then(|()| runtime.block_on(log_holds(&vault, &fates)))
            .and_then(|()| runtime.block_on(index_holds(&vault, &fates)))
            .and_then(|()| runtime.block_on(trees_hold(&vault, whole)))
            .and_then(|()| runtime.block_on(certificates_hold(&vault)))
            .and_then(|()| runtime.block_on(repeat(&vault, &fates)));
        if let Err(why) = verdict {
            let id = why.split(' ').next().unwrap_or_default();
            let told = |line: &&str| line.contains(id) || line.len() == 1;
            let lines: Vec<_> = whole.lines().filter(told).collect();
            panic!("round {round}: {why}; {lines:?}");
        }
    }
    println!("R1 {engine}: {rounds} kills, nothing lost, nothing un-erased");
}

#[test]
fn r1_kills_of_redb_lose_nothing() {
    rounds("redb", scale(100, 5000), 3);
}

#[test]
fn r1_kills_of_sled_lose_nothing() {
    rounds("sled", scale(10, 500), 4);
}
