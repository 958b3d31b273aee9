//! Field masks (AIP-157, AIP-161): `fields.phone` or `phone`; alone, `*`.
//!
//! Guarantees: every path that is no field name is one violation, and is not repeated.

use std::collections::{BTreeMap, BTreeSet};

use prost_types::FieldMask;

use super::status::Violations;
use crate::limits::FIELDS_MAX;
use crate::vault::schema::Parts;
use crate::vault::slug::FieldName;

/// Which fields a call is about.
#[derive(Debug, PartialEq, Eq)]
pub enum Mask {
    /// No mask was given.
    Absent,
    /// `*`
    All,
    /// Each with the place of its path; of one that is given twice, the last.
    Some(BTreeMap<String, usize>),
}

pub fn parse(field: &str, mask: Option<FieldMask>, found: &mut Violations) -> Mask {
    let paths = mask.map(|m| m.paths).unwrap_or_default();
    if paths.is_empty() {
        return Mask::Absent;
    }
    if paths == ["*"] {
        return Mask::All;
    }
    if paths.len() > FIELDS_MAX {
        found.add(field, format!("has more than {FIELDS_MAX} paths"));
        return Mask::Absent;
    }
    let mut names = BTreeMap::new();
    for (at, path) in paths.iter().enumerate() {
        let name = path.strip_prefix("fields.").unwrap_or(path);
        match FieldName::parse(name) {
            Ok(name) => {
                names.insert(name.as_str().to_owned(), at);
            }
            Err(_) => found.add(
                format!("{field}.paths[{at}]"),
                "must be a field, `fields.phone` or `phone`; or `*` alone",
            ),
        }
    }
    Mask::Some(names)
}

/// Which of a message's fields a mask names, of those that can change; all of them for `*`. `None`: no mask was given.
pub fn of_message(
    mask: Option<FieldMask>,
    known: &[&'static str],
    found: &mut Violations,
) -> Option<BTreeSet<&'static str>> {
    let paths = mask.map(|m| m.paths).filter(|paths| !paths.is_empty())?;
    if paths == ["*"] {
        return Some(known.iter().copied().collect());
    }
    if paths.len() > FIELDS_MAX {
        found.add("update_mask", format!("has more than {FIELDS_MAX} paths"));
        return None;
    }
    let mut named = BTreeSet::new();
    for (at, path) in paths.iter().enumerate() {
        match known.iter().find(|k| *k == path) {
            Some(known) => {
                named.insert(*known);
            }
            None => found.add(
                format!("update_mask.paths[{at}]"),
                format!("must be one of {}; or `*` alone", known.join(", ")),
            ),
        }
    }
    Some(named)
}

/// The parts of a schema that a mask names. `given` are the names of the fields that the request defines.
pub fn of_schema(mask: Option<FieldMask>, given: &[&str], found: &mut Violations) -> Parts {
    let paths = mask.map(|m| m.paths).unwrap_or_default();
    if paths.is_empty() || paths == ["*"] {
        return Parts::whole();
    }
    let mut parts = Parts::default();
    if paths.len() > FIELDS_MAX {
        found.add("update_mask", format!("has more than {FIELDS_MAX} paths"));
        return parts;
    }
    for (at, path) in paths.iter().enumerate() {
        let field = path.strip_prefix("fields.").and_then(|n| FieldName::parse(n).ok());
        let fault = match (path.as_str(), field) {
            ("fields", _) => {
                parts.fields = true;
                None
            }
            ("retain_for" | "open_ended", _) => {
                parts.retention = true;
                None
            }
            ("erase_old_versions_synchronously", _) => {
                parts.sync_erase = true;
                None
            }
            (_, Some(name)) if given.contains(&name.as_str()) => {
                parts.named.insert(name);
                None
            }
            (_, Some(_)) => Some("names a field that schema.fields does not define"),
            _ => Some(
                "must be fields, fields.{name}, retain_for, open_ended or \
                 erase_old_versions_synchronously; or `*` alone",
            ),
        };
        if let Some(fault) = fault {
            found.add(format!("update_mask.paths[{at}]"), fault);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(paths: &[&str]) -> Result<Mask, tonic::Status> {
        let paths = paths.iter().map(|p| (*p).to_owned()).collect();
        let mut found = Violations::default();
        let mask = parse("read_mask", Some(FieldMask { paths }), &mut found);
        found.finish(Some(mask))
    }

    #[test]
    fn both_spellings_name_a_field_and_a_star_names_all() {
        let both = BTreeMap::from([("city".to_owned(), 1), ("phone".to_owned(), 2)]);
        assert_eq!(parsed(&["fields.phone", "city", "phone"]).unwrap(), Mask::Some(both));
        assert_eq!(parsed(&["*"]).unwrap(), Mask::All);
        assert_eq!(parsed(&[]).unwrap(), Mask::Absent);
        assert_eq!(parse("m", None, &mut Violations::default()), Mask::Absent);
        for bad in ["", "*x", "fields.", "fields.*", "Phone", "fields.a.b", "fields.fields.a"] {
            let status = parsed(&["city", bad]).unwrap_err();
            assert!(status.message().starts_with("read_mask.paths[1]: "), "{bad}: {status}");
        }
        assert!(parsed(&["*", "city"]).is_err());
        assert!(parsed(&["a"; FIELDS_MAX + 1]).is_err());
    }

    fn mask(paths: &[&str]) -> Option<FieldMask> {
        Some(FieldMask { paths: paths.iter().map(|p| (*p).to_owned()).collect() })
    }

    #[test]
    fn a_message_has_its_own_paths_and_no_others() {
        let named = |paths: &[&str]| {
            let mut found = Violations::default();
            let named = of_message(mask(paths), &["display_name"], &mut found);
            found.finish(Some(named))
        };
        let one = Some(BTreeSet::from(["display_name"]));
        assert_eq!(named(&["display_name"]).unwrap(), one);
        assert_eq!(named(&["*"]).unwrap(), one);
        assert_eq!(named(&[]).unwrap(), None);
        for bad in ["", "name", "etag", "create_time", "displayName", "display_name.x", "*"] {
            let status = named(&["display_name", bad]).unwrap_err();
            assert!(status.message().starts_with("update_mask.paths[1]: "), "{bad}: {status}");
        }
        assert!(named(&["display_name"; FIELDS_MAX + 1]).is_err());
    }

    #[test]
    fn the_parts_of_a_schema_are_named_one_by_one_or_all() {
        let parts = |paths: &[&str]| {
            let mut found = Violations::default();
            let parts = of_schema(mask(paths), &["city", "email"], &mut found);
            found.finish(Some(parts))
        };
        assert_eq!(parts(&[]).unwrap(), Parts::whole());
        assert_eq!(parts(&["*"]).unwrap(), Parts::whole());
        let some = parts(&["fields.city", "erase_old_versions_synchronously"]).unwrap();
        let named = BTreeSet::from([FieldName::parse("city").unwrap()]);
        assert_eq!(some, Parts { named, sync_erase: true, ..Parts::default() });
        assert!(parts(&["fields"]).unwrap().fields && parts(&["open_ended"]).unwrap().retention);
        for bad in ["", "name", "revision", "fields.", "fields.*", "fields.nothing", "city", "*"] {
            let status = parts(&["fields", bad]).unwrap_err();
            assert!(status.message().starts_with("update_mask.paths[1]: "), "{bad}: {status}");
            assert!(bad.len() < 7 || !status.message().contains("nothing"), "{status}");
        }
        assert!(parts(&["fields"; FIELDS_MAX + 1]).is_err());
    }
}
