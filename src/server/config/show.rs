//! `lethed config show` and `lethed config schema`: what is in force and from where, and what a file may say.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value as Json, json};

use super::Draft;
use super::keys::{Absent, KEYS, Kind};
use super::problem::Origin;

impl Draft {
    /// Key, value and origin of each key that has one; without `all` only of those that were given. No key holds a
    /// secret: they name where secrets lie.
    pub fn rows(&self, all: bool) -> Vec<(&'static str, String, String)> {
        let given = KEYS.iter().filter_map(|key| Some((key, self.gathered.given(key.name)?)));
        let shown = given.filter(|(_, given)| all || given.origin != Origin::Default);
        let rows = shown.map(|(key, given)| {
            let origin = match given.origin {
                Origin::Environment => format!("environment, {}", key.variable()),
                origin => origin.to_string(),
            };
            (key.name, given.value.to_string(), origin)
        });
        rows.collect()
    }

    pub fn text(&self, all: bool) -> String {
        let mut text = String::new();
        for (key, value, origin) in self.rows(all) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{key} = {value}  # {origin}");
        }
        for identity in &self.gathered.identities {
            let tenants = identity.tenants.join(", ");
            let role = json!(identity.role);
            let role = role.as_str().unwrap_or_default();
            let _ = writeln!(text, "identity {} = {role} of {tenants}  # file", identity.uri);
        }
        text
    }

    pub fn json(&self, all: bool) -> Json {
        let keys = self.rows(all).into_iter();
        let keys: Vec<_> =
            keys.map(|(k, v, o)| json!({"key": k, "value": v, "origin": o})).collect();
        let identities = self.gathered.identities.iter().map(|identity| {
            json!({"uri": identity.uri, "role": identity.role, "tenants": identity.tenants, "clear": identity.clear})
        });
        let identities: Vec<_> = identities.collect();
        json!({"keys": keys, "identities": identities})
    }
}

/// The section of which one key of two is given.
const KEK: &str = "kek";

/// JSON Schema (draft 2020-12) of the file, from the table of keys.
pub fn schema() -> Json {
    let mut root = Map::new();
    let mut sections: BTreeMap<&str, (Map<String, Json>, Vec<&str>)> = BTreeMap::new();
    let mut required = vec![json!("identity"), json!(KEK)];
    for key in KEYS {
        let mut node = match key.kind {
            Kind::Address | Kind::Path | Kind::Word => json!({"type": "string", "minLength": 1}),
            Kind::Choice(all) => json!({"enum": all}),
            Kind::Whole(max) => json!({"type": "integer", "minimum": 1, "maximum": max}),
        };
        if let Some(node) = node.as_object_mut() {
            node.insert("description".into(), key.about.into());
            match key.absent {
                Absent::Word(word) => drop(node.insert("default".into(), word.into())),
                Absent::Whole(n) => drop(node.insert("default".into(), n.into())),
                Absent::Refused | Absent::Otherwise(_) => {}
            }
        }
        let needed = key.absent == Absent::Refused;
        match key.name.split_once('.') {
            None => {
                root.insert(key.name.into(), node);
                required.extend(needed.then(|| json!(key.name)));
            }
            Some((section, name)) => {
                let (properties, names) = sections.entry(section).or_default();
                properties.insert(name.into(), node);
                names.extend(needed.then_some(name));
                if needed && !required.contains(&json!(section)) {
                    required.push(section.into());
                }
            }
        }
    }
    for (section, (properties, names)) in sections {
        let mut node = json!({
            "type": "object",
            "additionalProperties": false,
            "properties": properties,
            "required": names,
        });
        if let (KEK, Some(node)) = (section, node.as_object_mut()) {
            let one_of = json!([{"required": ["file"]}, {"required": ["credential"]}]);
            node.insert("oneOf".into(), one_of);
        }
        root.insert(section.into(), node);
    }
    root.insert("identity".into(), identity_schema());
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "lethed.toml",
        "type": "object",
        "additionalProperties": false,
        "properties": root,
        "required": required,
    })
}

fn identity_schema() -> Json {
    let classes = ["PUBLIC", "GENERAL", "SENSITIVE"];
    json!({
        "type": "array",
        "minItems": 1,
        "maxItems": crate::limits::IDENTITIES_MAX,
        "description": "Who may do what.",
        "items": {
            "type": "object",
            "additionalProperties": false,
            "required": ["uri", "role", "tenants"],
            "properties": {
                "uri": {"type": "string", "pattern": "^spiffe://[a-z0-9._-]+/.+$"},
                "role": {"enum": ["application", "operator", "auditor"]},
                "tenants": {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
                "clear": {"type": "array", "items": {"enum": classes}},
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Sources;
    use super::*;

    #[test]
    fn each_value_is_shown_with_its_origin_and_a_default_only_when_asked_for() {
        let sources = Sources {
            environment: vec![("LETHE_DATA".into(), "/there".into())],
            flags: vec![("store.engine".into(), "sled".into())],
        };
        let text = include_str!("../../../keys-example/lethed.toml");
        let text = text.replace("handshake_secs = 5\n", "");
        let draft = Draft::read(&text, Path::new("/conf"), &sources);
        assert_eq!(draft.problems, []);
        let said = draft.text(true);
        for line in [
            "data = /there  # environment, LETHE_DATA\n",
            "store.engine = sled  # flag\n",
            "limits.handshake_secs = 5  # default\n",
            "tls.cert = /conf/pki/server.pem  # line ",
            "identity spiffe://example.internal/operator = operator of *  # file\n",
        ] {
            assert!(said.contains(line), "{line}: {said}");
        }
        assert!(!draft.text(false).contains("handshake_secs"));
        let json = draft.json(true);
        assert_eq!(
            json["keys"].as_array().map(Vec::len),
            Some(KEYS.len() - 2),
            "but kek.credential and witness.keys"
        );
        assert_eq!(json["identities"][0]["role"], "application");
    }

    #[test]
    fn the_schema_has_every_key_with_its_bounds() {
        let schema = schema();
        for key in KEYS {
            let node = match key.name.split_once('.') {
                None => &schema["properties"][key.name],
                Some((section, name)) => &schema["properties"][section]["properties"][name],
            };
            assert_eq!(node["description"], key.about, "{}", key.name);
        }
        assert_eq!(schema["properties"]["limits"]["properties"]["deadline_secs"]["maximum"], 60);
        let required = ["identity", "kek", "listen", "data", "tls"].map(Json::from);
        assert_eq!(schema["required"].as_array().unwrap().as_slice(), required);
    }
}
