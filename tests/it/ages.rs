//! How old the keys of each level are: nobody is told that a key is younger than it is.

use std::sync::Arc;
use std::time::Duration;

use lethe::class::{ErasureReason, Role};
use lethe::clock::{ManualClock, UnixMillis};
use lethe::store::{Engine, Memory};
use lethe::vault::{EngineChoice, KeyInfo, NewRecord, Vault};

use crate::crash::scratch;
use crate::house::{House, TENANT, app, fields, furnish, permit, put, slug};
use crate::peer::PATIENCE;

const HOUR: i64 = 3_600_000;

fn keys(vault: &Vault) -> Vec<KeyInfo> {
    vault.key_status(&permit(Role::Auditor, None)).unwrap()
}

fn generation(vault: &Vault) -> u64 {
    vault.status(&permit(Role::Auditor, None)).unwrap().generation.0
}

/// Kind, count, and hours since the start at which the oldest and the youngest were made.
fn ages(vault: &Vault) -> Vec<(&'static str, u64, i64, i64)> {
    let hours = |t: Option<UnixMillis>| t.map_or(-1, |t| t.0 / HOUR);
    let row = |k: KeyInfo| (k.kind, k.count, hours(k.since), hours(k.newest_since));
    keys(vault).into_iter().map(row).collect()
}

fn generations(vault: &Vault) -> Vec<(u64, u64)> {
    keys(vault).iter().filter_map(|k| k.generations).map(|(a, b)| (a.0, b.0)).collect()
}

fn memory() -> Arc<dyn Engine> {
    Arc::new(Memory::new())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_key_is_as_old_as_its_making_whatever_grows_or_restarts_since() {
    let (dir, clock) = (scratch(), Arc::new(ManualClock::at(UnixMillis(0))));
    let mut house = House::new(dir.path(), EngineChoice::Given(memory()));
    house.clock = clock.clone();
    let at = |hour: i64| clock.set(UnixMillis(hour * HOUR));
    let rt = runtime();
    let vault = house.create();
    at(1);
    let ada = rt.block_on(async {
        furnish(&vault).await;
        put(&vault, "customer", fields(&[("note", "ada")])).await.unwrap().id
    });
    // Growth has no batch: all that is known is that it came after the vault's making.
    let first = [("kek", 1, 0, 0), ("root", 1, 0, 0), ("tenant", 1, 0, 0)];
    assert_eq!(ages(&vault)[..3], first);
    assert_eq!(ages(&vault)[3..], [("bucket", 2, 0, 0), ("page", 2, 0, 0)]);

    at(2);
    let reason = ErasureReason::SubjectRequest;
    rt.block_on(vault.erase_records(&app(), TENANT, &[ada], reason, None)).unwrap();
    // The path of the erased record has fresh keys; the subject's bucket and page have not.
    let after = [("kek", 1, 0, 0), ("root", 1, 2, 2), ("tenant", 1, 2, 2)];
    assert_eq!(ages(&vault)[..3], after);
    let kept = ages(&vault);
    assert_eq!(kept[3], ("bucket", 2, 0, 2));
    // Hot buckets get spare pages with the batch's beginning.
    assert_eq!((kept[4].0, kept[4].2, kept[4].3), ("page", 0, 2));
    assert_eq!(generations(&vault), [(2, 2), (2, 2), (1, 2), (1, 2)]);

    at(3);
    for _ in 0..300 {
        rt.block_on(vault.create_subject(&app(), TENANT, None)).unwrap();
    }
    // The subjects' bucket took new pages under its old key.
    let grown = ages(&vault);
    assert_eq!(grown[..3], after);
    assert_eq!(grown[3], ("bucket", 2, 0, 2), "growth makes no key younger");
    assert!(grown[4].1 > kept[4].1 && grown[4].2 == 0);

    vault.close().unwrap();
    drop(vault);
    at(4);
    let vault = house.open().unwrap();
    assert_eq!(ages(&vault), grown, "nor does a restart");
    vault.close().unwrap();
}

/// Found while it was built: the first start after a vault's making noted the level of generation 1 as of then, and the
/// root key was said to be as young as that.
#[test]
fn a_key_that_no_batch_made_is_as_old_as_the_vault() {
    let (dir, clock) = (scratch(), Arc::new(ManualClock::at(UnixMillis(0))));
    let mut house = House::new(dir.path(), EngineChoice::Given(memory()));
    house.clock = clock.clone();
    house.create().close().unwrap();
    clock.set(UnixMillis(9 * HOUR));
    let vault = house.open().unwrap();
    assert_eq!(ages(&vault)[1], ("root", 1, 0, 0));
    assert!(keys(&vault)[2..].iter().all(|k| k.count == 0 && k.since.is_none()));
    vault.close().unwrap();
}

/// A batch that only merges runs says nothing of its own in the ledger.
#[test]
fn the_keys_of_a_batch_without_a_leaf_are_not_called_younger_than_they_are() {
    let (dir, clock) = (scratch(), Arc::new(ManualClock::at(UnixMillis(0))));
    let mut house = House::new(dir.path(), EngineChoice::Given(memory()));
    house.clock = clock.clone();
    house.change = |setup| setup.index_tail_max = 8;
    let rt = runtime();
    let vault = house.create();
    // One bucket grows, so that there is one merge.
    let (about, other) = rt.block_on(async {
        furnish(&vault).await;
        let about = vault.create_subject(&app(), TENANT, None).await.unwrap().id;
        (about, vault.create_subject(&app(), TENANT, None).await.unwrap().id)
    });
    clock.set(UnixMillis(HOUR));
    let since = std::time::Instant::now();
    let mut n = 0;
    while generation(&vault) == 1 {
        assert!(since.elapsed() < PATIENCE, "nothing was merged");
        for _ in 0..16 {
            n += 1;
            let fields = fields(&[("reference", &format!("r{n}")), ("note", "x")]);
            let (rtype, subject) = (slug("customer"), Some(about));
            let new = NewRecord { rtype, subject, fields, request: None };
            rt.block_on(vault.create_record(&app(), TENANT, new)).unwrap();
        }
        std::thread::sleep(Duration::from_millis(60));
    }
    assert_eq!((generation(&vault), ages(&vault)[1]), (2, ("root", 1, 0, 0)));
    clock.set(UnixMillis(2 * HOUR));
    // The next batch states the level of that one, with a time after its keys were made. It is about another bucket.
    let reason = ErasureReason::SubjectRequest;
    rt.block_on(vault.erase_subject(&app(), TENANT, other, reason)).unwrap();
    let buckets = keys(&vault).remove(3);
    assert_eq!((generations(&vault)[2].0, buckets.since), (2, Some(UnixMillis(0))));
    let pages = keys(&vault).pop().unwrap();
    assert_eq!(pages.since, Some(UnixMillis(0)));
    assert!(keys(&vault)[1].since >= Some(UnixMillis(HOUR)), "{:?}", keys(&vault)[1]);
    vault.close().unwrap();
}
