//! R3 of the audit log: with every byte, every KEK and today's anchor it names the living, and nobody who was erased.

use std::path::Path;

use lethe::class::ErasureReason;
use lethe::vault::{EngineChoice, NewRecord};

use super::attack::attack;
use super::scratch;
use crate::house::{House, TENANT, app, fields, furnish, get, put, slug};

/// All files of a data directory.
pub fn files(dir: &Path, into: &mut Vec<Vec<u8>>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else if path.file_name().is_some_and(|n| n != "anchor" && n != "reserve") {
            into.push(std::fs::read(path).unwrap());
        }
    }
}

#[test]
fn r3_the_audit_log_names_nobody_once_they_are_erased() {
    let dir = scratch();
    let house = House::new(dir.path(), EngineChoice::Redb);
    let data = dir.path().join("data");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut history, mut anchors) = (Vec::new(), Vec::new());
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
        files(&data, &mut history);
        anchors.push(std::fs::read(data.join("anchor")).unwrap());
        let vault = house.open().unwrap();
        let reason = ErasureReason::SubjectRequest;
        vault.erase_subject(&app(), TENANT, gone.subject, reason).await.unwrap();
        vault.erase_records(&app(), TENANT, &[less.id], reason, None).await.unwrap();
        vault.close().unwrap();
        files(&data, &mut history);
        anchors.push(std::fs::read(data.join("anchor")).unwrap());
        ([gone.subject, gone.id, less.id], [stays.subject, stays.id])
    });
    let look = |anchor: &[u8]| {
        let home = scratch();
        let regions = history.iter().enumerate().map(|(n, b)| (n as u32, 0, b.as_slice()));
        attack(home.path(), regions, anchor, (dir.path(), &[]), false)
    };
    let today = look(&anchors[1]);
    for id in stays {
        assert!(today.named.contains(&id.to_string()), "control: the living are named");
    }
    for id in gone {
        assert!(!today.named.contains(&id.to_string()), "the log names what was erased");
    }
    assert!(today.unnamed >= 4, "their entries are there: made, read, erased with a record");
    let before = look(&anchors[0]);
    for id in gone {
        assert!(before.named.contains(&id.to_string()), "control: the anchor of before names it");
    }
}
