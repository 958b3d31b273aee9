//! What a reader sees of a record: the fields asked for, as far as the caller's rights and the purpose reach.
//!
//! Invariant: a value of a class that the caller may not see in clear leaves here masked or not at all.

use std::collections::BTreeMap;

use super::error::VaultError;
use super::fieldmap::FieldMap;
use super::mask::masked;
use super::schema::{FieldDef, Schema};
use super::slug::Slug;
use super::value::Value;
use crate::audit::{Member, Seen};
use crate::authz::ClassSet;
use crate::clock::UnixMillis;
use crate::id::{Day, RecVer, RecordId, TypeOrd};

/// What a reader asks for.
#[derive(Clone, Debug, Default)]
pub struct ReadSpec {
    /// Names of the fields to return, each with its place in the caller's list; `None` = all.
    pub fields: Option<BTreeMap<String, usize>>,
    /// What for. Fields that name purposes are returned for those only.
    pub purpose: Option<String>,
}

impl ReadSpec {
    /// Whether a field is there for the purpose of this reading.
    pub(super) fn serves(&self, def: &FieldDef) -> bool {
        self.purpose.as_deref().map_or(def.purposes.is_empty(), |p| def.serves(p))
    }

    /// Fails if a field is asked for that none of the schemas has.
    pub(super) fn check(&self, schemas: &[&Schema]) -> Result<(), VaultError> {
        let known = |name: &str| schemas.iter().any(|s| s.field(name).is_some());
        let asked = self.fields.iter().flatten();
        let mut unknown: Vec<usize> = asked.filter(|(n, _)| !known(n)).map(|(_, at)| *at).collect();
        unknown.sort_unstable();
        if unknown.is_empty() { Ok(()) } else { Err(VaultError::ReadMask(unknown)) }
    }
}

/// A record as its reader may see it.
pub struct RecordView {
    pub id: RecordId,
    pub rtype: Slug,
    pub subject: RecordId,
    pub fields: BTreeMap<String, Value>,
    pub version: RecVer,
    pub created: UnixMillis,
    pub updated: UnixMillis,
    pub expires: Day,
    /// What the audit log says of who saw it.
    pub trace: Trace,
}

/// A record that was shown, as the audit log tells it.
#[derive(Clone, Copy, Debug)]
pub struct Trace {
    pub member: Member,
    pub rtype: TypeOrd,
    pub seen: Seen,
}

/// Applies a reader's rights and wishes to a version.
pub(super) fn view(
    schema: &Schema,
    id: RecordId,
    version: RecVer,
    expires: Day,
    map: FieldMap,
    clear: ClassSet,
    spec: &ReadSpec,
) -> RecordView {
    let (mut fields, mut seen) = (BTreeMap::new(), Seen::default());
    for (ord, value) in map.fields {
        let Some(def) = schema.field_by_ord(ord) else { continue };
        let wanted = spec.fields.as_ref().is_none_or(|w| w.contains_key(def.name.as_str()));
        if !wanted || !spec.serves(def) {
            continue;
        }
        let shown = if clear.contains(def.class) {
            seen.clear(def.class);
            Some(value)
        } else {
            seen.masked(def.class);
            masked(&value, def.mask)
        };
        fields.extend(shown.map(|v| (def.name.as_str().to_owned(), v)));
    }
    RecordView {
        id,
        rtype: schema.type_name().clone(),
        subject: map.subject,
        fields,
        version,
        created: map.created,
        updated: map.updated,
        expires,
        trace: Trace { member: map.member, rtype: schema.ord(), seen },
    }
}
