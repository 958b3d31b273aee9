//! Growth: new pages, buckets, tenants and index runs, without touching the anchor.
//!
//! Invariants: growth only adds keys to nodes, so the nodes keep theirs; its rows are handed to the committer before
//! any put that relies on them, and the committer keeps the order; it waits while a batch is under way.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::KeyError;
use super::cache::Cached;
use super::node::{Body, BucketHead, Leaf, Listing, Page};
use super::path::{CHILDREN_MAX, Path};
use super::plan::{Mode, Plan, empty_dir};
use super::slots::{BucketId, Slot, Taken};
use super::tree::{RunHead, TENANT_HEAD, Tree, leaf_path};
use crate::crypto::{IndexKey, MetaKey, SecretBytes, random};
use crate::id::{BucketOrd, Day, PageOrd, RunOrd, TenantOrd, TypeOrd};
use crate::store::{Batch, Pending};

/// A tenant that was just added.
pub struct NewTenant {
    pub tenant: TenantOrd,
    pub meta: MetaKey,
    pub index: IndexKey,
    pub pseudonym: [u8; 16],
}

/// A bucket to add.
#[derive(Clone, Copy, Debug)]
pub struct NewBucket {
    pub tenant: TenantOrd,
    pub bucket: BucketOrd,
    pub rtype: TypeOrd,
    pub expire_day: Day,
}

/// An index run to add.
pub struct RunDraft {
    pub run: RunOrd,
    pub head: RunHead,
    pub leaves: BTreeMap<u32, Vec<Listing>>,
}

/// What a growing plan made.
struct Growth {
    pending: Pending,
    nodes: HashMap<Path, Arc<Cached>>,
}

impl Tree {
    /// Applies a growing plan: rows to the committer (with the caller's own), nodes to the cache.
    fn apply_growth(&self, plan: Plan<'_>, extra: Batch) -> Result<Growth, KeyError> {
        let generation = plan.generation();
        let outcome = plan.finish(self.vault, generation)?;
        let mut batch = extra;
        for (key, value) in outcome.rows {
            batch.put(key, value);
        }
        let pending = self.store.submit(batch)?;
        let mut nodes = HashMap::with_capacity(outcome.nodes.len());
        for (path, opened) in outcome.nodes {
            let kind = path.kind;
            let node = self.cache.wrap(&path, &opened).map_err(|_| KeyError::Damaged(kind))?;
            self.cache.replace(&path, node.clone());
            nodes.insert(path, node);
        }
        Ok(Growth { pending, nodes })
    }

    /// Adds a tenant node. `extra` makes the caller's rows, which commit with it.
    pub async fn add_tenant(
        &self,
        tenant: TenantOrd,
        extra: impl FnOnce(&NewTenant) -> Result<Batch, KeyError>,
    ) -> Result<(NewTenant, Pending), KeyError> {
        self.check_running()?;
        let _held = self.mutation.lock().await;
        if tenant.value() >= CHILDREN_MAX {
            return Err(KeyError::Full("tenants"));
        }
        let new = NewTenant {
            tenant,
            meta: MetaKey::generate(),
            index: IndexKey::generate(),
            pseudonym: random(),
        };
        let mut head = SecretBytes::with_capacity(TENANT_HEAD);
        head.extend_from_slice(new.meta.expose());
        head.extend_from_slice(new.index.expose());
        head.extend_from_slice(&new.pseudonym);
        head.extend_from_slice(&[0; 3]);
        let reader = self.read();
        let mut plan = Plan::new(&reader, Mode::Grow, self.sabotage);
        plan.add(Path::tenant(tenant), empty_dir(&head))?;
        let batch = extra(&new)?;
        let growth = self.apply_growth(plan, batch)?;
        Ok((new, growth.pending))
    }

    /// Adds a bucket node. Its rows are durable before any put that relies on them is.
    pub async fn add_bucket(&self, new: NewBucket) -> Result<(), KeyError> {
        self.check_running()?;
        let _held = self.mutation.lock().await;
        let reader = self.read();
        if new.bucket.value() >= CHILDREN_MAX {
            return Err(KeyError::Full("retention buckets of this tenant"));
        }
        let head = BucketHead {
            rtype: new.rtype,
            expire_day: new.expire_day,
            indexed_below: PageOrd::of(0),
            next_run: 0,
        };
        let mut plan = Plan::new(&reader, Mode::Grow, self.sabotage);
        plan.add(Path::bucket(new.tenant, new.bucket), empty_dir(&head.encode()))?;
        // Puts that rely on it are committed after it, or not at all.
        drop(self.apply_growth(plan, Batch::default())?);
        self.slots.register((new.tenant, new.bucket), 0);
        Ok(())
    }

    /// Takes the next free slot of a bucket, adding a page if none has room.
    pub async fn take_slot(&self, bucket: BucketId) -> Result<Slot, KeyError> {
        loop {
            self.check_running()?;
            match self.slots.take(bucket) {
                Taken::Closed => return Err(KeyError::Closed),
                Taken::Slot { kid, node, ticket } => {
                    let path = Path::page_of(kid);
                    let damaged = || KeyError::Damaged(path.kind);
                    let plain = self.cache.open(&path, &node).map_err(|_| damaged())?;
                    let dek = super::node::dek_in(&plain, kid.slot).ok_or_else(damaged)?;
                    return Ok(Slot { kid, dek, ticket });
                }
                Taken::NeedPage => {
                    let _held = self.mutation.lock().await;
                    if !self.slots.has_room(bucket) {
                        self.add_pages(bucket, 1)?;
                    }
                }
            }
        }
    }

    /// Adds pages to a bucket. The caller holds the mutation lock.
    pub(super) fn add_pages(&self, bucket: BucketId, count: u32) -> Result<(), KeyError> {
        let reader = self.read();
        let mut plan = Plan::new(&reader, Mode::Grow, self.sabotage);
        let mut added = Vec::new();
        for _ in 0..count {
            let (ord, slots) = self.slots.next_page(bucket).ok_or(KeyError::Closed)?;
            let ord = PageOrd::new(ord)
                .filter(|o| o.value() < CHILDREN_MAX)
                .ok_or(KeyError::Full("key pages of this bucket"))?;
            let path = Path::page(bucket.0, bucket.1, ord);
            plan.add(path, Body::Page(Page::fresh(slots)))?;
            added.push((path, ord, slots));
        }
        // As above. The cache may have let go of a page that was just added.
        let mut growth = self.apply_growth(plan, Batch::default())?;
        for (path, ord, slots) in added {
            let node = growth.nodes.remove(&path).ok_or(KeyError::Damaged(path.kind))?;
            self.slots.add_page(bucket, ord, slots, node);
            self.metrics.pages_created.one();
        }
        Ok(())
    }

    /// Adds an index run that covers the pages below `indexed_below`, and waits until it is durable.
    pub fn add_run(
        &self,
        bucket: BucketId,
        draft: Option<RunDraft>,
        indexed_below: PageOrd,
    ) -> Result<(), KeyError> {
        self.check_running()?;
        let held = self.mutation.blocking_lock();
        let reader = self.read();
        let path = Path::bucket(bucket.0, bucket.1);
        let mut head = reader.bucket(bucket.0, bucket.1)?;
        let mut plan = Plan::new(&reader, Mode::Grow, self.sabotage);
        if let Some(draft) = draft {
            head.next_run = head.next_run.max(draft.run.value() + 1);
            add_run_nodes(&mut plan, bucket, draft)?;
            self.metrics.runs_written.one();
        }
        head.indexed_below = indexed_below;
        plan.set_head(&path, &head.encode())?;
        let growth = self.apply_growth(plan, Batch::default())?;
        drop(reader);
        drop(held);
        growth.pending.wait()?;
        Ok(())
    }
}

/// Adds a run's nodes to a plan.
pub(super) fn add_run_nodes(
    plan: &mut Plan<'_>,
    bucket: BucketId,
    draft: RunDraft,
) -> Result<(), KeyError> {
    if draft.run.value() >= CHILDREN_MAX {
        return Err(KeyError::Full("index runs of this bucket"));
    }
    let run = Path::run(bucket.0, bucket.1, draft.run);
    plan.add(run, empty_dir(&draft.head.encode()))?;
    for (leaf, mut listings) in draft.leaves {
        listings.sort_unstable();
        plan.add(leaf_path(&run, leaf), Body::Leaf(Leaf { listings }))?;
    }
    Ok(())
}
