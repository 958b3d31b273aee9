//! R3 of the audit log: with every byte, every KEK and today's anchor it names the living, and nobody who was erased.

use lethe::class::ErasureReason;
use lethe::vault::{EngineChoice, NewRecord};

use super::attack::Seized;
use super::scratch;
use crate::house::{House, TENANT, app, fields, furnish, get, put, slug};

#[test]
fn r3_the_audit_log_names_nobody_once_they_are_erased() {
    let dir = scratch();
    let house = House::new(dir.path(), EngineChoice::Redb);
    let mut seized = Seized::new(dir.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (gone, stays) = runtime.block_on(async {
        let vault = house.create();
        furnish(&vault).await;
        let person = |n: &str| fields(&[("reference", n), ("city", "Ulm"), ("note", n)]);
        let gone = put(&vault, "customer", person("gone")).await.unwrap();
        let stays = put(&vault, "customer", person("stays")).await.unwrap();
        let more = NewRecord {
            rtype: slug("visit"),
            subject: Some(stays.subject),
            fields: person("less"),
            request: None,
        };
        let less = vault.create_record(&app(), TENANT, more).await.unwrap();
        for id in [gone.id, stays.id, less.id] {
            get(&vault, id).unwrap();
        }
        vault.close().unwrap();
        drop(vault);
        seized.take();
        let vault = house.open().unwrap();
        let reason = ErasureReason::SubjectRequest;
        vault.erase_subject(&app(), TENANT, gone.subject, reason).await.unwrap();
        vault.erase_records(&app(), TENANT, &[less.id], reason, None).await.unwrap();
        vault.close().unwrap();
        seized.take();
        ([gone.subject, gone.id, less.id], [stays.subject, stays.id])
    });
    let today = seized.open(1);
    for id in stays {
        assert!(today.named.contains(&id.to_string()), "control: the living are named");
    }
    for id in gone {
        assert!(!today.named.contains(&id.to_string()), "the log names what was erased");
    }
    assert!(today.unnamed >= 4, "their entries are there: made, read, erased with a record");
    let before = seized.open(0);
    for id in gone {
        assert!(before.named.contains(&id.to_string()), "control: the anchor of before names it");
    }
}
