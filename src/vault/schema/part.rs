//! Parts of a schema that an update replaces, the rest staying as it is.

use std::collections::BTreeSet;

use super::{FieldDraft, RetentionDraft, Schema, SchemaDraft};
use crate::vault::slug::FieldName;

/// Which parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// All fields.
    pub fields: bool,
    /// These fields, whether they exist or not.
    pub named: BTreeSet<FieldName>,
    pub retention: bool,
    pub sync_erase: bool,
}

impl Parts {
    /// Everything that can be replaced.
    pub fn whole() -> Self {
        Self { fields: true, named: BTreeSet::new(), retention: true, sync_erase: true }
    }
}

impl Schema {
    /// The draft that has these parts of another one, and all else as the schema has it.
    pub fn with(&self, given: SchemaDraft, parts: &Parts) -> SchemaDraft {
        let mut draft = SchemaDraft { type_name: given.type_name, ..self.to_draft() };
        if parts.fields {
            draft.fields = given.fields;
        } else {
            let named =
                |f: &FieldDraft| FieldName::parse(&f.name).is_ok_and(|n| parts.named.contains(&n));
            let (kept, mut more): (Vec<_>, Vec<_>) = (draft.fields, Vec::new());
            for field in given.fields.into_iter().filter(named) {
                more.push(field);
            }
            let replaced = |f: &FieldDraft| more.iter().any(|m| m.name == f.name);
            draft.fields = kept.into_iter().filter(|f| !replaced(f)).collect();
            draft.fields.append(&mut more);
        }
        if parts.retention {
            draft.retention = given.retention;
        }
        if parts.sync_erase {
            draft.erase_old_versions_synchronously = given.erase_old_versions_synchronously;
        }
        draft
    }

    fn to_draft(&self) -> SchemaDraft {
        SchemaDraft {
            type_name: self.type_name.to_string(),
            fields: self.fields.iter().map(FieldDraft::of).collect(),
            retention: Some(match self.retention {
                super::Retention::RetainFor(period) => {
                    RetentionDraft::RetainFor(period.to_string())
                }
                super::Retention::OpenEnded => RetentionDraft::OpenEnded(true),
            }),
            erase_old_versions_synchronously: self.erase_old_versions_synchronously,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::{Classification, FieldKind};
    use crate::clock::UnixMillis;
    use crate::id::TypeOrd;

    fn field(name: &str, description: &str) -> FieldDraft {
        FieldDraft {
            name: name.into(),
            kind: Some(FieldKind::Text),
            class: Some(Classification::General),
            description: description.into(),
            ..FieldDraft::default()
        }
    }

    fn draft(fields: Vec<FieldDraft>) -> SchemaDraft {
        let retention = Some(RetentionDraft::RetainFor("P3Y".into()));
        let type_name = "customer".into();
        SchemaDraft { type_name, fields, retention, erase_old_versions_synchronously: false }
    }

    #[test]
    fn what_is_not_named_stays_as_it_is() {
        let first = draft(vec![field("city", "old"), field("note", "old")]);
        let schema = Schema::create(first, TypeOrd(1), UnixMillis(1)).unwrap();
        let given = SchemaDraft {
            retention: None,
            erase_old_versions_synchronously: true,
            ..draft(vec![field("note", "new"), field("more", "new"), field("else", "new")])
        };
        let next = |parts: &Parts| {
            let draft = schema.with(given.clone(), parts);
            let next = schema.evolve(draft, UnixMillis(2)).unwrap();
            let fields = next.fields().iter();
            let fields: Vec<_> =
                fields.map(|f| format!("{} {} {}", f.ord.0, f.name, f.description)).collect();
            (fields.join(", "), next.erases_old_versions_synchronously(), next.revision())
        };
        let name = |n: &str| FieldName::parse(n).unwrap();
        let some = Parts { named: [name("note"), name("more")].into(), ..Parts::default() };
        assert_eq!(next(&some), ("1 city old, 2 note new, 3 more new".into(), false, 2));
        let sync = Parts { sync_erase: true, ..Parts::default() };
        assert_eq!(next(&sync), ("1 city old, 2 note old".into(), true, 2));
        assert_eq!(next(&Parts::default()).2, 1, "nothing named, nothing changed");
        let whole = schema.with(given.clone(), &Parts::whole());
        assert!(whole.retention.is_none() && whole.fields.len() == 3);
    }
}
