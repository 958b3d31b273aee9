//! What is wrapped by what, and how old it is.
//!
//! A node's row names the generation that its key was made with, and the ledger says when that generation's batch
//! began, before it made any key. So what is told of a key is the greatest age that it can have: keys that growth adds
//! between two batches are younger than it says. Damaged nodes are counted, and nothing is said of their age.

use super::core::{Core, Vault};
use super::error::VaultError;
use super::ledger::{LeafFacts, leaf_key};
use crate::audit::Act;
use crate::authz::{Permit, ReadKeyStatus};
use crate::clock::UnixMillis;
use crate::id::Gen;
use crate::keys::KeyError;
use crate::keys::path::Path;
use crate::keys::rows::VAULT_HEADER;

/// One kind of key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyInfo {
    pub kind: &'static str,
    pub key_id: String,
    pub wrapped_by: &'static str,
    pub count: u64,
    /// The oldest was made then or later.
    pub since: Option<UnixMillis>,
    /// The youngest was made then or later.
    pub newest_since: Option<UnixMillis>,
    /// Generations that the oldest and the youngest were made with.
    pub generations: Option<(Gen, Gen)>,
}

/// Keys of one kind, as they are met.
#[derive(Default)]
struct Level {
    count: u64,
    generations: Option<(Gen, Gen)>,
}

impl Level {
    fn add(&mut self, core: &Core, path: &Path) -> Result<(), VaultError> {
        // The view is taken anew for each node: a batch waits for whoever holds one.
        match core.tree.read().made(path) {
            Ok(made) => {
                let (oldest, newest) = self.generations.unwrap_or((made, made));
                self.generations = Some((oldest.min(made), newest.max(made)));
            }
            Err(KeyError::Damaged(_)) => {}
            // Erased meanwhile.
            Err(KeyError::Gone) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
        self.count += 1;
        Ok(())
    }
}

impl Vault {
    /// Every kind of key. Looks at each node down to the key pages, so it is not for a thread that others wait for.
    pub fn key_status(&self, permit: &Permit<ReadKeyStatus>) -> Result<Vec<KeyInfo>, VaultError> {
        let core = &*self.core;
        core.note(&core.entry(permit, Act::GetKeyStatus))?;
        let (mut tenants, mut buckets, mut pages) =
            (Level::default(), Level::default(), Level::default());
        for tenant in core.registry.all() {
            tenants.add(core, &Path::tenant(tenant.ord))?;
            for (of, bucket) in tenant.buckets(None) {
                let path = Path::bucket(of, bucket);
                buckets.add(core, &path)?;
                let found = core.tree.read().children(&path);
                for page in found.unwrap_or_default() {
                    pages.add(core, &page)?;
                }
            }
        }
        let generation = core.tree.generation();
        let root = Level { count: 1, generations: Some((generation, generation)) };
        let key_id = format!("generation {}", generation.0);
        Ok(vec![
            self.kek_status(permit),
            KeyInfo { key_id, ..core.info("root", "kek (in the anchor)", &root)? },
            core.info("tenant", "root", &tenants)?,
            core.info("bucket", "tenant", &buckets)?,
            core.info("page", "bucket", &pages)?,
        ])
    }

    /// The KEK alone.
    pub fn kek_status(&self, _: &Permit<ReadKeyStatus>) -> KeyInfo {
        let (id, since) = self.core.tree.kek();
        let key_id = crate::keys::anchor::hex(&id);
        let since = Some(since);
        KeyInfo { kind: "kek", key_id, count: 1, since, newest_since: since, ..KeyInfo::default() }
    }
}

impl Core {
    fn info(
        &self,
        kind: &'static str,
        wrapped_by: &'static str,
        level: &Level,
    ) -> Result<KeyInfo, VaultError> {
        let generations = level.generations;
        let (since, newest_since) = match generations {
            Some((oldest, newest)) => (self.began(oldest)?, self.began(newest)?),
            None => (None, None),
        };
        let count = level.count;
        let key_id = String::new();
        Ok(KeyInfo { kind, key_id, wrapped_by, count, since, newest_since, generations })
    }

    /// A time before which no key of this generation was made.
    fn began(&self, generation: Gen) -> Result<Option<UnixMillis>, VaultError> {
        let (mut from, mut to) = (0, self.tree.ledger().0);
        // Generations never go down along the ledger, so the first leaf of this one is found by halves.
        while from < to {
            let middle = from + (to - from) / 2;
            if self.leaf(middle)?.generation < generation {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        if from < self.tree.ledger().0 {
            let first = self.leaf(from)?;
            if first.generation == generation && !first.is_level {
                return Ok(Some(first.at));
            }
        }
        // A batch without a leaf of its own: what is said of the one before it was said before it began.
        if from > 0 {
            return Ok(Some(self.leaf(from - 1)?.at));
        }
        let header = self.tree.store().get(VAULT_HEADER)?;
        Ok(header.as_deref().and_then(crate::keys::created_in))
    }

    fn leaf(&self, seq: u64) -> Result<LeafFacts, VaultError> {
        let row = self.tree.store().get(&leaf_key(seq))?;
        row.as_deref().and_then(LeafFacts::of).ok_or(VaultError::Damaged("ledger"))
    }
}
