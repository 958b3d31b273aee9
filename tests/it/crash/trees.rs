//! The trees over both logs after a crash: every checkpoint that was handed out is still a beginning of its log, and
//! every proof holds.

use lethe::class::Role;
use lethe::crypto::checkpoint::Checkpoint;
use lethe::crypto::merkle::{leaf_hash, verify_consistency, verify_inclusion};
use lethe::vault::{LogPermit, Vault, VaultError};

use crate::house::permit;

pub fn readers() -> [LogPermit; 2] {
    let (ledger, audit) = (permit(Role::Auditor, None), permit(Role::Auditor, None));
    [LogPermit::Ledger(ledger), LogPermit::Audit(audit)]
}

/// Hands out a checkpoint of a log, as the line that is to be kept of it. Also asks for a proof, which has tiles made.
pub async fn hand_out(vault: &Vault, log: usize) -> Result<String, VaultError> {
    let reader = &readers()[log];
    let head = vault.log_checkpoint(reader, log == 1).await?.checkpoint;
    if let Some(last) = head.size.checked_sub(1) {
        // While it is asked for, the log may be pruned.
        match vault.log_inclusion(reader, last / 2, Some(head.size)).await {
            Err(VaultError::Pruned(_)) => {}
            found => drop(found?),
        }
    }
    let root: String = head.root.iter().map(|b| format!("{b:02x}")).collect();
    Ok(format!("{log} {} {root}", head.size))
}

/// Sizes and roots of the checkpoints in these lines, by log.
fn handed_out(lines: &str) -> [Vec<(u64, [u8; 32])>; 2] {
    let mut all = [Vec::new(), Vec::new()];
    for line in lines.split_inclusive('\n').filter_map(|l| l.strip_suffix('\n')) {
        let Some(rest) = line.strip_prefix("K ") else { continue };
        let words: Vec<&str> = rest.split(' ').collect();
        let hex = |at| u8::from_str_radix(&words[2][at..at + 2], 16).unwrap();
        let root = std::array::from_fn(|n| hex(2 * n));
        all[words[0].parse::<usize>().unwrap()].push((words[1].parse().unwrap(), root));
    }
    all
}

/// What is wrong with the trees of an open vault, if something is.
pub async fn trees_hold(vault: &Vault, lines: &str) -> Result<(), String> {
    let names = ["ledger", "audit log"];
    for ((reader, known), name) in readers().iter().zip(handed_out(lines)).zip(names) {
        let failed = |e: VaultError| format!("the {name}: {e}");
        let wrong = |e: &dyn std::fmt::Display| format!("the {name}: {e}");
        let told = vault.log_checkpoint(reader, false).await.map_err(failed)?;
        let opened = Checkpoint::open(&told.note, *told.key.public()).map_err(|e| wrong(&e))?;
        let (size, root) = (opened.0.size, opened.0.root);
        // Of what was pruned only whole blocks can be proved to be continued.
        let minimum = told.minimum_index;
        let provable = |old: &u64| *old >= minimum || old.is_multiple_of(256);
        let known = known.iter().rev().filter(|(old, _)| provable(old));
        for (old, old_root) in known.take(12).copied() {
            if old > size {
                return Err(format!(
                    "the {name} has {size} entries, and had {old} that were signed"
                ));
            }
            let (_, proof) =
                vault.log_consistency(reader, old, Some(size)).await.map_err(failed)?;
            verify_consistency((old, old_root), (size, root), &proof.path)
                .map_err(|e| wrong(&e))?;
        }
        for index in [minimum, size / 3, size / 2, size.saturating_sub(1)] {
            if (minimum..size).contains(&index) {
                let (leaf, proof) =
                    vault.log_inclusion(reader, index, Some(size)).await.map_err(failed)?;
                verify_inclusion(leaf_hash(&leaf), index, (size, root), &proof.path)
                    .map_err(|e| wrong(&e))?;
            }
        }
    }
    Ok(())
}
