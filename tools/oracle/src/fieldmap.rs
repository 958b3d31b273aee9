//! The padded field map inside a record version (FORMAT section 5.1).

use crate::encoding::Cursor;

/// Every part of a record version but the last has this many plaintext bytes.
pub const PART_LEN: usize = 7_936;

pub struct Field {
    pub field: u16,
    pub vtype: u8,
    pub value: Vec<u8>,
}

/// A decoded field map. `whole` is false if the bytes end before it does.
pub struct FieldMap {
    pub subject: [u8; 16],
    /// What stands for the subject and for the record in the audit log.
    pub subject_ref: [u8; 16],
    pub record_ref: [u8; 16],
    pub created: i64,
    pub updated: i64,
    pub used: i64,
    pub fields: Vec<Field>,
    pub whole: bool,
    pub warnings: Vec<String>,
}

/// Length after padding of `len` bytes (the 4 bytes of the length field included).
pub fn padded_len(len: u64) -> u64 {
    if len <= 1_024 {
        return len.next_multiple_of(64);
    }
    let e = u64::from(len.ilog2());
    let s = u64::from(e.ilog2()) + 1;
    let step = 1u64 << e.saturating_sub(s);
    len.next_multiple_of(step)
}

impl FieldMap {
    /// Reads as much as there is; `None` only if not even the fixed part is there.
    pub fn parse(plain: &[u8]) -> Option<Self> {
        let mut outer = Cursor(plain);
        let len = usize::try_from(outer.u32()?).ok()?;
        let whole = outer.0.len() >= len;
        let (body, padding) = outer.0.split_at(len.min(outer.0.len()));
        let mut c = Cursor(body);
        let (subject, subject_ref, record_ref) = (c.array()?, c.array()?, c.array()?);
        let (created, updated, used, count) = (c.i64()?, c.i64()?, c.i64()?, c.u16()?);
        let (fields, warnings) = (Vec::new(), Vec::new());
        let mut map = FieldMap {
            subject,
            subject_ref,
            record_ref,
            created,
            updated,
            used,
            fields,
            whole,
            warnings,
        };
        for _ in 0..count {
            let Some(field) = read_field(&mut c) else {
                map.whole = false;
                break;
            };
            if map.fields.last().is_some_and(|f| f.field >= field.field) {
                map.warnings.push("fields are not ascending".into());
            }
            map.fields.push(field);
        }
        if map.whole {
            map.check_padding(len, c.0.len(), padding, plain.len());
        }
        Some(map)
    }

    fn check_padding(&mut self, len: usize, left: usize, padding: &[u8], total: usize) {
        if left != 0 {
            self.warnings.push("bytes after the last field".into());
        }
        if padding.iter().any(|b| *b != 0) {
            self.warnings.push("padding is not zero".into());
        }
        if padded_len(len as u64 + 4) != total as u64 {
            self.warnings.push(format!("{len} bytes are padded to {total}"));
        }
    }
}

fn read_field(c: &mut Cursor) -> Option<Field> {
    let (field, vtype, len) = (c.u16()?, c.u8()?, c.u32()?);
    let value = c.take(usize::try_from(len).ok()?)?.to_vec();
    Some(Field { field, vtype, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_steps() {
        assert_eq!([1, 64, 65, 1_000, 1_024].map(padded_len), [64, 64, 128, 1_024, 1_024]);
        // 1025: E = 10, S = 4, step 64; 2049: E = 11, S = 4, step 128; 65537: E = 16, S = 5, step 2048.
        assert_eq!([1_025, 2_049, 65_537].map(padded_len), [1_088, 2_176, 67_584]);
    }

    #[test]
    fn short_input_is_an_answer() {
        assert!(FieldMap::parse(&[0, 0, 0, 40]).is_none());
        let mut plain = 88u32.to_be_bytes().to_vec();
        plain.extend([0; 72]);
        plain.extend([0, 1, 0, 5, 1]);
        let map = FieldMap::parse(&plain).unwrap();
        assert!(!map.whole && map.fields.is_empty());
    }
}
