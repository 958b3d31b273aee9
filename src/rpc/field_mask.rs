//! Field masks (AIP-157, AIP-161): `fields.phone` or `phone`; alone, `*`.
//!
//! Guarantees: every path that is no field name is one violation, and is not repeated.

use std::collections::BTreeSet;

use prost_types::FieldMask;

use super::status::Violations;
use crate::limits::FIELDS_MAX;
use crate::vault::slug::FieldName;

/// Which fields a call is about.
#[derive(Debug, PartialEq, Eq)]
pub enum Mask {
    /// No mask was given.
    Absent,
    /// `*`
    All,
    Some(BTreeSet<String>),
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
    let mut names = BTreeSet::new();
    for (at, path) in paths.iter().enumerate() {
        let name = path.strip_prefix("fields.").unwrap_or(path);
        match FieldName::parse(name) {
            Ok(name) => {
                names.insert(name.as_str().to_owned());
            }
            Err(_) => found.add(
                format!("{field}.paths[{at}]"),
                "must be a field, `fields.phone` or `phone`; or `*` alone",
            ),
        }
    }
    Mask::Some(names)
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
        let both = BTreeSet::from(["city".to_owned(), "phone".to_owned()]);
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
}
