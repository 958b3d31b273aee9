//! A full disk: puts are refused, then reads, since the log of them would fill it; erasures go on, and puts and reads
//! come back with the space.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lethe::class::Role;
use lethe::keys::KeyError;
use lethe::limits::{DISK_FREE_MIN, DISK_RESERVE};
use lethe::store::StoreError;
use lethe::vault::{EngineChoice, Vault, VaultError};

use super::{erase, new, renew, runtime};
use crate::crash::scratch;
use crate::house::{House, fields, furnish, get, operator, permit, put};

fn is_full(e: &VaultError) -> bool {
    matches!(
        e,
        VaultError::Store(StoreError::DiskFull)
            | VaultError::Keys(KeyError::Store(StoreError::DiskFull))
    )
}

fn says_full(vault: &Vault) -> bool {
    let warnings = vault.status(&permit(Role::Auditor, None)).unwrap().warnings;
    warnings.iter().any(|w| w.contains("disk is almost full"))
}

#[test]
fn on_a_full_disk_puts_stop_then_reads_and_erasures_go_on() {
    for engine in [EngineChoice::Redb, EngineChoice::Sled] {
        let dir = scratch();
        let free = Arc::new(AtomicU64::new(1 << 40));
        let mut house = House::new(dir.path(), engine);
        let space = free.clone();
        house.hooks.free_space = Some(Arc::new(move || Ok(space.load(Ordering::SeqCst))));
        let rt = runtime();
        rt.block_on(async {
            let vault = house.create();
            furnish(&vault).await;
            let mut all = Vec::new();
            for n in 0..30 {
                all.push(new(&vault, "customer", n, 0).await);
            }
            renew(&vault, &mut all[0]).await;
            let reserve = dir.path().join("data/reserve");
            assert!(reserve.exists());
            free.store(DISK_FREE_MIN - 1, Ordering::SeqCst);
            // The guard looks again after a tenth of a second.
            tokio::time::sleep(std::time::Duration::from_millis(150)).await;
            let set = || fields(&[("reference", "x"), ("city", "c"), ("note", "x")]);
            let refused = put(&vault, "customer", set()).await.err().unwrap();
            assert!(is_full(&refused), "{refused:?}");
            assert!(refused.to_string().contains("space is freed"), "{refused}");
            assert!(says_full(&vault));
            all.iter().for_each(|k| k.read(&vault).unwrap());
            free.store(DISK_FREE_MIN / 2 - 1, Ordering::SeqCst);
            tokio::time::sleep(std::time::Duration::from_millis(150)).await;
            let refused = get(&vault, all[0].id).err().unwrap();
            assert!(is_full(&refused), "a read without an entry in the log: {refused:?}");
            assert!(says_full(&vault), "the status is told all the same");
            // Erasures go on, also while space is really going out: the reserve is given back for them.
            for (at, left) in [DISK_FREE_MIN - 1, DISK_RESERVE / 4, 0].into_iter().enumerate() {
                free.store(left, Ordering::SeqCst);
                let gone = all.remove(at);
                let receipt =
                    erase(&vault, gone.id).await.unwrap_or_else(|e| panic!("{left}: {e:?}"));
                assert!(matches!(get(&vault, gone.id), Err(VaultError::Erased(_))));
                assert_eq!(erase(&vault, gone.id).await.unwrap(), receipt);
            }
            assert!(!reserve.exists(), "the reserve was not given back");
            vault.rotate_key(&operator(None)).await.unwrap();
            free.store(1 << 40, Ordering::SeqCst);
            let view = put(&vault, "customer", set()).await.unwrap();
            get(&vault, view.id).unwrap();
            assert!(!says_full(&vault));
            assert!(reserve.exists(), "the reserve was not taken back");
            all.iter().for_each(|k| k.read(&vault).unwrap());
            vault.close().unwrap();
            drop(vault);
            // A vault opens and closes on a full disk as well.
            free.store(0, Ordering::SeqCst);
            let vault = house.open().unwrap();
            assert!(is_full(&get(&vault, all[0].id).err().unwrap()));
            free.store(1 << 40, Ordering::SeqCst);
            tokio::time::sleep(std::time::Duration::from_millis(150)).await;
            all.iter().for_each(|k| k.read(&vault).unwrap());
            free.store(0, Ordering::SeqCst);
            vault.close().unwrap();
        });
    }
}
