//! From rows and nodes to what lives in memory: the ledger's end, tenants with their schemas, policies and buckets, and
//! the index's tail.
//!
//! Invariant: a row that must be there and does not open is taken from the node journal, or the vault does not open.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use super::current::is_built_in;
use super::damaged::Damaged;
use super::error::VaultError;
use super::index::Index;
use super::ledger::{frontier_key, leaf_key};
use super::registry::{Meta, Rebucketing, Registry, Tenant, TenantInfo, TenantState};
use super::relist::{pages_of, relist};
use super::retention::policy::RetentionPolicy;
use super::schema::Schema;
use crate::crypto::merkle::{Frontier, leaf_hash};
use crate::id::{BucketOrd, Day, Kid, TenantOrd, TypeOrd};
use crate::keys::slots::BucketId;
use crate::keys::{self, Tree};
use crate::metrics::Metrics;

/// The ledger as the anchor names it; from its frontier row, else from its leaves.
pub fn load_frontier(tree: &Tree) -> Result<Frontier, VaultError> {
    let (size, root) = tree.ledger();
    let right = |f: &Frontier| f.size() == size && f.root() == root;
    let row = tree.store().get(&frontier_key(tree.generation()))?;
    if let Some(frontier) = row.as_deref().and_then(Frontier::decode).filter(right) {
        return Ok(frontier);
    }
    let mut rebuilt = Frontier::default();
    for seq in 0..size {
        let leaf = tree.store().get(&leaf_key(seq))?.ok_or(VaultError::Damaged("ledger"))?;
        rebuilt.push(leaf_hash(&leaf));
    }
    Some(rebuilt).filter(right).ok_or(VaultError::Damaged("ledger"))
}

pub fn load_tenants(
    tree: &Tree,
    registry: &Registry,
    index: &Index,
    metrics: &Metrics,
) -> Result<(), VaultError> {
    let paths = tree.read().children(&keys::path::Path::ROOT)?;
    for path in paths {
        let ord = path.tenant;
        let secrets = tree.read().tenant(ord)?;
        let rescue = |meta: Meta| {
            let copy = tree.journal_copy(&meta.key(ord))?.ok_or(VaultError::Damaged("metadata"))?;
            let json = meta.open(tree.vault(), ord, &secrets.meta, &copy)?;
            metrics.journal_rescues.one();
            tracing::warn!("a metadata row was rescued from the node journal");
            Ok::<_, VaultError>((meta, json))
        };
        let mut found = BTreeMap::new();
        let prefix = [b"m".as_slice(), &ord.bytes()].concat();
        for row in tree.store().prefix(&prefix) {
            let row = row?;
            let Some(meta) = Meta::of_key(&row.key) else { continue };
            let json = match meta.open(tree.vault(), ord, &secrets.meta, &row.value) {
                Ok(json) => (meta, json),
                Err(_) => rescue(meta)?,
            };
            found.insert(row.key, json);
        }
        let (buckets, next_bucket) = load_buckets(tree, index, ord)?;
        let types =
            buckets.iter().map(|((rtype, _), _)| *rtype).filter(|rtype| !is_built_in(*rtype));
        // Rows that must be there. Without its schema a record would seem never to have been.
        for meta in std::iter::once(Meta::Tenant).chain(types.map(Meta::Schema)) {
            if let Entry::Vacant(missing) = found.entry(meta.key(ord)) {
                missing.insert(rescue(meta)?);
            }
        }
        let (mut info, mut schemas, mut policies) = (None, BTreeMap::new(), BTreeMap::new());
        let mut rebucketing = Rebucketing::default();
        for (meta, json) in found.values() {
            let damaged = || VaultError::Damaged("metadata");
            match meta {
                Meta::Tenant => {
                    let read: TenantInfo = serde_json::from_slice(json).map_err(|_| damaged())?;
                    info = Some(read);
                }
                Meta::Schema(_) => {
                    let schema = Schema::from_json(json).map_err(|_| damaged())?;
                    schemas.insert(schema.type_name().clone(), Arc::new(schema));
                }
                Meta::RetentionPolicy(_) => {
                    let policy = RetentionPolicy::from_json(json).ok_or_else(damaged)?;
                    policies.insert(policy.id.clone(), Arc::new(policy));
                }
                Meta::Rebucketing => {
                    rebucketing = serde_json::from_slice(json).map_err(|_| damaged())?;
                }
            }
        }
        let info = info.ok_or(VaultError::Damaged("metadata"))?;
        let mut state = TenantState::new(schemas, policies, rebucketing, next_bucket);
        for (key, bucket) in buckets {
            state.add_bucket(key, bucket);
        }
        registry.insert(Tenant::new(ord, info, state));
    }
    Ok(())
}

/// Ascending by ordinal.
type Buckets = Vec<((TypeOrd, Day), BucketOrd)>;

fn load_buckets(
    tree: &Tree,
    index: &Index,
    tenant: TenantOrd,
) -> Result<(Buckets, u32), VaultError> {
    let mut next = tree.read().next_bucket(tenant)?;
    let mut buckets = Buckets::new();
    let paths = tree.read().children(&keys::path::Path::tenant(tenant))?;
    for path in paths {
        let bucket = path.bucket;
        next = next.max(bucket.value() + 1);
        let (head, last) = {
            let reader = tree.read();
            (reader.bucket(tenant, bucket)?, reader.children(&path)?.last().map(|p| p.ord + 1))
        };
        buckets.push(((head.rtype, head.expire_day), bucket));
        let next_page = last.unwrap_or(0).max(head.indexed_below.value());
        tree.slots().register((tenant, bucket), next_page);
        index.register(tree, (tenant, bucket))?;
    }
    Ok((buckets, next))
}

/// Lists again the versions that no run covers. Returns the slots of their pages that no row names.
pub fn rebuild_tail(
    tree: &Tree,
    index: &Index,
    tenant: &Tenant,
    bucket: BucketId,
    (metrics, damaged): (&Metrics, &Damaged),
) -> Result<Vec<Kid>, VaultError> {
    let below = tree.read().bucket(bucket.0, bucket.1)?.indexed_below.value();
    let mut unnamed = Vec::new();
    for path in pages_of(tree, bucket, below..u32::MAX)? {
        let content = relist(tree, tenant, &path, metrics)?;
        content.versions.iter().for_each(|(kid, tokens)| index.list(*kid, tokens));
        content.damaged.into_iter().for_each(|d| damaged.add(d));
        unnamed.extend(content.unnamed);
    }
    Ok(unnamed)
}
