//! R3 of legal holds: what one keeps is there, old versions too, and once its end erased it, it opens to nobody.

use std::sync::Arc;

use lethe::class::ErasureReason;
use lethe::clock::{Clock, ManualClock};
use lethe::id::RecordId;
use lethe::vault::holds::draft::ScopeDraft;
use lethe::vault::{EngineChoice, Vault};

use super::attack::Seized;
use super::scratch;
use crate::holds::{hold, release};
use crate::house::{House, TENANT, app, fields, furnish, put, update};
use crate::retention::{end, is_gone, noon, sweep, until};

/// A visit that is held, was changed, and left its bucket with its older version.
async fn kept(vault: &Vault, clock: &ManualClock) -> (RecordId, RecordId) {
    furnish(vault).await;
    let record = put(vault, "visit", fields(&[("reference", "a"), ("note", "one")])).await.unwrap();
    let placed = hold(vault, ScopeDraft::Subject(record.subject)).await;
    update(vault, record.id, fields(&[("note", "two")])).await.unwrap();
    clock.set(end("2026-05-11"));
    assert_eq!(sweep(vault).await.failed, 0);
    (record.id, placed)
}

#[test]
fn r3_what_a_hold_kept_opens_to_nobody_once_its_end_erased_it() {
    let dir = scratch();
    let clock = Arc::new(ManualClock::at(noon("2026-05-10")));
    let mut house = House::new(dir.path(), EngineChoice::Redb);
    house.clock = Arc::clone(&clock) as Arc<dyn Clock>;
    let mut seized = Seized::new(dir.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let record = runtime.block_on(async {
        let vault = house.create();
        let (record, placed) = kept(&vault, &clock).await;
        let reason = ErasureReason::SubjectRequest;
        let asked = vault.erase_records(&app(), TENANT, &[record], reason, None).await.unwrap();
        assert_eq!(asked.postponed.len(), 1);
        seized.take();
        release(&vault, placed).await;
        // Reads are refused from the moment that the erasure begins.
        until("it is being erased", || is_gone(&vault, record)).await;
        let answered = vault.erase_records(&app(), TENANT, &[record], reason, None).await.unwrap();
        assert_eq!(answered.receipts.len(), 1);
        // As soon as it is answered for.
        seized.take();
        vault.close().unwrap();
        seized.take();
        record.to_string()
    });
    seized.history.push(std::fs::read(dir.path().join("kek")).unwrap());
    let while_held = seized.open(0).records;
    let versions: Vec<u64> = while_held[&record].iter().map(|(version, _)| *version).collect();
    assert!(versions.contains(&1) && versions.contains(&2), "both are kept: {versions:?}");
    for moment in [1, 2] {
        let now = seized.open(moment).records;
        assert!(!now.contains_key(&record), "moment {moment}: {:?}", now[&record]);
        assert!(!now.is_empty(), "control: the hold itself is kept as evidence");
    }
}
