//! R3 of a lawful return: who was erased and comes back is somebody new to the vault, and what was erased stays shut.

use lethe::class::ErasureReason;
use lethe::id::RequestId;
use lethe::vault::{EngineChoice, NewRecord, Vault, VaultError};

use super::attack::Seized;
use super::scratch;
use crate::house::{House, TENANT, app, fields, furnish, slug};

const ONCE: &str = "7d1f4b3a-5c60-4e21-9a70-0c5de2f0a111";

fn customer() -> NewRecord {
    let fields = fields(&[("reference", "ada"), ("city", "Ulm"), ("note", "the same person")]);
    NewRecord { rtype: slug("customer"), subject: None, fields, request: None }
}

async fn erase(vault: &Vault, subject: lethe::id::RecordId) -> Vec<Vec<u8>> {
    let reason = ErasureReason::SubjectRequest;
    let done = vault.erase_subject(&app(), TENANT, subject, reason).await.unwrap();
    done.receipts.into_iter().map(|(_, receipt)| receipt.signed_bytes).collect()
}

#[test]
fn r3_who_comes_back_is_new_and_what_was_erased_stays_shut() {
    let dir = scratch();
    let house = House::new(dir.path(), EngineChoice::Redb);
    let mut seized = Seized::new(dir.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (before, after) = runtime.block_on(async {
        let vault = house.create();
        furnish(&vault).await;
        let request = RequestId::parse_random(ONCE);
        assert!(request.is_some());
        let first = NewRecord { request, ..customer() };
        let before = vault.create_record(&app(), TENANT, first).await.unwrap();
        seized.take();
        let evidence = erase(&vault, before.subject).await;
        // The same values, the unique one among them, and nothing of before: neither ids nor the old subject.
        let after = vault.create_record(&app(), TENANT, customer()).await.unwrap();
        assert!(after.id != before.id && after.subject != before.subject);
        let under_the_old_name = NewRecord { subject: Some(before.subject), ..customer() };
        let refused = vault.create_record(&app(), TENANT, under_the_old_name).await;
        assert!(matches!(refused, Err(VaultError::Erased(_))));
        let repeated = NewRecord { request, ..customer() };
        let refused = vault.create_record(&app(), TENANT, repeated).await;
        assert!(matches!(refused, Err(VaultError::Erased(_))), "an old call brings nobody back");
        assert_eq!(erase(&vault, before.subject).await[0], evidence[0], "the old evidence stands");
        vault.close().unwrap();
        seized.take();
        (before.id.to_string(), after.id.to_string())
    });
    seized.history.push(std::fs::read(dir.path().join("kek")).unwrap());
    let (then, now) = (seized.open(0), seized.open(1));
    assert!(then.records.contains_key(&before), "control: an anchor of before opens it");
    assert!(now.records.contains_key(&after), "control: the new one opens");
    assert!(!now.records.contains_key(&before), "what was erased opens again");
    // Its key's place is nobody's any more.
    let gone: Vec<_> = then.kids.difference(&now.kids).collect();
    assert!(!gone.is_empty() && gone.iter().all(|kid| !now.listed.contains(*kid)));
}
