//! How holds are kept: each is a record of a built-in type about itself, with a key of its own, so that what it says of
//! people dies with it. In force it has no end; once it ended it is kept as evidence for `limits::HOLD_KEPT_DAYS`.
//!
//! Invariant: a hold that is there and does not open is known to be there, and holds all that its tenant has.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Condition, Ending, Facts, Hold, Scope};
use crate::audit::Member;
use crate::class::{FieldKind, Role};
use crate::clock::UnixMillis;
use crate::id::{Day, FieldOrd, RecVer, RecordId, TypeOrd};
use crate::keys::path::Path;
use crate::keys::slots::Slot;
use crate::limits;
use crate::store::Batch;
use crate::vault::core::Core;
use crate::vault::error::VaultError;
use crate::vault::fieldmap::FieldMap;
use crate::vault::put::Home;
use crate::vault::registry::Tenant;
use crate::vault::relist::{pages_of, relist_by};
use crate::vault::sealed::OpenVersion;
use crate::vault::value::Value;

/// The built-in record type of holds.
pub const HOLD: TypeOrd = TypeOrd(u16::MAX - 1);
/// The field of a hold's record that has its JSON. The others have the values of its conditions.
const ABOUT: FieldOrd = FieldOrd(u16::MAX);
/// Revision of the JSON.
const REVISION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stored {
    Record(String),
    Subject(String),
    Query { rtype: TypeOrd, conditions: Vec<(u16, FieldKind)> },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredEnding {
    at_ms: i64,
    by: Option<String>,
    note: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    scope: Stored,
    reason: String,
    issuer: String,
    reference: String,
    readers: BTreeSet<Role>,
    placed_ms: i64,
    placed_by: String,
    expires_ms: Option<i64>,
    ended: Option<StoredEnding>,
}

impl Hold {
    pub(super) fn to_map(&self) -> Result<FieldMap, VaultError> {
        let mut fields = BTreeMap::new();
        let scope = match &self.scope {
            Scope::Record(id) => Stored::Record(id.to_string()),
            Scope::Subject(id) => Stored::Subject(id.to_string()),
            Scope::Query(rtype, all) => {
                fields.extend(all.iter().map(|c| (c.field, c.value.duplicate())));
                let conditions = all.iter().map(|c| (c.field.0, c.kind)).collect();
                Stored::Query { rtype: *rtype, conditions }
            }
        };
        let ended = self.ended.as_ref().map(|e| StoredEnding {
            at_ms: e.at.0,
            by: e.by.clone(),
            note: e.note.clone(),
        });
        let about = About {
            scope,
            reason: self.reason.clone(),
            issuer: self.issuer.clone(),
            reference: self.reference.clone(),
            readers: self.readers.clone(),
            placed_ms: self.placed.0,
            placed_by: self.placed_by.clone(),
            expires_ms: self.expires.map(|at| at.0),
            ended,
        };
        let json = serde_json::to_vec(&about).map_err(|_| VaultError::Damaged("legal hold"))?;
        fields.insert(ABOUT, Value::Bytes(json));
        let updated = self.ended.as_ref().map_or(self.placed, |e| e.at);
        let (created, used) = (self.placed, updated);
        Ok(FieldMap { subject: self.id, member: Member::default(), created, updated, used, fields })
    }

    pub(super) fn of_map(id: RecordId, map: &FieldMap) -> Option<Self> {
        let Value::Bytes(json) = map.fields.get(&ABOUT)? else { return None };
        let about: About = serde_json::from_slice(json).ok()?;
        let scope = match about.scope {
            Stored::Record(id) => Scope::Record(RecordId::parse(&id)?),
            Stored::Subject(id) => Scope::Subject(RecordId::parse(&id)?),
            Stored::Query { rtype, conditions } => {
                let condition = |(ord, kind): (u16, FieldKind)| {
                    let field = FieldOrd(ord);
                    Some(Condition { field, kind, value: map.fields.get(&field)?.duplicate() })
                };
                let all: Option<Vec<_>> = conditions.into_iter().map(condition).collect();
                Scope::Query(rtype, all?)
            }
        };
        let ended = about.ended;
        let ended = ended.map(|e| Ending { at: UnixMillis(e.at_ms), by: e.by, note: e.note });
        Some(Self {
            id,
            scope,
            reason: about.reason,
            issuer: about.issuer,
            reference: about.reference,
            readers: about.readers,
            placed: UnixMillis(about.placed_ms),
            placed_by: about.placed_by,
            expires: about.expires_ms.map(UnixMillis),
            ended,
        })
    }

    /// When its record goes: never while it is in force.
    fn day(&self) -> Day {
        let kept = |e: &Ending| Day(e.at.day().0.saturating_add(limits::HOLD_KEPT_DAYS));
        self.ended.as_ref().map_or(Day::OPEN_ENDED, kept)
    }
}

impl Core {
    /// Takes a slot for a version of a hold, and adds its rows to a batch.
    pub(super) async fn put_hold(
        &self,
        tenant: &std::sync::Arc<Tenant>,
        hold: &Hold,
        version: RecVer,
        batch: &mut Batch,
    ) -> Result<Slot, VaultError> {
        let named = (HOLD, hold.id, version, REVISION);
        self.put_version(tenant, named, Home::Expiry(hold.day()), &hold.to_map()?, batch).await
    }

    /// Brings the holds of every tenant, and what follows from them, to memory.
    pub(in crate::vault) fn load_holds(&self) -> Result<(), VaultError> {
        for tenant in self.registry.all() {
            for bucket in tenant.buckets(Some(HOLD)) {
                for path in pages_of(&self.tree, bucket, 0..u32::MAX)? {
                    let mut unreadable = self.damaged_holds(&path)?;
                    self.each_current(&path, &mut |_, id, open| {
                        match open.and_then(|open| Hold::of_map(id, &open.fields.to_map())) {
                            Some(hold) => drop(self.holds.set(tenant.ord, hold)),
                            None => unreadable.push(id),
                        }
                        Ok(())
                    })?;
                    for id in unreadable {
                        tracing::error!(
                            "a legal hold does not open: nothing of its tenant is erased until it is restored"
                        );
                        self.holds.set_unreadable(tenant.ord, id);
                    }
                }
            }
            self.load_postponed(&tenant)?;
        }
        Ok(())
    }

    /// Holds on a page that do not open, also where nothing says which they are: the page may be lost.
    fn damaged_holds(&self, path: &Path) -> Result<Vec<RecordId>, VaultError> {
        let content = relist_by(&self.tree, path, &self.metrics, &|_, _, _| Vec::new())?;
        let current = |kid| !self.superseded.holds(kid);
        let damaged = content.damaged.into_iter().filter(|(kid, _)| current(*kid));
        Ok(damaged.map(|(_, id)| id.unwrap_or(RecordId([0; 16]))).collect())
    }

    /// Whether a hold keeps a version.
    pub(in crate::vault) fn is_held(&self, tenant: &Tenant, open: &OpenVersion) -> bool {
        let (rtype, record) = (open.version.rtype, open.version.record);
        self.holds.is_held(tenant.ord, Facts { rtype, record, map: &open.fields.to_map() })
    }
}
