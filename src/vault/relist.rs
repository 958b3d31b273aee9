//! From the rows of a key page back to what the index lists: for the tail at open, and for an index that was lost.

use super::damaged::DamagedVersion;
use super::error::VaultError;
use super::fieldmap::FieldMap;
use super::index::Token;
use super::lookup::tokens_of;
use super::registry::Tenant;
use super::rows::Pointer;
use super::sealed;
use crate::crypto::IndexKey;
use crate::id::{Kid, PageOrd, RecordId, TypeOrd};
use crate::keys::path::{NodeKind, Path};
use crate::keys::slots::BucketId;
use crate::keys::{KeyError, Tree};
use crate::metrics::Metrics;

/// What the slots of a page hold.
#[derive(Default)]
pub struct PageContent {
    pub page: u32,
    pub versions: Vec<(Kid, Vec<Token>)>,
    /// Living slots that no row names.
    pub unnamed: Vec<Kid>,
    /// Versions that do not open, and the record that their clear header names; the first slot of a lost page.
    pub damaged: Vec<DamagedVersion>,
}

/// The pages of a bucket in a range of ordinals, ascending.
pub fn pages_of(
    tree: &Tree,
    bucket: BucketId,
    range: std::ops::Range<u32>,
) -> Result<Vec<Path>, VaultError> {
    let mut pages = tree.read().children(&Path::bucket(bucket.0, bucket.1))?;
    pages.retain(|p| range.contains(&p.ord));
    Ok(pages)
}

/// The record that a damaged row's header names, if its pointer says so too.
fn named_by_pointer(
    tree: &Tree,
    kid: Kid,
    named: Option<RecordId>,
) -> Result<Option<RecordId>, VaultError> {
    let Some(record) = named else { return Ok(None) };
    let row = tree.store().get(&Pointer::key(kid.tenant, record))?;
    Ok(row.as_deref().and_then(Pointer::decode).filter(|p| p.kid == kid).map(|_| record))
}

/// Opens every living version of a page, for the tokens under which each is to be listed.
pub fn relist(
    tree: &Tree,
    tenant: &Tenant,
    path: &Path,
    metrics: &Metrics,
) -> Result<PageContent, VaultError> {
    relist_by(tree, path, metrics, &|key, rtype, map| {
        tokens_of(key, rtype, tenant.schema_of(rtype).as_deref(), map)
    })
}

/// Opens every living version of a page, for some tokens of each. Of a lost page there is nothing: its records are
/// lost, the others are served.
pub fn relist_by(
    tree: &Tree,
    path: &Path,
    metrics: &Metrics,
    tokens: &dyn Fn(&IndexKey, TypeOrd, &FieldMap) -> Vec<Token>,
) -> Result<PageContent, VaultError> {
    let mut content = PageContent { page: path.ord, ..PageContent::default() };
    let state = match tree.read().page_state(path) {
        Err(KeyError::Damaged(NodeKind::Page)) => {
            tracing::error!("a page of keys is damaged, here and in the node journal");
            let page = PageOrd::new(path.ord).unwrap_or_default();
            let first = Kid { tenant: path.tenant, bucket: path.bucket, page, slot: 0 };
            content.damaged.push((first, None));
            return Ok(content);
        }
        other => other?,
    };
    let Some((slots, dead)) = state else { return Ok(content) };
    let key = tree.read().tenant(path.tenant)?.index;
    let page = PageOrd::new(path.ord).unwrap_or_default();
    for slot in 0..slots {
        if dead.get(usize::from(slot / 8)).is_none_or(|b| b & (1 << (slot % 8)) != 0) {
            continue;
        }
        let kid = Kid { tenant: path.tenant, bucket: path.bucket, page, slot };
        let Some(row) = tree.store().get(&sealed::row_key(kid, 0))? else {
            content.unnamed.push(kid);
            continue;
        };
        let named = sealed::peek(&row).map(|v| (v.record, v.rec_ver));
        let reader = tree.read();
        let opened = reader
            .dek(kid)
            .map_err(VaultError::from)
            .and_then(|dek| sealed::open(tree.store(), tree.vault(), kid, &dek, named));
        match opened {
            Ok(open) => {
                let tokens = tokens(&key, open.version.rtype, &open.fields.to_map());
                content.versions.push((kid, tokens));
            }
            Err(VaultError::Damaged(_)) => {
                metrics.damaged_rows.one();
                tracing::error!("a record row is damaged; it cannot be found by value");
                content.damaged.push((kid, named_by_pointer(tree, kid, named.map(|n| n.0))?));
            }
            Err(e) => return Err(e),
        }
    }
    Ok(content)
}
