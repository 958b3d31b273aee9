//! What file, environment and flags say, put together: flags over environment over file over default.
//!
//! Guarantees: each value is of its key's kind and knows where it is from; what is unknown, of the wrong kind or
//! missing is told with its place and never with what was given; all such problems are found in one go. Relative paths
//! start from the file's folder in the file, and from the working directory elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::identities::{self, IdentityText};
use super::keys::{Absent, KEYS, Key, Kind, Said, Value, nearest};
use super::problem::{ConfigProblem, Origin, shown};
use crate::toml_fault::TomlFault;

/// How many letters a name may differ from the key that was meant.
const NEAR: usize = 3;
/// The same where others may have variables that begin alike.
const NEAR_VARIABLE: usize = 2;

/// What stands beside the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Variables of the process.
    pub environment: Vec<(OsString, OsString)>,
    /// Key and value of each flag; the last one of a key counts.
    pub flags: Vec<(String, String)>,
}

impl Sources {
    pub fn of_process(flags: Vec<(String, String)>) -> Self {
        Self { environment: std::env::vars_os().collect(), flags }
    }
}

/// A value and where it is from.
#[derive(Clone, Debug)]
pub struct Given {
    pub value: Value,
    pub origin: Origin,
}

/// All that was said, as far as it fits, and what does not.
#[derive(Default)]
pub struct Gathered {
    values: BTreeMap<&'static str, Given>,
    pub identities: Vec<IdentityText>,
    pub problems: Vec<ConfigProblem>,
    /// Keys that were given a value that does not fit.
    unfit: BTreeSet<&'static str>,
}

impl Gathered {
    pub fn read(text: &str, base: &Path, sources: &Sources) -> Self {
        let mut all = Self::default();
        for key in KEYS {
            let value = match key.absent {
                Absent::Word(word) => Value::Word(word.to_owned()),
                Absent::Whole(n) => Value::Whole(n),
                Absent::Refused | Absent::Otherwise(_) => continue,
            };
            all.values.insert(key.name, Given { value, origin: Origin::Default });
        }
        match DeTable::parse(text) {
            Ok(table) => all.take_file(text, table.get_ref(), base),
            Err(error) => {
                all.problems.push(TomlFault::new(text, &error).into());
                // What such a file meant to say is anybody's guess: what it lacks is not told.
                all.unfit.extend(KEYS.iter().map(|key| key.name));
            }
        }
        all.take_environment(&sources.environment);
        for (name, text) in &sources.flags {
            match Key::find(name) {
                Some(key) => all.put(key, &said(key, text), Path::new(""), Origin::Flag),
                None => all.unknown(Origin::Flag, name, nearest(name, NEAR)),
            }
        }
        let kek = ["kek.file", "kek.credential"]
            .map(|name| all.values.get(name).map(|g| g.origin.rank()));
        // What is nearer to the process displaces the other, as it would displace the same key.
        match kek {
            [Some(file), Some(name)] if file > name => drop(all.values.remove("kek.credential")),
            [Some(file), Some(name)] if file < name => drop(all.values.remove("kek.file")),
            _ => {}
        }
        let data = all.path("data");
        all.values.entry("anchor.path").or_insert_with(|| Given {
            value: Value::Path(data.unwrap_or_default().join("anchor")),
            origin: Origin::Default,
        });
        for key in KEYS.iter().filter(|key| key.absent == Absent::Refused) {
            if !all.values.contains_key(key.name) && !all.unfit.contains(key.name) {
                all.problems.push(ConfigProblem::Missing { key: key.name });
            }
        }
        all
    }

    fn take_file(&mut self, text: &str, table: &DeTable<'_>, base: &Path) {
        let line_of = |at: usize| text.get(..at).unwrap_or_default().matches('\n').count() + 1;
        for (name, value) in table {
            let origin = Origin::File { line: line_of(name.span().start) };
            let (name, value) = (name.get_ref().as_ref(), value.get_ref());
            if name == "identity" {
                let fault = |at: usize, key: &str, expected: &str| TomlFault {
                    line: line_of(at),
                    key: key.to_owned(),
                    expected: expected.to_owned(),
                };
                let (identities, faults) = identities::read(value, origin.line(), &fault);
                self.identities = identities;
                self.problems.extend(faults.into_iter().map(ConfigProblem::from));
                continue;
            }
            let in_section = |key: &&Key| key.section() == Some(name);
            match value {
                DeValue::Table(section) if KEYS.iter().any(|key| in_section(&key)) => {
                    for (inner, value) in section {
                        let origin = Origin::File { line: line_of(inner.span().start) };
                        self.take(
                            &format!("{name}.{}", inner.get_ref()),
                            value.get_ref(),
                            base,
                            origin,
                        );
                    }
                }
                value => self.take(name, value, base, origin),
            }
        }
    }

    fn take(&mut self, name: &str, value: &DeValue<'_>, base: &Path, origin: Origin) {
        let Some(key) = Key::find(name) else {
            return self.unknown(origin, name, nearest(name, NEAR));
        };
        let said = match value {
            DeValue::String(text) => Said::Text(text),
            DeValue::Integer(n) => {
                u64::from_str_radix(n.as_str(), n.radix()).map_or(Said::Other, Said::Whole)
            }
            _ => Said::Other,
        };
        self.put(key, &said, base, origin);
    }

    fn take_environment(&mut self, environment: &[(OsString, OsString)]) {
        for (name, text) in environment {
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix("LETHE_")) else {
                continue;
            };
            let is = |key: &&Key| key.variable().strip_prefix("LETHE_") == Some(rest);
            if let Some(key) = KEYS.iter().find(is) {
                let said = text.to_str().map_or(Said::Other, |text| said(key, text));
                self.put(key, &said, Path::new(""), Origin::Environment);
                continue;
            }
            // Other programs, and Kubernetes for a service of this name, have variables that begin alike.
            let lower = rest.to_ascii_lowercase();
            let dotted = lower.replacen('_', ".", 1);
            let near = match nearest(&dotted, NEAR_VARIABLE) {
                near if near.is_empty() => nearest(&lower, NEAR_VARIABLE),
                near => near,
            };
            let mut sections = KEYS.iter().filter_map(Key::section).chain(["identity"]);
            if !near.is_empty() || sections.any(|s| dotted.starts_with(&format!("{s}."))) {
                self.unknown(Origin::Environment, &dotted, near);
            }
        }
    }

    fn put(&mut self, key: &'static Key, said: &Said<'_>, base: &Path, origin: Origin) {
        match key.read(said, base) {
            Some(value) => {
                self.unfit.remove(key.name);
                self.values.insert(key.name, Given { value, origin });
            }
            None => {
                self.unfit.insert(key.name);
                let expected = key.expected();
                self.problems.push(ConfigProblem::Value { origin, key: key.name, expected });
            }
        }
    }

    fn unknown(&mut self, origin: Origin, name: &str, near: Vec<&'static str>) {
        self.problems.push(ConfigProblem::Unknown { origin, key: shown(name).to_owned(), near });
    }

    pub fn given(&self, name: &str) -> Option<&Given> {
        self.values.get(name)
    }

    pub fn path(&self, name: &str) -> Option<PathBuf> {
        match &self.values.get(name)?.value {
            Value::Path(path) => Some(path.clone()),
            _ => None,
        }
    }

    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        match self.values.get(name)?.value {
            Value::Address(addr) => Some(addr),
            _ => None,
        }
    }

    pub fn word(&self, name: &str) -> Option<&str> {
        match &self.values.get(name)?.value {
            Value::Word(word) => Some(word),
            _ => None,
        }
    }

    pub fn whole(&self, name: &str) -> Option<u64> {
        match self.values.get(name)?.value {
            Value::Whole(n) => Some(n),
            _ => None,
        }
    }
}

/// In environment and flags all is text.
fn said<'a>(key: &Key, text: &'a str) -> Said<'a> {
    match key.kind {
        Kind::Whole(_) => text.parse().map_or(Said::Other, Said::Whole),
        _ => Said::Text(text),
    }
}
