//! R6, inside the process: the n-th operation of engine or journal fails, for every n. Nothing acknowledged is lost
//! or comes
//! back, a failed write stops everything until the vault is reopened, and nothing panics.

use std::sync::Arc;

use lethe::store::faulty::{Fault, Faulty, Plan};
use lethe::store::{Engine, StoreError};
use lethe::vault::{EngineChoice, Vault};

use super::{fixed_work, is_stopped, memory, runtime};
use crate::crash::fate::{check, fates};
use crate::crash::{scale, scratch};
use crate::house::{House, fields, furnish, put};

#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    Engine,
    Sink,
}

fn failing(e: StoreError) -> StoreError {
    e
}

fn io() -> StoreError {
    failing(StoreError::Io("planned".into()))
}

/// One round; `false` if the fault did not fire.
fn round(at: At, fault: fn(u64) -> Fault, n: u64, stops: bool) -> bool {
    let dir = scratch();
    let rows: Arc<dyn Engine> = memory();
    let plan = Plan::new(Vec::new());
    let faulty = Arc::new(Faulty::new(rows.clone(), plan.clone()));
    let mut house = House::new(dir.path(), EngineChoice::Given(rows.clone()));
    let rt = runtime();
    {
        let vault = house.create();
        rt.block_on(furnish(&vault));
        vault.close().unwrap();
    }
    match at {
        At::Engine => house.engine = EngineChoice::Given(faulty),
        At::Sink => house.hooks.sink = Some(plan.clone()),
    }
    plan.add(fault(n));
    let mut lines = String::new();
    let mut fired = true;
    // A vault that refuses to open has answered nothing.
    if let Ok(vault) = house.open() {
        rt.block_on(fixed_work(&vault, &mut |line| lines += &format!("{line}\n")));
        fired = match fault(n) {
            Fault::Any(..) => plan.operations() >= n,
            _ => plan.writes() >= n,
        };
        if fired && stops {
            everything_is_refused(&rt, &vault, n);
        }
        drop(vault);
    }
    house.engine = EngineChoice::Given(rows);
    house.hooks.sink = None;
    let vault = house.open().unwrap_or_else(|e| panic!("{at:?} {n}: does not open again: {e}"));
    check(&vault, &fates(&lines)).unwrap_or_else(|e| panic!("{at:?} {n}: {e}"));
    let set = fields(&[("reference", "again"), ("city", "c"), ("note", "again")]);
    rt.block_on(put(&vault, "customer", set)).unwrap();
    vault.close().unwrap();
    fired
}

/// The background may have used up the count after the last call; until then nobody knows of the failure.
fn everything_is_refused(rt: &tokio::runtime::Runtime, vault: &Vault, n: u64) {
    for attempt in 0..3 {
        let set = fields(&[("reference", "refused"), ("city", "c"), ("note", "refused")]);
        match rt.block_on(put(vault, "customer", set)) {
            Err(e) if is_stopped(&e) => return,
            Err(_) if attempt == 0 => {}
            Err(e) => panic!("{n}: {e}"),
            Ok(_) => panic!("{n}: a write after a failed one was acknowledged"),
        }
    }
}

#[test]
fn the_nth_write_of_the_engine_fails() {
    let kinds: [fn(u64) -> Fault; 3] = [
        |n| Fault::Write(n, io()),
        |n| Fault::WriteThenFail(n, io()),
        |n| Fault::Write(n, StoreError::Damaged("planned".into())),
    ];
    for (nth, kind) in kinds.into_iter().enumerate() {
        let (mut n, mut missed) = (0, 0);
        // How writes form groups differs from round to round: one that needed fewer is not the end.
        while missed < 3 {
            n += 1;
            missed = if round(At::Engine, kind, n, true) { 0 } else { missed + 1 };
            assert!(n < 500, "the fault never stops firing");
        }
        println!("R6 engine writes, kind {nth}: {n} rounds");
        assert!(n > 20, "the work has more writes than {n}");
    }
}

#[test]
fn the_nth_write_or_sync_of_the_journal_fails() {
    let mut n = 0;
    while round(At::Sink, |n| Fault::Write(n, io()), n + 1, true) {
        n += 1;
        assert!(n < 500, "the fault never stops firing");
    }
    println!("R6 journal: {n} rounds");
    assert!(n > 10, "the work has more journal writes than {n}");
}

#[test]
fn the_nth_operation_of_any_kind_fails() {
    let most = scale(500, 20_000) as u64;
    let mut rounds = 0;
    for n in 1..=most {
        rounds = n;
        if !round(At::Engine, |n| Fault::Any(n, io()), n, false) {
            break;
        }
    }
    println!("R6 any operation: {rounds} rounds");
    assert!(rounds > 100, "the work has more operations than {rounds}");
}
