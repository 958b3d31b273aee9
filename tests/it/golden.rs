//! R18: a vault that was written once, kept in the repository, opens for ever: its records are read, its receipt is
//! given again, its log is whole. A change of the format makes a file of its own and leaves the old one.
//!
//! `LETHE_GOLDEN=write` writes the file of the present format anew; that is for a change of the format only.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use lethe::class::{ErasureReason, Role};
use lethe::crypto::merkle::{Frontier, leaf_hash};
use lethe::id::RecordId;
use lethe::store::{Engine, Memory};
use lethe::vault::fieldmap::ValueRef;
use lethe::vault::{EngineChoice, Vault, VaultError};

use crate::crash::scratch;
use crate::house::{House, TENANT, app, fields, furnish, get, permit, put, text, update};

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/format-2.txt")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// A vault with a record, a changed one, a large one and an erased one, as lines of `name value` and `key value`.
async fn write() {
    let dir = scratch();
    let rows = Arc::new(Memory::new());
    let house = House::new(dir.path(), EngineChoice::Given(rows.clone()));
    let vault = house.create();
    furnish(&vault).await;
    let person = |n: &str| fields(&[("reference", n), ("city", "Ulm"), ("note", n)]);
    let plain = put(&vault, "customer", person("plain")).await.unwrap();
    let changed = put(&vault, "customer", person("changed")).await.unwrap();
    update(&vault, changed.id, fields(&[("note", "changed twice")])).await.unwrap();
    let mut large = person("large");
    large.insert("photo".into(), lethe::vault::value::Value::Bytes(vec![7; 20_000]));
    let large = put(&vault, "customer", large).await.unwrap();
    let gone = put(&vault, "visit", person("gone")).await.unwrap();
    let reason = ErasureReason::SubjectRequest;
    let receipt = vault.erase_records(&app(), TENANT, &[gone.id], reason, None).await.unwrap();
    vault.close().unwrap();
    drop(vault);
    let mut out = String::new();
    for (name, id) in
        [("plain", plain.id), ("changed", changed.id), ("large", large.id), ("gone", gone.id)]
    {
        writeln!(out, "{name} {id}").unwrap();
    }
    writeln!(out, "receipt {}", hex(&receipt.receipts[0].signed_bytes)).unwrap();
    writeln!(out, "kek {}", std::fs::read_to_string(dir.path().join("kek")).unwrap().trim())
        .unwrap();
    writeln!(out, "anchor {}", hex(&std::fs::read(dir.path().join("data/anchor")).unwrap()))
        .unwrap();
    for row in rows.scan(&[], &[255], usize::MAX).unwrap() {
        writeln!(out, "row {} {}", hex(&row.key), hex(&row.value)).unwrap();
    }
    std::fs::create_dir_all(path().parent().unwrap()).unwrap();
    std::fs::write(path(), out).unwrap();
}

async fn check(vault: &Vault, named: impl Fn(&str) -> String) {
    let id = |name: &str| RecordId::parse(&named(name)).unwrap();
    let note = |name: &str| text(&get(vault, id(name)).unwrap(), "note").unwrap().to_owned();
    assert_eq!((note("plain"), note("changed")), ("plain".into(), "changed twice".into()));
    let large = get(vault, id("large")).unwrap();
    assert!(matches!(large.fields.get("photo"), Some(ValueRef::Bytes(b)) if b.len() == 20_000));
    assert!(matches!(get(vault, id("gone")), Err(VaultError::Erased(_))));
    let reason = ErasureReason::SubjectRequest;
    let again = vault.erase_records(&app(), TENANT, &[id("gone")], reason, None).await.unwrap();
    assert_eq!(hex(&again.receipts[0].signed_bytes), named("receipt"));
    let signed = vault.audit_head(&permit(Role::Auditor, None)).await.unwrap();
    let mut tree = Frontier::default();
    let of = permit(Role::Auditor, None);
    for line in vault.audit_part(&of, 0, signed.head.size).unwrap() {
        tree.push(leaf_hash(&line.told.unwrap().leaf));
    }
    assert_eq!((tree.size(), tree.root()), (signed.head.size, signed.head.root));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_of_every_format_that_there_was_opens() {
    if std::env::var("LETHE_GOLDEN").is_ok_and(|v| v == "write") {
        write().await;
    }
    let golden = std::fs::read_to_string(path()).unwrap();
    let named = |name: &str| {
        let line = golden.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap().to_owned()
    };
    let dir = scratch();
    let rows = Arc::new(Memory::new());
    let written = golden.lines().filter_map(|l| l.strip_prefix("row ")?.split_once(' '));
    let writes: Vec<_> = written.map(|(k, v)| (unhex(k), Some(unhex(v)))).collect();
    assert!(writes.len() > 30);
    rows.commit(&writes).unwrap();
    let house = House::new(dir.path(), EngineChoice::Given(rows));
    std::fs::create_dir(dir.path().join("data")).unwrap();
    std::fs::write(dir.path().join("data/anchor"), unhex(&named("anchor"))).unwrap();
    let kek = lethe::keys::kek::create_file(&dir.path().join("kek"));
    kek.unwrap();
    std::fs::write(dir.path().join("kek"), named("kek") + "\n").unwrap();
    let vault = house.open().unwrap();
    check(&vault, named).await;
    // It goes on: it takes puts, and is whole after another start.
    put(&vault, "customer", fields(&[("reference", "new"), ("note", "new")])).await.unwrap();
    vault.close().unwrap();
    drop(vault);
    let vault = house.open().unwrap();
    check(&vault, named).await;
}
