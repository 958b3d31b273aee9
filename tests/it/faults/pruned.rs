//! R5, rows of what stays of the audit log's pruned entries: damaged, they cost proofs at most, and no entry.

use lethe::authz::ReadAudit;
use lethe::class::Role;
use lethe::vault::{AuditFilter, LogPermit, Vault, VaultError};

use super::scene::Scene;
use crate::house::permit;

fn auditor() -> lethe::authz::Permit<ReadAudit> {
    permit(Role::Auditor, None)
}

fn begins(vault: &Vault) -> u64 {
    let page = vault.audit_entries(&auditor(), &AuditFilter::default(), None, 1).unwrap();
    assert!(page.lines[0].told.is_some());
    page.minimum_index
}

/// The vault is closed before and after.
pub fn pruned(scene: &mut Scene) {
    let vault = scene.house.open().unwrap();
    let minimum = begins(&vault);
    assert!(minimum >= 256);
    vault.close().unwrap();
    drop(vault);
    let rows = scene.all(b"z");
    assert_eq!(rows.len(), 2);
    for (key, _) in rows {
        for _ in 0..12 {
            scene.case("z", &key, &mut |scene| {
                let vault = scene.house.open().unwrap();
                assert_eq!(begins(&vault), minimum);
                let logs = LogPermit::Audit(auditor());
                let proof = scene.rt.block_on(vault.log_inclusion(&logs, minimum, None));
                let outcome = match proof {
                    Ok(_) => "not needed",
                    Err(VaultError::Damaged("audit log")) => "named",
                    Err(other) => panic!("{other}"),
                };
                assert_eq!(outcome == "named", key.len() > 1);
                vault.close().unwrap();
                outcome
            });
        }
    }
    let days = scene.all(b"j");
    let (key, _) = days.last().unwrap();
    for _ in 0..12 {
        scene.case("j", key, &mut |scene| {
            let vault = scene.house.open().unwrap();
            let officer = permit(Role::PrivacyOfficer, None);
            scene.rt.block_on(vault.run_retention(&officer)).unwrap();
            assert_eq!(begins(&vault), minimum, "what is not known to be old stays");
            vault.close().unwrap();
            "not due"
        });
    }
}
