//! What a receipt may claim follows from where the anchor lies, and a configuration can refuse to claim less.

use lethe::class::{ErasureLevel, ErasureReason, Medium, Role};
use lethe::keys::KeyError;
use lethe::keys::anchor::AnchorError;
use lethe::vault::{EngineChoice, Receipt, Vault, VaultError};

use crate::crash::scratch;
use crate::house::{House, TENANT, app, fields, furnish, permit, put};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn erase_one(vault: &Vault, reference: &str) -> Receipt {
    runtime().block_on(async {
        let set = fields(&[("reference", reference), ("city", "c"), ("note", "x")]);
        let id = put(vault, "customer", set).await.unwrap().id;
        let reason = ErasureReason::SubjectRequest;
        let erased = vault.erase_records(&app(), TENANT, &[id], reason, None).await;
        erased.unwrap().receipts.remove(0)
    })
}

fn warnings(vault: &Vault) -> Vec<String> {
    vault.status(&permit(Role::Operator, None)).unwrap().warnings
}

fn refused_for_its_medium<T>(outcome: Result<T, VaultError>) -> bool {
    matches!(outcome, Err(VaultError::Keys(KeyError::Anchor(AnchorError::Medium(_)))))
}

#[test]
fn a_medium_that_may_keep_old_blocks_claims_e0_and_says_so() {
    let dir = scratch();
    let mut house = House::new(dir.path(), EngineChoice::Redb);
    house.hooks.distrust_medium = true;
    let vault = house.create();
    runtime().block_on(furnish(&vault));
    let weak = erase_one(&vault, "r0");
    assert_eq!((weak.level, weak.medium), (ErasureLevel::Tombstoned, Medium::MayKeepOldBlocks));
    assert!(warnings(&vault).iter().any(|w| w.contains("claim only E0")));
    vault.close().unwrap();
    drop(vault);
    // Moved to a better place it claims more, for what is erased from then on.
    house.hooks.distrust_medium = false;
    let vault = house.open().unwrap();
    let strong = erase_one(&vault, "r1");
    assert_eq!((strong.level, strong.medium), (ErasureLevel::LocalAnchor, Medium::InPlaceFile));
    assert!(warnings(&vault).is_empty());
    vault.close().unwrap();
}

#[test]
fn where_e1_is_required_a_weaker_medium_is_refused_without_a_trace() {
    let dir = scratch();
    let mut house = House::new(dir.path(), EngineChoice::Redb);
    house.change = |setup| setup.require_e1 = true;
    house.hooks.distrust_medium = true;
    lethe::keys::kek::create_file(&dir.path().join("kek")).unwrap();
    assert!(refused_for_its_medium(Vault::create(&house.setup(), house.clock.clone())));
    assert!(!dir.path().join("data/anchor").exists() && !dir.path().join("data/store").exists());
    house.hooks.distrust_medium = false;
    Vault::create(&house.setup(), house.clock.clone()).unwrap().close().unwrap();
    let anchor = std::fs::read(dir.path().join("data/anchor")).unwrap();
    house.hooks.distrust_medium = true;
    assert!(refused_for_its_medium(house.open()));
    assert_eq!(std::fs::read(dir.path().join("data/anchor")).unwrap(), anchor);
    house.hooks.distrust_medium = false;
    house.open().unwrap().close().unwrap();
}
