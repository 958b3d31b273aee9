//! Says in JSON what was opened, what stayed sealed, and where a plaintext was seen.

use crate::closure::{Closure, Sealed, Version};
use crate::crypto::{Key, index_token};
use crate::encoding::{hex, parse_uuid, uuid};
use crate::fieldmap::Field;
use crate::find::{Finder, Sightings};
use crate::format::{ImportRow, RequestRow, kek_id};
use crate::inputs::FoundAnchor;
use crate::path::{kid_tenant, kind_name};
use crate::scan::{Rows, Totals};
use crate::sweep::Sweep;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Field ordinals for which an index token of a searched text is computed.
const TOKEN_FIELDS: u16 = 64;

/// Everything that a run of `open` has found out.
pub struct Outcome<'a> {
    pub rows: &'a Rows,
    pub totals: Totals,
    pub keks: &'a [Key],
    pub anchors: &'a [FoundAnchor],
    pub closure: &'a Closure<'a>,
    pub versions: &'a [Version],
    pub sealed: &'a [Sealed],
    pub finder: &'a Finder,
    pub clear: &'a Sightings,
    pub sweep: Option<&'a Sweep<'a>>,
    pub with_values: bool,
    /// Guesses of what a request asked for, by the name that the report gives them.
    pub asked: &'a [(String, Vec<u8>)],
}

/// Where one searched text stands in what was opened.
#[derive(Default)]
struct Hits {
    fields: Vec<Value>,
    plaintexts: BTreeMap<&'static str, u64>,
}

impl Outcome<'_> {
    /// The report, and whether any searched text was found.
    pub fn json(&self) -> (Value, bool) {
        let finds = self.finds();
        let found = finds.iter().any(|f| f.get("found") == Some(&Value::Bool(true)));
        let records: Vec<Value> = self.versions.iter().map(|v| self.version(v)).collect();
        let sealed: Vec<Value> = self
            .sealed
            .iter()
            .map(|s| {
                json!({"record": uuid(&s.record), "rec_ver": s.rec_ver, "kid": hex(&s.kid),
                    "tenant": kid_tenant(&s.kid), "rows": s.rows})
            })
            .collect();
        let report = json!({
            "history": {"writes": self.totals.writes, "bytes": self.totals.bytes,
                "truncated": self.totals.truncated},
            "rows_found": self.rows.counts.iter()
                .map(|(kind, n)| (kind.name().to_owned(), json!(n))).collect::<Map<_, _>>(),
            "kek_ids": self.keks.iter().map(|k| hex(&kek_id(k))).collect::<Vec<_>>(),
            "anchors": self.anchors.iter().map(anchor_json).collect::<Vec<_>>(),
            "nodes": self.nodes(),
            "deks": self.closure.deks,
            "receipt_keys": self.receipt_keys(),
            "records": records,
            "sealed_records": sealed,
            "index_entries": self.closure.index.iter().map(|(token, kid)|
                json!({"token": hex(token), "kid": hex(kid)})).collect::<Vec<_>>(),
            "metadata": self.metadata(),
            "audit": self.audit(),
            "requests": self.requests(),
            "imports": self.imports(),
            "find": finds,
            "found": found,
            "sweep": self.sweep.map(Sweep::json),
            "format_warnings": self.warnings(),
        });
        (report, found)
    }

    fn version(&self, v: &Version) -> Value {
        let map = v.map.as_ref();
        let field = |f: &Field| {
            let mut out = json!({"field": f.field, "vtype": f.vtype, "len": f.value.len()});
            if let (true, Some(object)) = (self.with_values, out.as_object_mut()) {
                object.insert("value_hex".into(), hex(&f.value).into());
                if let (1, Ok(text)) = (f.vtype, std::str::from_utf8(&f.value)) {
                    object.insert("text".into(), text.into());
                }
            }
            out
        };
        json!({
            "tenant": kid_tenant(&v.kid),
            "record": uuid(&v.record),
            "rec_ver": v.rec_ver,
            "kid": hex(&v.kid),
            "type": v.type_,
            "schema": v.schema,
            "chunks": v.chunks,
            "complete": v.complete,
            "subject": map.map(|m| uuid(&m.subject)),
            "created": map.map(|m| m.created),
            "updated": map.map(|m| m.updated),
            "used": map.map(|m| m.used),
            "fields": map.map(|m| m.fields.iter().map(field).collect::<Vec<_>>()),
        })
    }

    fn nodes(&self) -> Value {
        let counts = self.closure.node_counts();
        let entry = |(kind, (opened, all)): (&u8, &(u64, u64))| {
            (kind_name(*kind).to_owned(), json!({"opened": opened, "distinct": all}))
        };
        Value::Object(counts.iter().map(entry).collect())
    }

    /// Public halves of the signing keys that the root heads gave.
    fn receipt_keys(&self) -> Vec<String> {
        let seeds = self.closure.signing_seeds.iter();
        seeds
            .map(|s| hex(ed25519_dalek::SigningKey::from_bytes(s).verifying_key().as_bytes()))
            .collect()
    }

    /// Whom the audit log names to someone who has the keys that were opened; and how many it does not.
    fn audit(&self) -> Value {
        let (mut subjects, mut records) = (BTreeMap::new(), BTreeMap::new());
        for (version, map) in self.versions.iter().filter_map(|v| Some((v, v.map.as_ref()?))) {
            subjects.insert(map.subject_ref, uuid(&map.subject));
            records.insert(map.record_ref, uuid(&version.record));
        }
        records.remove(&[0; 16]);
        let (mut named, mut unnamed) = (Vec::new(), 0u64);
        for entry in &self.rows.entries {
            for (subject, record) in entry.members.iter().filter(|m| m.0 != [0; 16]) {
                let (subject, record) = (subjects.get(subject), records.get(record));
                match subject.or(record) {
                    Some(_) => named.push(json!({"seq": entry.seq, "act": entry.act,
                        "subject": subject, "record": record})),
                    None => unnamed += 1,
                }
            }
        }
        json!({"named": named, "unnamed": unnamed})
    }

    fn metadata(&self) -> Vec<Value> {
        let row = |m: crate::closure::OpenedMeta| {
            let text = String::from_utf8_lossy(&m.json).into_owned();
            json!({"tenant": m.tenant, "mkind": m.mkind, "id": m.id, "rev": m.rev,
                "json": self.with_values.then_some(text)})
        };
        self.closure.opened_metas().into_iter().map(row).collect()
    }

    fn requests(&self) -> Vec<Value> {
        let row = |r: &RequestRow| {
            let fits = self.asked.iter().filter(|(_, asked)| self.closure.confirms(r, asked));
            json!({"tenant": kid_tenant(&r.kid), "op": r.op, "written": r.written, "record": uuid(&r.record),
                "rec_ver": r.rec_ver, "kid": hex(&r.kid),
                "confirms": fits.map(|(name, _)| name).collect::<Vec<_>>()})
        };
        self.rows.requests.iter().map(row).collect()
    }

    fn imports(&self) -> Vec<Value> {
        let row = |i: &ImportRow| {
            let records: Vec<_> = i.records.iter().map(|r| r.as_ref().map(uuid)).collect();
            json!({"written": i.written, "first": i.first, "records": records})
        };
        self.rows.imports.iter().map(row).collect()
    }

    /// What is known of each searched text. One pass over the plaintexts serves all of them.
    fn finds(&self) -> Vec<Value> {
        let mut hits: Vec<Hits> = self.finder.needles().iter().map(|_| Hits::default()).collect();
        let mut note = |bytes: &[u8], what: &dyn Fn(&mut Hits)| {
            for needle in self.finder.occurs(bytes) {
                hits.get_mut(needle).into_iter().for_each(what);
            }
        };
        for (kind, plain) in self.closure.plaintexts() {
            note(plain, &|h| *h.plaintexts.entry(kind).or_default() += 1);
        }
        for found in self.anchors {
            note(&found.anchor.payload, &|h| *h.plaintexts.entry("anchor").or_default() += 1);
        }
        for v in self.versions {
            // Counted once more as a whole, for a text that lies across two chunks.
            note(&v.plain, &|h| *h.plaintexts.entry("record_version").or_default() += 1);
            for f in v.map.iter().flat_map(|m| &m.fields) {
                note(&f.value, &|h| {
                    h.fields.push(json!({"record": uuid(&v.record), "rec_ver": v.rec_ver,
                        "kid": hex(&v.kid), "field": f.field}));
                });
            }
        }
        hits.into_iter().enumerate().map(|(needle, h)| self.find(needle, h)).collect()
    }

    fn find(&self, needle: usize, hits: Hits) -> Value {
        let Hits { fields, plaintexts } = hits;
        let seen = self.clear.iter().filter(|((n, _), _)| *n == needle);
        let clear: Vec<Value> = seen
            .map(|((_, encoding), s)| json!({"encoding": encoding, "source": s.source, "offset": s.offset}))
            .collect();
        let text = self.finder.needles().get(needle).map(String::as_str).unwrap_or_default();
        let tokens = self.token_hits(text);
        let found = !(plaintexts.is_empty() && clear.is_empty() && tokens.is_empty());
        json!({"text": text, "found": found, "fields": fields, "plaintexts": plaintexts, "clear": clear,
            "index_tokens": tokens})
    }

    /// Opened index entries that confirm a guess of `text`: a token is as good as the value, for who can guess.
    fn token_hits(&self, text: &str) -> Vec<Value> {
        let types: BTreeSet<u16> = self.rows.records.iter().map(|r| r.type_).chain([0]).collect();
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        let mut guesses: BTreeSet<Vec<u8>> =
            [text, text.trim(), &text.to_lowercase(), &text.to_uppercase(), &digits]
                .map(|t| t.as_bytes().to_vec())
                .into();
        guesses.extend(parse_uuid(text).map(|id| id.to_vec()));
        guesses.remove([].as_slice());
        let mut hits = Vec::new();
        for (tenant, key) in &self.closure.index_keys {
            for (type_, field) in types.iter().flat_map(|t| (0..TOKEN_FIELDS).map(|f| (*t, f))) {
                for guess in &guesses {
                    let token = index_token(key, type_, field, guess);
                    let named = self.closure.index.range((token, [0; 10])..=(token, [255; 10]));
                    let own = named.filter(|(_, kid)| kid_tenant(kid) == *tenant);
                    hits.extend(
                        own.map(|(_, kid)| json!({"type": type_, "field": field, "kid": hex(kid)})),
                    );
                }
            }
        }
        hits
    }

    fn warnings(&self) -> Vec<String> {
        let maps =
            self.versions.iter().filter(|v| v.complete).filter_map(|v| Some((v, v.map.as_ref()?)));
        let of_maps = maps.flat_map(|(v, m)| {
            m.warnings
                .iter()
                .map(|w| format!("record {} version {}: {w}", uuid(&v.record), v.rec_ver))
        });
        self.closure.warnings.iter().cloned().chain(of_maps.take(100)).collect()
    }
}

fn anchor_json(found: &FoundAnchor) -> Value {
    let a = &found.anchor;
    json!({"source": found.source, "vault": hex(&a.vault), "slot": a.slot, "gen": a.gen_, "refresh": a.refresh,
        "root_ver": format!("{:016x}", a.root_ver), "ledger_size": a.ledger_size,
        "ledger_root": hex(&a.ledger_root), "batch_hash": hex(&a.batch_hash), "audit_size": a.audit_size,
        "audit_head": hex(&a.audit_head), "store_seq": a.store_seq, "wall_ms": a.wall_ms,
        "kek_since_ms": a.kek_since_ms, "clean": a.clean})
}
