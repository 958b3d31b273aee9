//! Resource names as they are typed: checked before any call is made.

use std::fmt;
use std::str::FromStr;

use crate::id::RecordId;

const ID_BYTES_MAX: usize = 63;

/// `[a-z]([a-z0-9-]{0,61}[a-z0-9])?`
fn is_id(s: &str) -> bool {
    let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    s.len() <= ID_BYTES_MAX
        && s.bytes().all(good)
        && s.starts_with(|c: char| c.is_ascii_lowercase())
        && !s.ends_with('-')
}

/// A tenant's id; typed as `acme` or as `tenants/acme`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantName(String);

impl TenantName {
    pub fn id(&self) -> &str {
        &self.0
    }
}

impl FromStr for TenantName {
    type Err = &'static str;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let id = s.strip_prefix("tenants/").unwrap_or(s);
        let shape = "a tenant is a lower-case letter, then up to 62 letters, digits or hyphens";
        is_id(id).then(|| Self(id.to_owned())).ok_or(shape)
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tenants/{}", self.0)
    }
}

/// A record type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeName(String);

impl TypeName {
    pub fn id(&self) -> &str {
        &self.0
    }

    /// `tenants/{tenant}/schemas/{type}`
    pub fn of(&self, tenant: &TenantName) -> String {
        format!("{tenant}/schemas/{}", self.0)
    }
}

impl FromStr for TypeName {
    type Err = &'static str;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let shape = "a type is a lower-case letter, then up to 62 letters, digits or hyphens";
        is_id(s).then(|| Self(s.to_owned())).ok_or(shape)
    }
}

macro_rules! uuid_name {
    ($(#[$doc:meta])* $name:ident, $collection:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            tenant: TenantName,
            full: String,
        }

        impl $name {
            pub fn tenant(&self) -> &TenantName {
                &self.tenant
            }
        }

        impl FromStr for $name {
            type Err = &'static str;

            fn from_str(s: &str) -> Result<Self, Self::Err> {
                let shape = concat!("expected tenants/{tenant}/", $collection, "/{uuid}");
                let parts: Vec<&str> = s.split('/').collect();
                let ["tenants", tenant, $collection, id] = parts.as_slice() else {
                    return Err(shape);
                };
                if !is_id(tenant) || RecordId::parse(id).is_none() {
                    return Err(shape);
                }
                Ok(Self { tenant: TenantName((*tenant).to_owned()), full: s.to_owned() })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.full)
            }
        }
    };
}

uuid_name!(
    /// `tenants/{tenant}/records/{uuid}`
    RecordName,
    "records"
);
uuid_name!(
    /// `tenants/{tenant}/subjects/{uuid}`
    SubjectName,
    "subjects"
);

uuid_name!(
    /// `tenants/{tenant}/holds/{uuid}`
    HoldName,
    "holds"
);

/// The last part of a resource name.
pub fn last(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_may_be_typed_short_or_whole() {
        let tenant: TenantName = "acme".parse().unwrap();
        assert_eq!("tenants/acme".parse(), Ok(tenant.clone()));
        assert_eq!(tenant.to_string(), "tenants/acme");
        for bad in ["", "Acme", "1a", "a-", "a/b", "tenants/", "a b", &"a".repeat(64)] {
            assert!(bad.parse::<TenantName>().is_err(), "{bad}");
        }
        assert!("a".repeat(63).parse::<TenantName>().is_ok());
    }

    #[test]
    fn a_record_name_is_taken_whole_and_canonical_only() {
        let id = "07070707-0707-0707-0707-07070707070a";
        let name: RecordName = format!("tenants/acme/records/{id}").parse().unwrap();
        assert_eq!(name.tenant().id(), "acme");
        assert_eq!(last(&name.to_string()), id);
        for bad in [
            format!("tenants/acme/subjects/{id}"),
            format!("tenants/acme/records/{}", id.to_uppercase()),
            format!("tenants/acme/records/{id}/x"),
            format!("tenants//records/{id}"),
            id.to_owned(),
        ] {
            assert!(bad.parse::<RecordName>().is_err(), "{bad}");
        }
    }
}
