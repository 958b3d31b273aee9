//! Certificates after a crash: there is one for each bucket that the vault says it killed, it holds without the vault,
//! and it is of no generation that the anchor has not.

use lethe::class::Role;
use lethe::clock::UnixMillis;
use lethe::crypto::checkpoint::Checkpoint;
use lethe::vault::Vault;
use lethe::vault::certificate::Wanted;
use lethe::vault::certificate::verify::{Held, verify};

use crate::house::{TENANT, permit};

/// The last ones of a long life.
const LOOKED_AT: usize = 3;

pub async fn certificates_hold(vault: &Vault) -> Result<(), String> {
    let failed = |e: lethe::vault::VaultError| format!("a certificate: {e}");
    let status = vault.status(&permit(Role::Auditor, None)).map_err(failed)?;
    let auditor = || permit(Role::Auditor, Some(TENANT));
    let (mut killed, mut from) = (Vec::new(), 0);
    loop {
        let ever = (UnixMillis(0), UnixMillis(i64::MAX));
        let (page, next) =
            vault.killed_buckets(&auditor(), TENANT, ever, from, 100).map_err(failed)?;
        killed.extend(page);
        match next {
            Some(next) => from = next,
            None => break,
        }
    }
    // Of a hold's own bucket there is nothing to tell.
    killed.retain(|bucket| bucket.rtype.is_some());
    for bucket in killed.iter().rev().take(LOOKED_AT) {
        let wanted = Wanted::Leaf(bucket.leaf_index);
        let made = vault.certificate(&auditor(), TENANT, wanted, None).await.map_err(failed)?;
        let (checkpoint, _) = Checkpoint::open(&made.checkpoint, status.public_key)
            .map_err(|e| format!("a certificate's checkpoint: {e}"))?;
        let public_key = status.public_key;
        let held = Held { public_key, checkpoint: &checkpoint, bridge: None, record: None };
        let checked = verify(&made, &held).map_err(|e| format!("a certificate: {e}"))?;
        let facts = checked.facts;
        if facts.erasure.generation > status.generation.0 {
            return Err("a certificate is ahead of the anchor".to_owned());
        }
        if facts.destroyed.records != u64::from(bucket.records) {
            return Err("a certificate and the list of them count differently".to_owned());
        }
    }
    Ok(())
}
