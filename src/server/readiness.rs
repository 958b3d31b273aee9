//! Whether calls should be sent to this daemon.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use crate::vault::Vault;

#[derive(Default)]
pub struct Readiness {
    /// Not before it is open, and never what keeps it open.
    vault: OnceLock<Weak<Vault>>,
    stopping: AtomicBool,
}

impl Readiness {
    /// The vault is open and served. Only the first counts.
    pub fn opened(&self, vault: &Arc<Vault>) {
        let _ = self.vault.set(Arc::downgrade(vault));
    }

    /// Calls are being ended.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub fn vault(&self) -> Option<Arc<Vault>> {
        self.vault.get().and_then(Weak::upgrade)
    }

    /// Why no call should be sent here, if that is so.
    pub fn unready(&self) -> Option<&'static str> {
        if self.stopping.load(Ordering::Acquire) {
            return Some("the daemon is stopping");
        }
        match self.vault() {
            None => Some("the vault is not open yet"),
            Some(vault) if !vault.is_running() => {
                Some("the vault stopped after a failed write; restart it")
            }
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::Role;
    use crate::store::faulty::{Fault, Faulty, Plan};
    use crate::store::{Memory, StoreError};
    use crate::vault::slug::Slug;
    use crate::vault::testing::{permit, vault_on};

    #[tokio::test]
    async fn calls_are_wanted_while_the_vault_is_open_and_writes_and_nothing_stops() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan::new(Vec::new());
        let engine = Arc::new(Faulty::new(Arc::new(Memory::new()), plan.clone()));
        let ready = Readiness::default();
        assert_eq!(ready.unready(), Some("the vault is not open yet"));
        let vault = Arc::new(vault_on(dir.path(), engine));
        ready.opened(&vault);
        assert_eq!(ready.unready(), None);
        plan.add(Fault::Write(plan.writes() + 1, StoreError::Io("planned".into())));
        let slug = Slug::parse("acme").unwrap();
        let made = vault.create_tenant(&permit(Role::Operator, None), slug, String::new()).await;
        assert!(made.is_err());
        assert_eq!(ready.unready(), Some("the vault stopped after a failed write; restart it"));
        ready.stopping();
        assert_eq!(ready.unready(), Some("the daemon is stopping"));
        drop(vault);
        assert!(ready.vault().is_none(), "nothing here keeps it open");
    }
}
