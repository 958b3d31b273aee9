//! R9: clocks that jump make nothing due early, and bring nothing back.

use lethe::clock::{Clock, UnixMillis};
use lethe::id::RecordId;
use lethe::vault::Vault;
use lethe::vault::retention::time::ClockState;

use super::{DAY, Scene, by_hand, end, is_gone, noon, on_its_own, person, sweep};
use crate::crash::scale;
use crate::house::put;

const HOUR: i64 = 3_600_000;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % n
    }
}

/// What a record's creation and its sweep have to go by is the true time, which only the test knows.
struct Truth {
    now: i64,
    /// Records, and when each is due by the true time of its creation.
    due: Vec<(RecordId, i64)>,
}

impl Truth {
    fn check(&self, vault: &Vault, seen: &str) -> usize {
        let mut gone = 0;
        for (record, due) in &self.due {
            if is_gone(vault, *record) {
                assert!(self.now >= *due, "{seen}: {} ms early", due - self.now);
                gone += 1;
            }
        }
        gone
    }
}

/// Jumps of a second to a decade, to both sides, some of them over restarts of the daemon; time passes in between.
#[tokio::test]
async fn r9_clock_jumps_make_nothing_early_and_bring_nothing_back() {
    let rounds = scale(60, 5_000);
    let seed = std::env::var("LETHE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_261_122);
    println!("R9: {rounds} jumps, LETHE_SEED={seed}");
    let mut random = Random(seed);
    let scene = Scene::at("2026-05-10", by_hand);
    let mut vault = scene.vault().await;
    let mut truth = Truth { now: scene.clock.now().0, due: Vec::new() };
    let sizes = [1_000, 60_000, HOUR, DAY, 30 * DAY, 365 * DAY, 3_650 * DAY];
    let (mut jumps, mut gone) = (0, 0);
    for round in 0..rounds {
        let reference = format!("r{round}");
        let made = put(&vault, "visit", person(&reference)).await.unwrap();
        // Of a day's life: due when the day after its creation is over.
        truth.due.push((made.id, (truth.now.div_euclid(DAY) + 2) * DAY));
        let size = sizes[random.below(sizes.len() as u64) as usize];
        let forward = random.below(2) == 0;
        let jump = if forward { size } else { -size };
        scene.clock.jump(UnixMillis(scene.clock.now().0 + jump));
        jumps += 1;
        sweep(&vault).await;
        gone = gone.max(truth.check(&vault, &format!("round {round}, {jump} ms")));
        if random.below(4) == 0 {
            vault.close().unwrap();
            drop(vault);
            vault = scene.house.open().unwrap();
            sweep(&vault).await;
            assert!(truth.check(&vault, "restart") >= gone, "round {round}: something came back");
        }
        let passes = random.below(2 * DAY as u64) as i64;
        truth.now += passes;
        scene.clock.set(UnixMillis(scene.clock.now().0 + passes));
        sweep(&vault).await;
        let now_gone = truth.check(&vault, "time passed");
        assert!(now_gone >= gone, "round {round}: something came back");
        gone = now_gone;
        if random.below(3) == 0 {
            scene.clock.jump(UnixMillis(truth.now));
            sweep(&vault).await;
            gone = truth.check(&vault, "set right");
            let late = truth.due.iter().filter(|(_, due)| *due <= truth.now).count();
            assert_eq!(gone, late, "round {round}: with the clock right all that is due is gone");
        }
    }
    assert!(jumps == rounds && gone > rounds / 4, "{gone} of {jumps}");
    vault.close().unwrap();
}

/// The machine was off, and its clock says that a decade has passed.
#[tokio::test]
async fn after_a_long_stop_of_the_machine_nothing_goes_before_someone_confirms_the_clock() {
    let scene = Scene::at("2026-05-10", by_hand);
    let vault = scene.vault().await;
    let record = put(&vault, "customer", person("a")).await.unwrap().id;
    vault.close().unwrap();
    drop(vault);
    scene.clock.reboot();
    scene.clock.jump(noon("2036-05-10"));
    let vault = scene.house.open().unwrap();
    sweep(&vault).await;
    assert!(!is_gone(&vault, record));
    assert_eq!(vault.retention_state().clock, ClockState::Unconfirmed);
    // What is created meanwhile is kept as if the clock were right.
    let fresh = put(&vault, "visit", person("fresh")).await.unwrap();
    assert_eq!(fresh.expires, super::day("2036-05-11"));
    let permit = crate::house::permit(lethe::class::Role::PrivacyOfficer, None);
    let wrong = vault.confirm_clock(&permit, noon("2026-05-11")).await;
    assert!(matches!(wrong, Err(lethe::vault::VaultError::Precondition(_))));
    sweep(&vault).await;
    assert!(!is_gone(&vault, record), "nobody confirmed it");
    vault.confirm_clock(&permit, noon("2036-05-10")).await.unwrap();
    sweep(&vault).await;
    assert!(is_gone(&vault, record), "due in 2029");
    assert!(!is_gone(&vault, fresh.id));
    vault.close().unwrap();
}

/// Killed, not stopped: the mark in the store is at most half a minute old, and the count goes on from it.
#[tokio::test]
async fn a_crash_loses_no_time() {
    let scene = Scene::at("2026-05-10", on_its_own);
    let vault = scene.vault().await;
    let record = put(&vault, "visit", person("a")).await.unwrap().id;
    super::until("a mark was kept", || {
        lethe::store::Engine::get(&*scene.rows, b"d").unwrap().is_some()
    })
    .await;
    drop(vault);
    scene.clock.set(noon("2026-05-11"));
    scene.clock.jump(noon("2031-05-11"));
    let vault = scene.house.open().unwrap();
    sweep(&vault).await;
    assert!(!is_gone(&vault, record), "the clock jumped while the daemon was down");
    scene.clock.set(UnixMillis(scene.clock.now().0 + end("2026-05-11").0 - noon("2026-05-11").0));
    sweep(&vault).await;
    assert!(is_gone(&vault, record), "the day is over by uptime");
    vault.close().unwrap();
}
