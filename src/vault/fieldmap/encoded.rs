//! A field map in the form in which it was sealed: checked whole, and its values read where they lie.
//!
//! Guarantees: [`EncodedMap::parse`] accepts exactly what [`FieldMap::encode`] makes; a value is copied only when
//! somebody asks for a copy; the bytes are overwritten when the map is dropped.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use super::{
    ENTRY_HEAD_BYTES, FieldMap, FieldMapError, HEAD_BYTES, LEN_BYTES, VTYPE_BOOLEAN, VTYPE_BYTES,
    VTYPE_DATE, VTYPE_INTEGER, VTYPE_NUMBER, VTYPE_TEXT, padded_len,
};
use crate::audit::Member;
use crate::clock::UnixMillis;
use crate::crypto::SecretBytes;
use crate::id::{Day, FieldOrd, RecordId};
use crate::limits;
use crate::vault::value::Value;

/// An encoded map.
pub struct EncodedMap {
    pub subject: RecordId,
    pub member: Member,
    pub created: UnixMillis,
    pub updated: UnixMillis,
    pub used: UnixMillis,
    bytes: SecretBytes,
    /// Where its entries are.
    entries: Range<usize>,
    count: u16,
}

/// Shows how much there is, never what.
impl fmt::Debug for EncodedMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncodedMap({} fields)", self.count)
    }
}

/// A value where it lies.
#[derive(Clone, Copy)]
pub enum ValueRef<'a> {
    Text(Text<'a>),
    Integer(i64),
    Number(f64),
    Boolean(bool),
    Date(Day),
    Bytes(&'a [u8]),
}

/// A text's bytes. They were found to be UTF-8 once, and most who carry them on need not look again.
#[derive(Clone, Copy)]
pub struct Text<'a>(&'a [u8]);

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(text.as_bytes())
    }
}

impl<'a> Text<'a> {
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    pub fn as_str(self) -> &'a str {
        // Never the default: both constructors have seen that it is UTF-8.
        std::str::from_utf8(self.0).unwrap_or_default()
    }
}

impl<'a> From<&'a Value> for ValueRef<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Text(text) => Self::Text(text.as_str().into()),
            Value::Integer(n) => Self::Integer(*n),
            Value::Number(x) => Self::Number(*x),
            Value::Boolean(b) => Self::Boolean(*b),
            Value::Date(day) => Self::Date(*day),
            Value::Bytes(bytes) => Self::Bytes(bytes),
        }
    }
}

impl ValueRef<'_> {
    pub fn to_value(self) -> Value {
        match self {
            Self::Text(text) => Value::Text(text.as_str().to_owned()),
            Self::Integer(n) => Value::Integer(n),
            Self::Number(x) => Value::Number(x),
            Self::Boolean(b) => Value::Boolean(b),
            Self::Date(day) => Value::Date(day),
            Self::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
        }
    }

    /// Bytes that the value takes in a field map, without its header.
    pub fn encoded_len(self) -> usize {
        match self {
            Self::Text(text) => text.0.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Integer(_) | Self::Number(_) => 8,
            Self::Date(_) => 4,
            Self::Boolean(_) => 1,
        }
    }
}

impl EncodedMap {
    /// The map that `at` of these bytes is the encoding of.
    pub fn parse(bytes: SecretBytes, at: Range<usize>) -> Result<Self, FieldMapError> {
        let whole = bytes.get(at.clone()).ok_or(FieldMapError::Truncated)?;
        let mut all = Reader(whole);
        let len = usize::try_from(u32::from_be_bytes(all.array()?))
            .map_err(|_| FieldMapError::RecordTooLarge)?;
        if len > HEAD_BYTES + limits::FIELDS_MAX * ENTRY_HEAD_BYTES + limits::RECORD_BYTES_MAX {
            return Err(FieldMapError::RecordTooLarge);
        }
        let mut body = Reader(all.take(len)?);
        if whole.len() != padded_len(LEN_BYTES + len) {
            return Err(FieldMapError::PaddedLength);
        }
        if all.0.iter().any(|b| *b != 0) {
            return Err(FieldMapError::Padding);
        }
        let subject = RecordId(body.array()?);
        let member = Member { subject: body.array()?, record: body.array()? };
        let created = UnixMillis(i64::from_be_bytes(body.array()?));
        let updated = UnixMillis(i64::from_be_bytes(body.array()?));
        let used = UnixMillis(i64::from_be_bytes(body.array()?));
        let count = u16::from_be_bytes(body.array()?);
        if usize::from(count) > limits::FIELDS_MAX {
            return Err(FieldMapError::TooManyFields);
        }
        check_entries(body, count)?;
        let start = at.start + LEN_BYTES + HEAD_BYTES;
        let entries = start..at.start + LEN_BYTES + len;
        Ok(Self { subject, member, created, updated, used, bytes, entries, count })
    }

    /// A map in its encoded form.
    pub fn of(map: &FieldMap) -> Result<Self, FieldMapError> {
        let bytes = map.encode()?;
        let whole = 0..bytes.len();
        Self::parse(bytes, whole)
    }

    /// How many fields it has.
    pub fn count(&self) -> usize {
        self.count.into()
    }

    /// How many bytes it keeps in memory.
    pub fn kept_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// The same with some of its fields alone, and nothing else of it in memory.
    pub fn only(&self, keep: impl Fn(FieldOrd) -> bool) -> Result<Self, FieldMapError> {
        let kept = self.iter().filter(|(ord, _)| keep(*ord));
        let fields = kept.map(|(ord, value)| (ord, value.to_value())).collect();
        Self::of(&self.with(fields))
    }

    /// Its fields, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (FieldOrd, ValueRef<'_>)> {
        let mut body = Reader(self.bytes.get(self.entries.clone()).unwrap_or_default());
        // `parse` has been through them: none is refused.
        (0..self.count).map_while(move |_| entry(&mut body).ok())
    }

    pub fn get(&self, field: FieldOrd) -> Option<ValueRef<'_>> {
        self.iter().find(|(ord, _)| *ord == field).map(|(_, value)| value)
    }

    /// Its values on their own.
    pub fn to_map(&self) -> FieldMap {
        self.with(self.iter().map(|(ord, value)| (ord, value.to_value())).collect())
    }

    /// Its head with these fields.
    fn with(&self, fields: BTreeMap<FieldOrd, Value>) -> FieldMap {
        let Self { subject, member, created, updated, used, .. } = *self;
        FieldMap { subject, member, created, updated, used, fields }
    }
}

fn check_entries(mut body: Reader<'_>, count: u16) -> Result<(), FieldMapError> {
    let (mut last, mut values) = (None, 0);
    for _ in 0..count {
        let (ord, value) = entry(&mut body)?;
        if let ValueRef::Text(text) = value {
            std::str::from_utf8(text.0).map_err(|_| FieldMapError::Utf8)?;
        }
        if last.is_some_and(|last| last >= ord) {
            return Err(FieldMapError::Order);
        }
        last = Some(ord);
        // No overflow: they lie one after the other in memory.
        values += value.encoded_len();
    }
    if !body.0.is_empty() {
        return Err(FieldMapError::TrailingBytes);
    }
    if values > limits::RECORD_BYTES_MAX {
        return Err(FieldMapError::RecordTooLarge);
    }
    Ok(())
}

/// The next entry. Whether a text is UTF-8 is not looked at here.
fn entry<'a>(body: &mut Reader<'a>) -> Result<(FieldOrd, ValueRef<'a>), FieldMapError> {
    let ord = FieldOrd(u16::from_be_bytes(body.array()?));
    let [vtype] = body.array()?;
    let len = usize::try_from(u32::from_be_bytes(body.array()?))
        .map_err(|_| FieldMapError::ValueTooLarge)?;
    if len > limits::VALUE_BYTES_MAX {
        return Err(FieldMapError::ValueTooLarge);
    }
    let bytes = body.take(len)?;
    let value = match vtype {
        VTYPE_TEXT => ValueRef::Text(Text(bytes)),
        VTYPE_INTEGER => ValueRef::Integer(i64::from_be_bytes(fixed(bytes)?)),
        VTYPE_NUMBER => ValueRef::Number(f64::from_bits(u64::from_be_bytes(fixed(bytes)?))),
        VTYPE_BOOLEAN => match fixed(bytes)? {
            [0] => ValueRef::Boolean(false),
            [1] => ValueRef::Boolean(true),
            [_] => return Err(FieldMapError::Boolean),
        },
        VTYPE_DATE => ValueRef::Date(Day(i32::from_be_bytes(fixed(bytes)?))),
        VTYPE_BYTES => ValueRef::Bytes(bytes),
        _ => return Err(FieldMapError::ValueType),
    };
    Ok((ord, value))
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], FieldMapError> {
    bytes.try_into().map_err(|_| FieldMapError::ValueLength)
}

/// What is left of the input.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], FieldMapError> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(FieldMapError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FieldMapError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(FieldMapError::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }
}
