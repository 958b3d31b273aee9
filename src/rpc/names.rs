//! Resource names (AIP-122): `tenants/{tenant}`, and what lies below it.
//!
//! Guarantees: only the canonical spelling parses, so that two names are equal only if they name the same; a refusal
//! says what form is expected and never repeats what was given.

use super::status::Violations;
use crate::id::{Day, RecordId};
use crate::vault::calendar::format_iso_date;
use crate::vault::slug::Slug;

/// What a name should have looked like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a name of the form {0}")]
pub struct NotAName(&'static str);

const TENANT: NotAName = NotAName("tenants/{tenant}");
const SCHEMA: NotAName = NotAName("tenants/{tenant}/schemas/{type}");
const RECORD: NotAName = NotAName("tenants/{tenant}/records/{uuid}");
const RETENTION_POLICY: NotAName = NotAName("tenants/{tenant}/retentionPolicies/{policy}");
const HOLD: NotAName = NotAName("tenants/{tenant}/holds/{uuid}");
const SUBJECT: NotAName = NotAName("tenants/{tenant}/subjects/{uuid}");

pub const SCHEMAS: &str = "schemas";
pub const RECORDS: &str = "records";
pub const SUBJECTS: &str = "subjects";

/// What is wrong with a name that is not of the call's tenant.
pub const OTHER_TENANT: &str = "is of another tenant";

/// What lies below a tenant, and the tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Below<T> {
    pub tenant: Slug,
    pub id: T,
}

pub fn parse_tenant(name: &str) -> Result<Slug, NotAName> {
    let id = name.strip_prefix("tenants/").ok_or(TENANT)?;
    Slug::parse(id).map_err(|_| TENANT)
}

fn below<T>(
    name: &str,
    collection: &str,
    form: NotAName,
    id: impl FnOnce(&str) -> Option<T>,
) -> Result<Below<T>, NotAName> {
    let rest = name.strip_prefix("tenants/").ok_or(form)?;
    let (tenant, rest) = rest.split_once('/').ok_or(form)?;
    let text = rest.strip_prefix(collection).and_then(|r| r.strip_prefix('/')).ok_or(form)?;
    let tenant = Slug::parse(tenant).map_err(|_| form)?;
    Ok(Below { tenant, id: id(text).ok_or(form)? })
}

pub fn parse_schema(name: &str) -> Result<Below<Slug>, NotAName> {
    below(name, SCHEMAS, SCHEMA, |id| Slug::parse(id).ok())
}

pub fn parse_retention_policy(name: &str) -> Result<Below<Slug>, NotAName> {
    below(name, "retentionPolicies", RETENTION_POLICY, |id| Slug::parse(id).ok())
}

pub fn parse_record(name: &str) -> Result<Below<RecordId>, NotAName> {
    below(name, RECORDS, RECORD, RecordId::parse)
}

pub fn parse_subject(name: &str) -> Result<Below<RecordId>, NotAName> {
    below(name, SUBJECTS, SUBJECT, RecordId::parse)
}

pub fn parse_hold(name: &str) -> Result<Below<RecordId>, NotAName> {
    below(name, "holds", HOLD, RecordId::parse)
}

pub fn tenant(tenant: &str) -> String {
    format!("tenants/{tenant}")
}

/// The pieces of the name of what lies below a tenant.
pub fn pieces<'a>(tenant: &'a str, collection: &'a str, id: &'a str) -> [&'a str; 6] {
    ["tenants/", tenant, "/", collection, "/", id]
}

pub fn schema(tenant: &str, rtype: &Slug) -> String {
    pieces(tenant, SCHEMAS, rtype.as_str()).concat()
}

pub fn retention_policy(tenant: &str, id: &Slug) -> String {
    format!("tenants/{tenant}/retentionPolicies/{id}")
}

pub fn record(tenant: &str, id: RecordId) -> String {
    pieces(tenant, RECORDS, id.encode(&mut [0; 36])).concat()
}

pub fn subject(tenant: &str, id: RecordId) -> String {
    pieces(tenant, SUBJECTS, id.encode(&mut [0; 36])).concat()
}

pub fn hold(tenant: &str, id: RecordId) -> String {
    format!("tenants/{tenant}/holds/{id}")
}

/// Records of a list of names, all of one tenant.
pub fn records_of<'a>(
    field: &str,
    names: impl Iterator<Item = &'a String>,
    tenant: Option<&Slug>,
    found: &mut Violations,
) -> Vec<RecordId> {
    let mut records = Vec::new();
    for (at, name) in names.enumerate() {
        let field = format!("{field}[{at}]");
        let Some(name) = found.take(&field, parse_record(name)) else { continue };
        if tenant.is_some_and(|t| name.tenant != *t) {
            found.add(field, OTHER_TENANT);
        }
        records.push(name.id);
    }
    records
}

/// The name of a bucket in its receipt.
pub fn bucket(tenant: &str, rtype: &Slug, expires: Day) -> String {
    let day = format_iso_date(expires).unwrap_or_default();
    format!("tenants/{tenant}/schemas/{rtype}/buckets/{day}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0a0b0c0d-0102-4304-8506-0708090a0b0c";

    #[test]
    fn names_survive_and_have_one_spelling() {
        let name = format!("tenants/shop/records/{ID}");
        let parsed = parse_record(&name).unwrap();
        assert_eq!((parsed.tenant.as_str(), record("shop", parsed.id)), ("shop", name.clone()));
        let whom = parse_subject(&name.replace("records", "subjects")).unwrap();
        assert_eq!(subject("shop", whom.id), format!("tenants/shop/subjects/{ID}"));
        let shape = parse_schema("tenants/shop/schemas/customer").unwrap();
        assert_eq!(schema("shop", &shape.id), "tenants/shop/schemas/customer");
        assert_eq!(tenant(parse_tenant("tenants/shop").unwrap().as_str()), "tenants/shop");
        assert!(bucket("shop", &shape.id, Day(0)).ends_with("/customer/buckets/1970-01-01"));
    }

    #[test]
    fn what_is_no_name_is_refused_without_an_echo() {
        let upper = ID.to_uppercase();
        for bad in [
            "",
            "tenants",
            "tenants/shop",
            "tenants//records/x",
            "tenants/SHOP/records/x",
            "tenants/shop/records/",
            &format!("tenants/shop/records/{upper}"),
            &format!("tenants/shop/records/{}", ID.replace('-', "")),
            &format!("tenants/shop/records/{ID}/"),
            &format!("tenants/shop/record/{ID}"),
            &format!("tenants/shop/recordsx/{ID}"),
            &format!("tenants/shop/subjects/{ID}"),
            &format!("/tenants/shop/records/{ID}"),
            &format!("tenants/a/b/records/{ID}"),
        ] {
            assert_eq!(parse_record(bad).err(), Some(RECORD), "{bad}");
        }
        for bad in ["", "tenants/", "tenants/A", "tenants/a/", "tenants/a/b", "a", "tenants/-"] {
            assert_eq!(parse_tenant(bad).err(), Some(TENANT), "{bad}");
        }
        assert!(parse_schema("tenants/a/schemas/b/c").is_err());
        assert!(!RECORD.to_string().contains("shop"));
    }
}
