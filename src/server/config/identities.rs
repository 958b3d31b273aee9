//! The `[[identity]]` tables of the file. They stay in the file: who may do what is read in one place.

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as Unfit;
use toml::de::{DeArray, DeValue};

use super::problem::{ConfigProblem, shown};
use crate::authz::{Binding, Principal, TenantScope, TrustDomain};
use crate::class::{Classification, Role};
use crate::toml_fault::TomlFault;

/// One table, as far as it can be judged by itself.
#[derive(Clone, Debug)]
pub struct IdentityText {
    /// Its place among them, counted from 0.
    pub at: usize,
    pub uri: String,
    pub role: Role,
    pub tenants: Vec<String>,
    pub clear: Option<Vec<Classification>>,
}

type Fault<'a> = &'a dyn Fn(usize, &str, &str) -> TomlFault;

/// The tables that are whole, and what is wrong with the others. `fault` makes a fault of a place in the text.
pub fn read(
    value: &DeValue<'_>,
    line: usize,
    fault: Fault<'_>,
) -> (Vec<IdentityText>, Vec<TomlFault>) {
    let (mut whole, mut faults) = (Vec::new(), Vec::new());
    let Some(tables) = value.as_array() else {
        let expected = "expected tables, [[identity]]".to_owned();
        return (whole, vec![TomlFault { line, key: "identity".to_owned(), expected }]);
    };
    for (at, table) in tables.iter().enumerate() {
        let before = faults.len();
        let (mut uri, mut role, mut tenants, mut clear) = (None, None, None, None);
        let start = table.span().start;
        let Some(entries) = table.get_ref().as_table() else {
            faults.push(fault(start, "identity", "expected a table, [[identity]]"));
            continue;
        };
        for (name, value) in entries {
            let place = name.span().start;
            let (name, value) = (name.get_ref().as_ref(), value.get_ref());
            let expected = match name {
                "uri" => {
                    uri = value.as_str().map(str::to_owned);
                    (uri.is_none(), "expected text")
                }
                "role" => {
                    role = value.as_str().and_then(named::<Role>);
                    (role.is_none(), "expected one of application, operator, auditor")
                }
                "tenants" => {
                    tenants = value.as_array().and_then(|all| each(all, |t| Some(t.to_owned())));
                    (tenants.is_none(), "expected names in brackets")
                }
                "clear" => {
                    clear = value.as_array().and_then(|all| each(all, named::<Classification>));
                    (clear.is_none(), "expected some of PUBLIC, GENERAL, SENSITIVE in brackets")
                }
                _ => (true, "unknown key"),
            };
            if let (true, expected) = expected {
                faults.push(fault(place, shown(name), expected));
            }
        }
        let absent = |name: &str| !entries.keys().any(|key| key.get_ref() == name);
        for name in ["uri", "role", "tenants"].into_iter().filter(|name| absent(name)) {
            faults.push(fault(start, "identity", &format!("missing key `{name}`")));
        }
        if let (Some(uri), Some(role), Some(tenants), true) =
            (uri, role, tenants, faults.len() == before)
        {
            whole.push(IdentityText { at, uri, role, tenants, clear });
        }
    }
    (whole, faults)
}

/// The variant of this name.
fn named<'a, T: Deserialize<'a>>(name: &'a str) -> Option<T> {
    let from: serde::de::value::StrDeserializer<'a, Unfit> = name.into_deserializer();
    T::deserialize(from).ok()
}

fn each<'a, T>(all: &'a DeArray<'a>, of: impl Fn(&'a str) -> Option<T>) -> Option<Vec<T>> {
    all.iter().map(|one| one.get_ref().as_str().and_then(&of)).collect()
}

impl IdentityText {
    pub fn check(&self, domain: &TrustDomain) -> Result<Binding, ConfigProblem> {
        let at = self.at;
        let principal = Principal::parse(&self.uri)
            .map_err(|problem| ConfigProblem::IdentityUri { at, problem })?;
        if !principal.is_of(domain) {
            return Err(ConfigProblem::IdentityDomain { at });
        }
        Ok(Binding {
            principal,
            role: self.role,
            tenants: TenantScope::parse(&self.tenants)
                .map_err(|problem| ConfigProblem::Identity { at, problem })?,
            clear: match &self.clear {
                Some(classes) => classes.iter().copied().collect(),
                None => Binding::default_clear(self.role),
            },
        })
    }
}
