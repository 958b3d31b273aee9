//! A record in an answer, encoded straight from the version that was opened.
//!
//! A message with a map of values in it would be built, measured and taken apart again for each record; this is the
//! same bytes in one pass (proto/lethe/v1/record.proto, message `Record`).
//!
//! Guarantee: what it holds decodes as `lethe.v1.Record`, field by field as the view says.

use std::fmt;

use prost::bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType, encoded_len_varint, skip_field};
use prost::{DecodeError, Message};

use super::{convert, names};
use crate::vault::RecordView;
use crate::vault::fieldmap::ValueRef;

/// What a record takes beside its fields, roughly.
const HEAD_BYTES: usize = 512;

/// An encoded `lethe.v1.Record`.
#[derive(Clone, Default, PartialEq)]
pub struct Shown(Bytes);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown(not shown)")
    }
}

/// Numbers of the fields of `Record`, of the entries of its map, and of `Value`.
mod number {
    pub const NAME: u32 = 1;
    pub const SCHEMA: u32 = 2;
    pub const SUBJECT: u32 = 3;
    pub const FIELDS: u32 = 4;
    pub const ETAG: u32 = 5;
    pub const CREATE_TIME: u32 = 6;
    pub const UPDATE_TIME: u32 = 7;
    pub const EXPIRE_DATE: u32 = 8;

    pub const KEY: u32 = 1;
    pub const VALUE: u32 = 2;

    pub const STRING: u32 = 1;
    pub const INTEGER: u32 = 2;
    pub const DOUBLE: u32 = 3;
    pub const BOOL: u32 = 4;
    pub const BYTES: u32 = 5;
}

impl Shown {
    pub fn new(tenant: &str, view: &RecordView) -> Self {
        let mut out = Out(Vec::with_capacity(HEAD_BYTES + view.fields.room()));
        let (mut id, mut subject) = ([0; 36], [0; 36]);
        let names = [
            (number::NAME, names::RECORDS, view.id.encode(&mut id)),
            (number::SCHEMA, names::SCHEMAS, view.rtype().as_str()),
            (number::SUBJECT, names::SUBJECTS, view.subject.encode(&mut subject)),
        ];
        for (at, collection, id) in names {
            out.text(at, &names::pieces(tenant, collection, id));
        }
        for (name, value) in view.fields.iter() {
            out.field(name, value);
        }
        out.text(number::ETAG, &[view.version.0.to_string().as_str()]);
        for (at, time) in [(number::CREATE_TIME, view.created), (number::UPDATE_TIME, view.updated)]
        {
            prost::encoding::message::encode(at, &convert::timestamp(time), &mut out.0);
        }
        out.text(number::EXPIRE_DATE, &[convert::date(view.expires).as_str()]);
        Self(out.0.into())
    }
}

/// Where a record is written to. Keys are those of fields below 16, so each is one byte.
struct Out(Vec<u8>);

impl Out {
    fn key(&mut self, at: u32, kind: WireType) {
        self.varint(u64::from(at << 3 | kind as u32));
    }

    /// Seven bits a byte, the lowest first, and a bit that says that more follow.
    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    fn bytes(&mut self, at: u32, bytes: &[u8]) {
        self.key(at, WireType::LengthDelimited);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// A text in pieces. One that is empty is left out, as proto3 has it.
    fn text(&mut self, at: u32, pieces: &[&str]) {
        let len = pieces.iter().map(|p| p.len()).sum::<usize>();
        if len > 0 {
            self.key(at, WireType::LengthDelimited);
            self.varint(len as u64);
            pieces.iter().for_each(|p| self.0.extend_from_slice(p.as_bytes()));
        }
    }

    /// An entry of the map: `{1: name, 2: {kind: value}}`. The kinds of a `oneof` are there also with the value that
    /// other fields leave out.
    fn field(&mut self, name: &str, value: ValueRef<'_>) {
        match value {
            ValueRef::Text(text) => {
                let text = text.as_bytes();
                self.entry(name, with_length(text.len()));
                self.bytes(number::STRING, text);
            }
            ValueRef::Bytes(bytes) => {
                self.entry(name, with_length(bytes.len()));
                self.bytes(number::BYTES, bytes);
            }
            // A date travels as text.
            ValueRef::Date(day) => {
                let text = convert::date(day);
                self.entry(name, with_length(text.len()));
                self.bytes(number::STRING, text.as_bytes());
            }
            ValueRef::Integer(n) => {
                self.entry(name, encoded_len_varint(n as u64));
                self.key(number::INTEGER, WireType::Varint);
                self.varint(n as u64);
            }
            ValueRef::Number(x) => {
                self.entry(name, 8);
                self.key(number::DOUBLE, WireType::SixtyFourBit);
                self.0.extend_from_slice(&x.to_le_bytes());
            }
            ValueRef::Boolean(b) => {
                self.entry(name, 1);
                self.key(number::BOOL, WireType::Varint);
                self.varint(b.into());
            }
        }
    }

    /// An entry up to its value, of which so many bytes follow after a key of one byte.
    fn entry(&mut self, name: &str, value: usize) {
        let value = 1 + value;
        self.key(number::FIELDS, WireType::LengthDelimited);
        self.varint((1 + with_length(name.len()) + 1 + with_length(value)) as u64);
        self.bytes(number::KEY, name.as_bytes());
        self.key(number::VALUE, WireType::LengthDelimited);
        self.varint(value as u64);
    }
}

/// Bytes of a length and of what it is the length of.
fn with_length(len: usize) -> usize {
    encoded_len_varint(len as u64) + len
}

/// Answers are only encoded; what is decoded into one is passed over.
impl Message for Shown {
    fn encode_raw(&self, out: &mut impl BufMut) {
        out.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        from: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        skip_field(wire_type, tag, from, context)
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::authz::{CreateRecord, ReadRecord};
    use crate::class::{Classification, FieldKind, Role};
    use crate::proto::v1;
    use crate::store::Memory;
    use crate::vault::schema::{FieldDraft, RetentionDraft, SchemaDraft};
    use crate::vault::slug::Slug;
    use crate::vault::testing::{permit, vault_on, visited};
    use crate::vault::value::Value;
    use crate::vault::{NewRecord, ReadSpec, Vault};

    const KINDS: [FieldKind; 6] = [
        FieldKind::Text,
        FieldKind::Integer,
        FieldKind::Number,
        FieldKind::Boolean,
        FieldKind::Date,
        FieldKind::Bytes,
    ];

    async fn furnished(dir: &std::path::Path) -> Vault {
        let vault = vault_on(dir, Arc::new(Memory::new()));
        visited(&vault, "shop").await;
        let field = |n: usize| FieldDraft {
            name: format!("f{n}"),
            kind: Some(KINDS[n % KINDS.len()]),
            class: Some(Classification::General),
            max_bytes: if matches!(KINDS[n % KINDS.len()], FieldKind::Text | FieldKind::Bytes) {
                100_000
            } else {
                0
            },
            ..FieldDraft::default()
        };
        let draft = SchemaDraft {
            type_name: "all".into(),
            fields: (0..30).map(field).collect(),
            retention: Some(RetentionDraft::RetainFor("P1D".into())),
            erase_old_versions_synchronously: false,
        };
        let operator = permit(Role::Operator, Some("shop"));
        vault.create_schema(&operator, "shop", draft).await.unwrap();
        vault
    }

    /// The sizes at which a length takes one byte more, and the values that proto3 leaves out where it can.
    fn values() -> Vec<Value> {
        let text = |len: usize| {
            Value::Text("\u{e9}".repeat(len / 2) + if len % 2 == 1 { "x" } else { "" })
        };
        let bytes = |len| Value::Bytes(vec![7; len]);
        let date = |text: &str| Value::Text(text.into());
        let (t, f) = (Value::Boolean(true), Value::Boolean(false));
        let rows = [
            (text(0), 0, 0.0, f.duplicate(), "1970-01-01", bytes(0)),
            (text(1), -1, -0.5, t.duplicate(), "0001-01-01", bytes(1)),
            (text(127), 127, f64::MAX, t, "2026-11-23", bytes(113)),
            (text(128), 128, 1e-300, f.duplicate(), "9999-12-31", bytes(128)),
            (text(16_384), i64::MIN, 3.0, f, "2000-02-29", bytes(70_000)),
        ];
        let row = |(a, b, c, d, e, f)| {
            [a, Value::Integer(b), Value::Number(c), d, date(e), f].into_iter()
        };
        rows.into_iter().flat_map(row).collect()
    }

    #[tokio::test]
    async fn it_decodes_as_the_record_that_the_view_shows() {
        let dir = tempfile::tempdir().unwrap();
        let vault = furnished(dir.path()).await;
        let given = || (0..).map(|n| format!("f{n}")).zip(values());
        let slug = |text| Slug::parse(text).unwrap();
        let new = NewRecord {
            rtype: slug("all"),
            subject: None,
            fields: given().collect(),
            request: None,
        };
        let app = permit::<CreateRecord>(Role::Application, Some("shop"));
        let created = vault.create_record(&app, "shop", new).await.unwrap();
        let app = permit::<ReadRecord>(Role::Application, Some("shop"));
        let read = vault.get_record(&app, "shop", created.id, &ReadSpec::default()).unwrap();
        let one = ReadSpec { fields: Some([("f7".into(), 0)].into()), purpose: None };
        let part = vault.get_record(&app, "shop", created.id, &one).unwrap();
        for (view, count) in [(&created, 30), (&read, 30), (&part, 1)] {
            let shown = Shown::new("shop", view);
            assert_eq!(shown.encoded_len(), shown.encode_to_vec().len());
            let got = v1::Record::decode(shown.encode_to_vec().as_slice()).unwrap();
            assert_eq!(got.name, format!("tenants/shop/records/{}", view.id));
            assert_eq!(got.schema, "tenants/shop/schemas/all");
            assert_eq!(got.subject, format!("tenants/shop/subjects/{}", view.subject));
            assert_eq!(got.etag, "1");
            assert_eq!(got.create_time, Some(convert::timestamp(view.created)));
            assert_eq!(got.update_time, Some(convert::timestamp(view.updated)));
            assert_eq!(got.expire_date, convert::date(view.expires));
            assert_eq!(got.fields.len(), count);
            for (name, value) in given().filter(|(name, _)| count == 30 || name == "f7") {
                // A date is told as it was given, as text.
                let expected = convert::value_out(value);
                assert!(got.fields[&name] == expected, "{name}");
            }
            // Nothing in it is there twice, or in a form that another encoder would not choose.
            let mut again: Vec<u8> = Vec::new();
            got.encode(&mut again).unwrap();
            assert_eq!(again.len(), shown.encoded_len());
        }
    }

    #[tokio::test]
    async fn its_debug_shows_nothing_and_what_is_decoded_into_it_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let vault = furnished(dir.path()).await;
        let fields = [("f0".to_owned(), Value::Text("canary".into()))].into();
        let rtype = Slug::parse("all").unwrap();
        let new = NewRecord { rtype, subject: None, fields, request: None };
        let app = permit::<CreateRecord>(Role::Application, Some("shop"));
        let view = vault.create_record(&app, "shop", new).await.unwrap();
        let shown = Shown::new("shop", &view);
        assert!(!format!("{shown:?}").contains("canary"));
        let mut other = Shown::decode(shown.encode_to_vec().as_slice()).unwrap();
        assert_eq!(other, Shown::default());
        other.clone_from(&shown);
        other.clear();
        assert_eq!(other.encoded_len(), 0);
    }
}
