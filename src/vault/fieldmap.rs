//! The plaintext of a record: subject, times and fields, padded (docs/FORMAT.md §5.1).
//!
//! Guarantees: one map has one encoding, and [`EncodedMap::parse`] accepts only that one: lengths,
//! order, types, UTF-8 and padding are all checked. Decoding is total, and allocates in proportion to
//! the input's own size. The padded length tells nothing finer than a step of 64 bytes, or of Padmé
//! above 1,024. Buffers are overwritten when dropped.

mod encoded;

pub use encoded::{EncodedMap, Text, ValueRef};

use std::collections::BTreeMap;
use std::fmt;

use super::value::Value;
use crate::audit::Member;
use crate::clock::UnixMillis;
use crate::crypto::SecretBytes;
use crate::id::{FieldOrd, RecordId};
use crate::limits;

/// `subject[16] | subject_ref[16] | record_ref[16] | created i64 | updated i64 | used i64 | count u16`.
const HEAD_BYTES: usize = 74;
/// `field u16 | vtype u8 | len u32`.
const ENTRY_HEAD_BYTES: usize = 7;
/// The `len u32` before the body.
const LEN_BYTES: usize = 4;
/// Up to here padding goes in fixed steps.
const STEPPED_BYTES_MAX: usize = 1_024;
const STEP_BYTES: usize = 64;

const VTYPE_TEXT: u8 = 1;
const VTYPE_INTEGER: u8 = 2;
const VTYPE_NUMBER: u8 = 3;
const VTYPE_BOOLEAN: u8 = 4;
const VTYPE_DATE: u8 = 5;
const VTYPE_BYTES: u8 = 6;

/// What a record's ciphertext holds.
pub struct FieldMap {
    pub subject: RecordId,
    /// What stands for it in the audit log: random, and nowhere else tied to it. The subject's half is in each of its
    /// records and dies with the last of them, the record's in all of its versions.
    pub member: Member,
    pub created: UnixMillis,
    pub updated: UnixMillis,
    /// When it was last read or changed, as far as a retention policy asks for that; else when it was last changed.
    pub used: UnixMillis,
    pub fields: BTreeMap<FieldOrd, Value>,
}

impl PartialEq for FieldMap {
    fn eq(&self, other: &Self) -> bool {
        (self.subject, self.created, self.updated) == (other.subject, other.created, other.updated)
            && (self.used, self.member) == (other.used, other.member)
            && self.fields == other.fields
    }
}

/// Shows how much there is, never what.
impl fmt::Debug for FieldMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FieldMap({} fields)", self.fields.len())
    }
}

/// Why a map cannot be encoded, or bytes are not the encoding of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldMapError {
    #[error("the field map ends too early")]
    Truncated,
    #[error("the field map's length is not the padded length of its body")]
    PaddedLength,
    #[error("the field map's padding is not zero")]
    Padding,
    #[error("the field map's body has bytes after its last field")]
    TrailingBytes,
    #[error("a record has at most {} fields", limits::FIELDS_MAX)]
    TooManyFields,
    #[error("a record's values have at most {} bytes together", limits::RECORD_BYTES_MAX)]
    RecordTooLarge,
    #[error("a field's value has at most {} bytes", limits::VALUE_BYTES_MAX)]
    ValueTooLarge,
    #[error("the field map's fields are not in strictly ascending order")]
    Order,
    #[error("the field map has a value of an unknown type")]
    ValueType,
    #[error("the field map has a value whose length does not fit its type")]
    ValueLength,
    #[error("the field map has a boolean that is neither 0 nor 1")]
    Boolean,
    #[error("the field map has a text that is not UTF-8")]
    Utf8,
}

impl FieldMap {
    /// `len u32 | body | zeros`, of exactly [`padded_len`] bytes.
    pub fn encode(&self) -> Result<SecretBytes, FieldMapError> {
        let count = self.count()?;
        let body = self.body_len()?;
        let padded = padded_len(LEN_BYTES + body);
        let mut out = SecretBytes::with_capacity(padded);
        out.extend_from_slice(&width(body)?);
        out.extend_from_slice(&self.subject.0);
        out.extend_from_slice(&self.member.subject);
        out.extend_from_slice(&self.member.record);
        out.extend_from_slice(&self.created.0.to_be_bytes());
        out.extend_from_slice(&self.updated.0.to_be_bytes());
        out.extend_from_slice(&self.used.0.to_be_bytes());
        out.extend_from_slice(&count.to_be_bytes());
        for (ord, value) in &self.fields {
            out.extend_from_slice(&ord.0.to_be_bytes());
            out.push(vtype(value));
            out.extend_from_slice(&width(value.encoded_len())?);
            match value {
                Value::Text(s) => out.extend_from_slice(s.as_bytes()),
                Value::Bytes(b) => out.extend_from_slice(b),
                Value::Integer(n) => out.extend_from_slice(&n.to_be_bytes()),
                Value::Number(x) => out.extend_from_slice(&x.to_bits().to_be_bytes()),
                Value::Date(d) => out.extend_from_slice(&d.0.to_be_bytes()),
                Value::Boolean(b) => out.push(u8::from(*b)),
            }
        }
        out.resize(padded, 0);
        Ok(out)
    }

    /// Accepts exactly what [`FieldMap::encode`] makes.
    #[cfg(test)]
    pub fn decode(bytes: &[u8]) -> Result<FieldMap, FieldMapError> {
        EncodedMap::parse(SecretBytes::new(bytes.to_vec()), 0..bytes.len()).map(|map| map.to_map())
    }

    fn count(&self) -> Result<u16, FieldMapError> {
        let n = self.fields.len();
        if n > limits::FIELDS_MAX {
            return Err(FieldMapError::TooManyFields);
        }
        u16::try_from(n).map_err(|_| FieldMapError::TooManyFields)
    }

    /// Bytes of the body, if the map is within the limits.
    fn body_len(&self) -> Result<usize, FieldMapError> {
        self.count()?;
        if self.fields.values().any(|v| v.encoded_len() > limits::VALUE_BYTES_MAX) {
            return Err(FieldMapError::ValueTooLarge);
        }
        // No overflow: at most FIELDS_MAX lengths, each at most VALUE_BYTES_MAX.
        let values: usize = self.fields.values().map(Value::encoded_len).sum();
        if values > limits::RECORD_BYTES_MAX {
            return Err(FieldMapError::RecordTooLarge);
        }
        Ok(HEAD_BYTES + self.fields.len() * ENTRY_HEAD_BYTES + values)
    }
}

/// The plaintext parts of chunks 0, 1, …: each of `limits::CHUNK_BYTES` but the last.
pub fn chunks(padded: &[u8]) -> impl ExactSizeIterator<Item = &[u8]> {
    padded.chunks(limits::CHUNK_BYTES)
}

/// The length to which `len` bytes are padded: steps of 64 up to 1,024, Padmé above.
pub fn padded_len(len: usize) -> usize {
    if len <= STEPPED_BYTES_MAX {
        return len.max(1).next_multiple_of(STEP_BYTES);
    }
    // len > 1,024, so both logarithms exist and 2^(e − s) is at least 2^6.
    let e = len.ilog2();
    let s = e.ilog2() + 1;
    len.next_multiple_of(1 << (e - s))
}

fn vtype(value: &Value) -> u8 {
    match value {
        Value::Text(_) => VTYPE_TEXT,
        Value::Integer(_) => VTYPE_INTEGER,
        Value::Number(_) => VTYPE_NUMBER,
        Value::Boolean(_) => VTYPE_BOOLEAN,
        Value::Date(_) => VTYPE_DATE,
        Value::Bytes(_) => VTYPE_BYTES,
    }
}

fn width(len: usize) -> Result<[u8; 4], FieldMapError> {
    u32::try_from(len).map(u32::to_be_bytes).map_err(|_| FieldMapError::RecordTooLarge)
}

#[cfg(test)]
mod tests;
