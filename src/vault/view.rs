//! What a reader sees of a record: the fields asked for, as far as the caller's rights and the purpose reach.
//!
//! Invariant: a value of a class that the caller may not see in clear leaves here masked or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::error::VaultError;
use super::fieldmap::{EncodedMap, ValueRef};
use super::mask::masked;
use super::schema::{FieldDef, Schema};
use super::slug::Slug;
use super::value::Value;
use crate::audit::{Member, Seen};
use crate::authz::ClassSet;
use crate::clock::UnixMillis;
use crate::id::{Day, FieldOrd, RecVer, RecordId, TypeOrd};

/// A version may keep so much more in memory than twice what is shown of it: most are no larger.
const SPARE_BYTES: usize = 4 * 1024;
/// What a field takes of an answer beside its name and value: keys, lengths, a number or date written out.
const FRAME_BYTES: usize = 32;

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
    pub subject: RecordId,
    pub fields: ShownFields,
    pub version: RecVer,
    pub created: UnixMillis,
    pub updated: UnixMillis,
    pub expires: Day,
    /// What the audit log says of who saw it.
    pub trace: Trace,
}

impl RecordView {
    pub fn rtype(&self) -> &Slug {
        self.fields.schema.type_name()
    }
}

/// The fields that a reader sees, where they lie in the version that was opened.
pub struct ShownFields {
    schema: Arc<Schema>,
    map: EncodedMap,
    /// Of each field of the map, in its order.
    shown: Vec<Shown>,
    room: usize,
}

/// How a reader sees a field.
enum Shown {
    Not,
    Clear,
    Masked(Value),
}

impl ShownFields {
    /// Name and value of each, in the order of their numbers in the schema.
    pub fn iter(&self) -> impl Iterator<Item = (&str, ValueRef<'_>)> {
        self.map.iter().zip(&self.shown).filter_map(|((ord, value), shown)| {
            let value = match shown {
                Shown::Not => return None,
                Shown::Clear => value,
                Shown::Masked(value) => value.into(),
            };
            Some((self.schema.field_by_ord(ord)?.name.as_str(), value))
        })
    }

    pub fn get(&self, name: &str) -> Option<ValueRef<'_>> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            ValueRef::Text(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// Keeps nothing of the fields that are not shown.
    fn narrow(&mut self) -> Result<(), VaultError> {
        let shown = self.map.iter().zip(&self.shown);
        let kept: BTreeSet<FieldOrd> =
            shown.filter(|(_, how)| !matches!(how, Shown::Not)).map(|((ord, _), _)| ord).collect();
        self.map = self.map.only(|ord| kept.contains(&ord))?;
        self.shown.retain(|how| !matches!(how, Shown::Not));
        Ok(())
    }

    /// What they take of an answer, in bytes, and a little more.
    pub fn room(&self) -> usize {
        self.room
    }
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
    schema: Arc<Schema>,
    (id, version, expires): (RecordId, RecVer, Day),
    map: EncodedMap,
    clear: ClassSet,
    spec: &ReadSpec,
) -> Result<RecordView, VaultError> {
    let (mut shown, mut seen, mut room) = (Vec::with_capacity(map.count()), Seen::default(), 0);
    for (ord, value) in map.iter() {
        let wanted = |def: &FieldDef| {
            let wanted = spec.fields.as_ref().is_none_or(|w| w.contains_key(def.name.as_str()));
            wanted && spec.serves(def)
        };
        let Some(def) = schema.field_by_ord(ord).filter(|def| wanted(def)) else {
            shown.push(Shown::Not);
            continue;
        };
        room += value.encoded_len() + def.name.as_str().len() + FRAME_BYTES;
        shown.push(if clear.contains(def.class) {
            seen.clear(def.class);
            Shown::Clear
        } else {
            seen.masked(def.class);
            masked(&value.to_value(), def.mask).map_or(Shown::Not, Shown::Masked)
        });
    }
    let trace = Trace { member: map.member, rtype: schema.ord(), seen };
    let (subject, created, updated) = (map.subject, map.created, map.updated);
    let mut fields = ShownFields { schema, map, shown, room };
    // Whoever asks for little of many large records does not have all of them kept until he is answered.
    if fields.map.kept_bytes() > 2 * room + SPARE_BYTES {
        fields.narrow()?;
    }
    Ok(RecordView { id, subject, fields, version, created, updated, expires, trace })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::authz::{CreateRecord, ReadRecord};
    use crate::class::{Classification, FieldKind, Role};
    use crate::store::Memory;
    use crate::vault::NewRecord;
    use crate::vault::schema::{FieldDraft, RetentionDraft, SchemaDraft};
    use crate::vault::testing::{permit, vault_on, visited};

    const LARGE: usize = 300_000;

    /// One large field and two small ones; asked for, in turn, one, the other, all and none.
    #[tokio::test]
    async fn of_a_large_record_no_more_is_kept_than_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault_on(dir.path(), Arc::new(Memory::new()));
        visited(&vault, "shop").await;
        let field = |name: &str, max_bytes| FieldDraft {
            name: name.into(),
            kind: Some(FieldKind::Text),
            class: Some(Classification::General),
            max_bytes,
            ..FieldDraft::default()
        };
        let draft = SchemaDraft {
            type_name: "letter".into(),
            fields: vec![field("from", 100), field("body", LARGE as i32), field("to", 100)],
            retention: Some(RetentionDraft::RetainFor("P1D".into())),
            erase_old_versions_synchronously: false,
        };
        let operator = permit(Role::Operator, Some("shop"));
        vault.create_schema(&operator, "shop", draft).await.unwrap();
        let given = [("from", "Ada".to_owned()), ("body", "b".repeat(LARGE)), ("to", "Bo".into())];
        let fields = given.iter().map(|(n, v)| ((*n).into(), Value::Text(v.clone()))).collect();
        let rtype = Slug::parse("letter").unwrap();
        let new = NewRecord { rtype, subject: None, fields, request: None };
        let app = permit::<CreateRecord>(Role::Application, Some("shop"));
        let id = vault.create_record(&app, "shop", new).await.unwrap().id;
        let app = permit::<ReadRecord>(Role::Application, Some("shop"));
        for (asked, most) in [
            (&["to"][..], 2 * SPARE_BYTES),
            (&["from", "to"], 2 * SPARE_BYTES),
            (&["body", "to"], LARGE + LARGE / 8),
            (&["from", "body", "to"], LARGE + LARGE / 8),
            (&[], 2 * SPARE_BYTES),
        ] {
            let fields = Some(asked.iter().zip(0..).map(|(n, at)| ((*n).into(), at)).collect());
            let spec = ReadSpec { fields, purpose: None };
            let view = vault.get_record(&app, "shop", id, &spec).unwrap();
            let kept = view.fields.map.kept_bytes();
            assert!(kept <= most, "{asked:?}: {kept}");
            let shown: Vec<(&str, &str)> =
                view.fields.iter().map(|(n, _)| (n, view.fields.text(n).unwrap())).collect();
            let wanted = given.iter().filter(|(name, _)| asked.contains(name));
            let wanted: Vec<(&str, &str)> = wanted.map(|(n, v)| (*n, v.as_str())).collect();
            assert!(shown == wanted, "{asked:?}");
        }
    }
}
