//! R3 of the audit log: with every byte, every KEK and today's anchor it names the living, and nobody who was erased.

use std::path::Path;

use lethe::class::ErasureReason;
use lethe::vault::EngineChoice;

use super::attack::attack;
use super::scratch;
use crate::house::{House, TENANT, app, fields, furnish, get, put};

/// All files of a data directory.
fn files(dir: &Path, into: &mut Vec<Vec<u8>>) {
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
        for id in [gone.id, stays.id] {
            get(&vault, id).unwrap();
        }
        vault.close().unwrap();
        drop(vault);
        files(&data, &mut history);
        anchors.push(std::fs::read(data.join("anchor")).unwrap());
        let vault = house.open().unwrap();
        let reason = ErasureReason::SubjectRequest;
        vault.erase_subject(&app(), TENANT, gone.subject, reason).await.unwrap();
        vault.close().unwrap();
        files(&data, &mut history);
        anchors.push(std::fs::read(data.join("anchor")).unwrap());
        (gone.subject.to_string(), stays.subject.to_string())
    });
    let look = |anchor: &[u8]| {
        let home = scratch();
        let regions = history.iter().enumerate().map(|(n, b)| (n as u32, 0, b.as_slice()));
        attack(home.path(), regions, anchor, (dir.path(), &[]), false)
    };
    let today = look(&anchors[1]);
    assert!(today.named.contains(&stays), "control: the living are named");
    assert!(!today.named.contains(&gone), "the log names someone who was erased");
    assert!(today.unnamed >= 4, "their entries are there: made, read, erased with a record");
    let before = look(&anchors[0]);
    assert!(before.named.contains(&gone), "control: the anchor of before names them");
}
