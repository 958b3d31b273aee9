//! Tenants, schemas and buckets in memory, as their rows and nodes say.
//!
//! Invariants: what is registered is durable or in the committer's queue before anything that relies on it; a tenant's
//! or schema's row is sealed under the tenant's K_meta and dies with the tenant.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde::{Deserialize, Serialize};

use super::error::VaultError;
use super::retention::decide::Rules;
use super::retention::policy::RetentionPolicy;
use super::schema::Schema;
use super::slug::Slug;
use crate::clock::UnixMillis;
use crate::crypto::{MetaKey, labels, open_in_place, seal_append};
use crate::id::{BucketOrd, Day, TenantOrd, TypeOrd, VaultId};
use crate::limits::ROW_BYTES_MAX;

/// A tenant as its metadata row has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantInfo {
    pub id: Slug,
    pub display_name: String,
    created_ms: i64,
    /// One more with each change.
    #[serde(default = "first")]
    pub revision: u32,
}

fn first() -> u32 {
    1
}

impl TenantInfo {
    pub fn new(id: Slug, display_name: String, created: UnixMillis) -> Self {
        Self { id, display_name, created_ms: created.0, revision: first() }
    }

    /// The next revision.
    pub fn renamed(self, display_name: String) -> Option<Self> {
        Some(Self { display_name, revision: self.revision.checked_add(1)?, ..self })
    }

    pub fn created(&self) -> UnixMillis {
        UnixMillis(self.created_ms)
    }
}

/// What changes of a tenant.
#[derive(Default)]
pub struct TenantState {
    pub schemas: BTreeMap<Slug, Arc<Schema>>,
    pub policies: BTreeMap<Slug, Arc<RetentionPolicy>>,
    /// The policies of each record type, as `policies` and `schemas` have them.
    rules: BTreeMap<TypeOrd, Rules>,
    /// One more with each change of a policy, or of a schema that may move its records. Never 0.
    pub rules_epoch: u64,
    pub rebucketing: Rebucketing,
    /// The last of a list takes puts; those before it are closed, as it may be too.
    pub buckets: BTreeMap<(TypeOrd, Day), Vec<BucketOrd>>,
    /// The day of each bucket.
    days: BTreeMap<BucketOrd, Day>,
    pub next_bucket: u32,
}

/// Types whose records are yet to be brought to the buckets that changed rules want: the tenant's own part of
/// `retention/rebucket.rs`, as its metadata row has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rebucketing {
    pub types: BTreeSet<TypeOrd>,
    pub paused: bool,
}

impl TenantState {
    /// Of a tenant that was just made.
    pub fn empty() -> Self {
        Self::new(BTreeMap::new(), BTreeMap::new(), Rebucketing::default(), 0)
    }

    pub fn new(
        schemas: BTreeMap<Slug, Arc<Schema>>,
        policies: BTreeMap<Slug, Arc<RetentionPolicy>>,
        rebucketing: Rebucketing,
        next_bucket: u32,
    ) -> Self {
        let rules_epoch = 1;
        let mut state =
            Self { schemas, policies, rules_epoch, rebucketing, next_bucket, ..Self::default() };
        state.apply_rules();
        state
    }

    /// The policies changed, or the schemas: what is in force for each type is found out anew.
    pub fn apply_rules(&mut self) {
        let of = |schema: &Schema| -> Rules {
            let all = self.policies.values();
            all.filter(|p| p.scope.reaches(schema.type_name())).cloned().collect()
        };
        self.rules = self.schemas.values().map(|s| (s.ord(), of(s))).collect();
    }

    pub fn add_bucket(&mut self, key: (TypeOrd, Day), bucket: BucketOrd) {
        self.buckets.entry(key).or_default().push(bucket);
        self.days.insert(bucket, key.1);
    }

    /// Takes all buckets of a type and day out of use.
    pub fn take_buckets(&mut self, key: (TypeOrd, Day)) -> Option<Vec<BucketOrd>> {
        self.buckets.remove(&key)
    }

    /// They were not killed after all. A successor that took puts meanwhile stays the last.
    pub fn restore_buckets(&mut self, key: (TypeOrd, Day), buckets: Vec<BucketOrd>) {
        self.buckets.entry(key).or_default().splice(0..0, buckets);
    }

    /// They are gone.
    pub fn forget_buckets(&mut self, buckets: &[BucketOrd]) {
        buckets.iter().for_each(|b| {
            self.days.remove(b);
        });
    }
}

/// A tenant.
pub struct Tenant {
    pub ord: TenantOrd,
    pub id: Slug,
    info: RwLock<TenantInfo>,
    state: RwLock<TenantState>,
    /// Held while a bucket of the tenant is made.
    pub making: tokio::sync::Mutex<()>,
    /// Held while a schema of the tenant is made or changes, or what the tenant is called does.
    pub changing: tokio::sync::Mutex<()>,
    /// A put holds it for reading from before it looks at its schema until it is durable, and takes it before any other
    /// lock. Who takes it for writing while a schema changes knows that every put that followed the older one is over.
    pub writing: tokio::sync::RwLock<()>,
}

impl Tenant {
    pub fn new(ord: TenantOrd, info: TenantInfo, state: TenantState) -> Self {
        Self {
            ord,
            id: info.id.clone(),
            info: RwLock::new(info),
            state: RwLock::new(state),
            making: tokio::sync::Mutex::new(()),
            changing: tokio::sync::Mutex::new(()),
            writing: tokio::sync::RwLock::new(()),
        }
    }

    pub fn info(&self) -> TenantInfo {
        self.info.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes what is durable in the place of what was.
    pub fn set_info(&self, info: TenantInfo) {
        *self.info.write().unwrap_or_else(PoisonError::into_inner) = info;
    }

    pub fn state(&self) -> RwLockReadGuard<'_, TenantState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn state_mut(&self) -> RwLockWriteGuard<'_, TenantState> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn schema(&self, id: &Slug) -> Result<Arc<Schema>, VaultError> {
        self.state().schemas.get(id).cloned().ok_or(VaultError::NotFound("schema"))
    }

    pub fn schema_of(&self, rtype: TypeOrd) -> Option<Arc<Schema>> {
        self.state().schemas.values().find(|s| s.ord() == rtype).cloned()
    }

    /// The policies that are in force for a type.
    pub fn rules(&self, rtype: TypeOrd) -> Rules {
        self.state().rules.get(&rtype).cloned().unwrap_or_default()
    }

    /// The day of a bucket; open-ended once it is gone.
    pub fn day_of(&self, bucket: BucketOrd) -> Day {
        self.state().days.get(&bucket).copied().unwrap_or(Day::OPEN_ENDED)
    }

    /// The live buckets of a record type; of all types if none is given.
    pub fn buckets(&self, rtype: Option<TypeOrd>) -> Vec<(TenantOrd, BucketOrd)> {
        let state = self.state();
        let wanted = state.buckets.iter().filter(|((t, _), _)| rtype.is_none_or(|r| r == *t));
        wanted.flat_map(|(_, all)| all).map(|b| (self.ord, *b)).collect()
    }
}

/// All tenants.
#[derive(Default)]
pub struct Registry {
    tenants: RwLock<BTreeMap<Slug, Arc<Tenant>>>,
    /// Held while a tenant is made.
    pub making: tokio::sync::Mutex<()>,
}

impl Registry {
    pub fn find(&self, id: &str) -> Result<Arc<Tenant>, VaultError> {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        tenants.get(id).cloned().ok_or(VaultError::NotFound("tenant"))
    }

    pub fn all(&self) -> Vec<Arc<Tenant>> {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        tenants.values().cloned().collect()
    }

    pub fn insert(&self, tenant: Tenant) -> Arc<Tenant> {
        let tenant = Arc::new(tenant);
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        tenants.insert(tenant.id.clone(), tenant.clone());
        tenant
    }
}

/// A metadata row (docs/FORMAT.md §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meta {
    Tenant,
    Schema(TypeOrd),
    RetentionPolicy(u32),
    Rebucketing,
}

const MAGIC: &[u8; 4] = b"LTM1";
const HEADER: usize = 20;

impl Meta {
    fn parts(self) -> (u8, u32) {
        match self {
            Meta::Tenant => (1, 0),
            Meta::Schema(rtype) => (2, u32::from(rtype.0)),
            Meta::RetentionPolicy(ord) => (3, ord),
            Meta::Rebucketing => (4, 0),
        }
    }

    pub fn key(self, tenant: TenantOrd) -> Vec<u8> {
        let (kind, id) = self.parts();
        [b"m".as_slice(), &tenant.bytes(), &[kind], &id.to_be_bytes()].concat()
    }

    pub fn seal(
        self,
        vault: VaultId,
        tenant: TenantOrd,
        rev: u32,
        key: &MetaKey,
        json: &[u8],
    ) -> Result<Vec<u8>, VaultError> {
        let (kind, id) = self.parts();
        let length = HEADER + 12 + json.len() + 16;
        if length > ROW_BYTES_MAX {
            return Err(VaultError::Exhausted("the metadata is too large"));
        }
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&(length as u32).to_be_bytes());
        out.extend_from_slice(&tenant.bytes());
        out.push(kind);
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&rev.to_be_bytes());
        let aad = labels::meta_aad(vault, &out);
        seal_append(key.expose(), &aad, json, &mut out)
            .map_err(|_| VaultError::Damaged("metadata"))?;
        Ok(out)
    }

    /// Opens the row at this key.
    pub fn open(
        self,
        vault: VaultId,
        tenant: TenantOrd,
        key: &MetaKey,
        value: &[u8],
    ) -> Result<Vec<u8>, VaultError> {
        let damaged = || VaultError::Damaged("metadata");
        let (kind, id) = self.parts();
        let (header, sealed) = value.split_at_checked(HEADER).ok_or_else(damaged)?;
        let length = u32::try_from(value.len()).map_err(|_| damaged())?.to_be_bytes();
        let tenant = tenant.bytes();
        let expected = [MAGIC.as_slice(), &length, &tenant, &[kind], &id.to_be_bytes()].concat();
        if !header.starts_with(&expected) {
            return Err(damaged());
        }
        let aad = labels::meta_aad(vault, header);
        let mut sealed = sealed.to_vec();
        let json = open_in_place(key.expose(), &aad, &mut sealed).map_err(|_| damaged())?;
        Ok(json.to_vec())
    }

    /// Which metadata a key names.
    pub fn of_key(key: &[u8]) -> Option<Self> {
        match key.get(4..)? {
            [1, 0, 0, 0, 0] => Some(Meta::Tenant),
            [2, 0, 0, a, b] => Some(Meta::Schema(TypeOrd(u16::from_be_bytes([*a, *b])))),
            [3, a, b, c, d] => Some(Meta::RetentionPolicy(u32::from_be_bytes([*a, *b, *c, *d]))),
            [4, 0, 0, 0, 0] => Some(Meta::Rebucketing),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_opens_only_as_itself() {
        let (vault, tenant) = (VaultId([1; 16]), TenantOrd::of(2));
        let key = MetaKey::generate();
        let meta = Meta::Schema(TypeOrd(3));
        let row = meta.seal(vault, tenant, 1, &key, b"{}").unwrap();
        assert_eq!(meta.open(vault, tenant, &key, &row).unwrap(), b"{}");
        assert_eq!(Meta::of_key(&meta.key(tenant)), Some(meta));
        for meta in [Meta::Tenant, Meta::RetentionPolicy(0x0102_0304), Meta::Rebucketing] {
            assert_eq!(Meta::of_key(&meta.key(tenant)), Some(meta));
        }
        assert!(Meta::Schema(TypeOrd(4)).open(vault, tenant, &key, &row).is_err());
        assert!(meta.open(vault, TenantOrd::of(3), &key, &row).is_err());
        assert!(meta.open(VaultId([2; 16]), tenant, &key, &row).is_err());
        assert!(meta.open(vault, tenant, &MetaKey::generate(), &row).is_err());
        for bit in 0..row.len() * 8 {
            let mut bad = row.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(meta.open(vault, tenant, &key, &bad).is_err());
        }
        assert!(meta.seal(vault, tenant, 1, &key, &[b' '; 9000]).is_err());
    }
}
