//! Retention policies as a TOML file, and whether two say the same.
//!
//! ```toml
//! [[policy]]
//! id = "customers"
//! types = ["customer"]          # left out: all types
//! start = "LAST_USE"            # CREATION, LAST_USE, or EVENT with event_field
//! period = "P3Y"
//! maximum = "P10Y"
//! time_zone = "Europe/Berlin"
//! legal_basis = "GDPR art. 5(1)(e)"
//! ```

use std::collections::BTreeSet;

use serde::Deserialize;

use super::names::{TenantName, TypeName};
use crate::class::Classification;
use crate::proto::v1;
use crate::toml_fault::TomlFault;
use crate::vault::retention::policy::StartKind;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    policy: Vec<FilePolicy>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct FilePolicy {
    id: String,
    types: Vec<String>,
    classification: Option<Classification>,
    purpose: String,
    start: Option<StartKind>,
    event_field: String,
    period: String,
    grace_period: String,
    end_date: String,
    minimum: String,
    maximum: String,
    open_ended: bool,
    time_zone: String,
    legal_basis: String,
    description: String,
}

/// Parses a file of policies of a tenant.
pub fn parse(text: &str, tenant: &TenantName) -> Result<Vec<v1::RetentionPolicy>, String> {
    let file: File = toml::from_str(text).map_err(|e| TomlFault::new(text, &e).to_string())?;
    let mut ids = BTreeSet::new();
    if let Some(twice) = file.policy.iter().position(|p| !ids.insert(&p.id)) {
        return Err(format!("its [[policy]] number {} has the id of another", twice + 1));
    }
    file.policy.iter().map(|policy| wire(policy, tenant)).collect()
}

fn wire(policy: &FilePolicy, tenant: &TenantName) -> Result<v1::RetentionPolicy, String> {
    let id: TypeName = policy.id.parse().map_err(|_| {
        "an id is a lower-case letter, then up to 62 letters, digits or hyphens".to_owned()
    })?;
    let mut schemas = Vec::with_capacity(policy.types.len());
    for name in &policy.types {
        let name: TypeName = name.parse().map_err(str::to_owned)?;
        schemas.push(name.of(tenant));
    }
    let classification = match policy.classification {
        None => v1::Classification::Unspecified,
        Some(Classification::Public) => v1::Classification::Public,
        Some(Classification::General) => v1::Classification::General,
        Some(Classification::Sensitive) => v1::Classification::Sensitive,
    };
    let start = match policy.start {
        None | Some(StartKind::Creation) => v1::RetentionStart::Creation,
        Some(StartKind::LastUse) => v1::RetentionStart::LastUse,
        Some(StartKind::Event) => v1::RetentionStart::Event,
    };
    Ok(v1::RetentionPolicy {
        name: format!("{tenant}/retentionPolicies/{}", id.id()),
        schemas,
        classification: classification.into(),
        purpose: policy.purpose.clone(),
        start: start.into(),
        event_field: policy.event_field.clone(),
        period: policy.period.clone(),
        grace_period: policy.grace_period.clone(),
        end_date: policy.end_date.clone(),
        minimum: policy.minimum.clone(),
        maximum: policy.maximum.clone(),
        open_ended: policy.open_ended,
        time_zone: policy.time_zone.clone(),
        legal_basis: policy.legal_basis.clone(),
        description: policy.description.clone(),
        etag: String::new(),
        update_time: None,
    })
}

/// Whether two policies mean the same, defaults filled in; etag and time do not count.
pub fn same(a: &v1::RetentionPolicy, b: &v1::RetentionPolicy) -> bool {
    plain(a) == plain(b)
}

fn plain(policy: &v1::RetentionPolicy) -> v1::RetentionPolicy {
    let mut plain = v1::RetentionPolicy {
        etag: String::new(),
        update_time: None,
        time_zone: policy.time_zone.to_ascii_lowercase(),
        ..policy.clone()
    };
    if plain.time_zone.is_empty() {
        plain.time_zone = "utc".to_owned();
    }
    plain.schemas.sort();
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant() -> TenantName {
        "acme".parse().unwrap()
    }

    #[test]
    fn a_file_is_read_and_its_faults_are_told_without_its_values() {
        let text = "[[policy]]\nid = \"a\"\ntypes = [\"person\"]\nperiod = \"P3Y\"\n\n\
                    [[policy]]\nid = \"b\"\nstart = \"EVENT\"\nevent_field = \"left\"\n\
                    period = \"P1Y\"\nopen_ended = true\n";
        let read = parse(text, &tenant()).unwrap();
        assert_eq!(read[0].name, "tenants/acme/retentionPolicies/a");
        assert_eq!(read[0].schemas, ["tenants/acme/schemas/person"]);
        assert_eq!(read[0].start(), v1::RetentionStart::Creation);
        assert_eq!((read[1].start(), read[1].open_ended), (v1::RetentionStart::Event, true));
        for (bad, want) in [
            ("[[policy]]\nid = \"A b\"\n", "an id is"),
            ("[[policy]]\nid = \"a\"\n[[policy]]\nid = \"a\"\n", "number 2"),
            ("[[policy]]\nid = \"a\"\ncanary = \"x\"\n", "canary"),
            ("[[policy]]\nid = \"a\"\nstart = \"NEVER\"\n", "line 3"),
            ("policy = 1\n", "line 1"),
        ] {
            let fault = parse(bad, &tenant()).unwrap_err();
            assert!(fault.contains(want), "{bad}: {fault}");
        }
    }

    #[test]
    fn what_differs_only_in_what_the_vault_fills_in_is_the_same() {
        let asked = parse("[[policy]]\nid = \"a\"\nperiod = \"P3Y\"\n", &tenant()).unwrap();
        let mut present = asked[0].clone();
        (present.etag, present.time_zone) = ("3".into(), "UTC".into());
        assert!(same(&asked[0], &present));
        present.period = "P4Y".into();
        assert!(!same(&asked[0], &present));
    }
}
