//! One field's value: personal data in memory.
//!
//! Guarantees: a value is overwritten when it is dropped; `Debug` shows its type and nothing of its
//! content; a copy is made only by [`Value::duplicate`]; the bytes that the blind index hashes are
//! those of docs/FORMAT.md §5.2.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::class::FieldKind;
use crate::id::Day;

/// A value of one of the six stored types (docs/FORMAT.md §5.1). The kinds of text share `Text`.
#[derive(PartialEq)]
pub enum Value {
    Text(String),
    Integer(i64),
    Number(f64),
    Boolean(bool),
    Date(Day),
    Bytes(Vec<u8>),
}

impl Value {
    /// The stored type's name, for messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Text(_) => "text",
            Value::Integer(_) => "integer",
            Value::Number(_) => "number",
            Value::Boolean(_) => "boolean",
            Value::Date(_) => "date",
            Value::Bytes(_) => "bytes",
        }
    }

    /// The one door to a second copy: each use can be found by its name.
    pub fn duplicate(&self) -> Value {
        match self {
            Value::Text(s) => Value::Text(s.clone()),
            Value::Integer(n) => Value::Integer(*n),
            Value::Number(x) => Value::Number(*x),
            Value::Boolean(b) => Value::Boolean(*b),
            Value::Date(d) => Value::Date(*d),
            Value::Bytes(b) => Value::Bytes(b.clone()),
        }
    }

    /// Bytes that the value takes in a field map, without its header.
    pub fn encoded_len(&self) -> usize {
        match self {
            Value::Text(s) => s.len(),
            Value::Bytes(b) => b.len(),
            Value::Integer(_) | Value::Number(_) => 8,
            Value::Date(_) => 4,
            Value::Boolean(_) => 1,
        }
    }

    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(s) => Some(s),
            _ => None,
        }
    }

    /// Moves a text out without a copy.
    pub fn into_text(mut self) -> Option<Zeroizing<String>> {
        match &mut self {
            Value::Text(s) => Some(Zeroizing::new(std::mem::take(s))),
            _ => None,
        }
    }

    /// Moves bytes out without a copy.
    pub fn into_bytes(mut self) -> Option<Zeroizing<Vec<u8>>> {
        match &mut self {
            Value::Bytes(b) => Some(Zeroizing::new(std::mem::take(b))),
            _ => None,
        }
    }

    /// What the blind index hashes and what a search compares (docs/FORMAT.md §5.2): equal for two
    /// spellings of the same thing under this kind. Total: a value that the kind does not allow
    /// gives its own bytes.
    pub fn normalised(&self, kind: FieldKind) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(match self {
            Value::Text(s) => normalised_text(s, kind),
            Value::Bytes(b) => b.clone(),
            Value::Integer(n) => n.to_be_bytes().to_vec(),
            Value::Date(d) => i64::from(d.0).to_be_bytes().to_vec(),
            Value::Boolean(b) => vec![u8::from(*b)],
            // Adding +0 turns -0 into +0 and leaves every other number alone.
            Value::Number(x) => (x + 0.0).to_bits().to_be_bytes().to_vec(),
        })
    }

    /// Whether a search for `other` finds this value.
    pub fn matches(&self, other: &Value, kind: FieldKind) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
            && self.normalised(kind) == other.normalised(kind)
    }
}

/// Built in one pass into a vector of the final capacity: nothing is left behind by growing.
fn normalised_text(s: &str, kind: FieldKind) -> Vec<u8> {
    let trimmed = s.trim_matches(|c: char| c.is_ascii_whitespace());
    let mut out = Vec::with_capacity(trimmed.len());
    match kind {
        FieldKind::Email => out.extend(trimmed.bytes().map(|b| b.to_ascii_lowercase())),
        FieldKind::ResidentId | FieldKind::Uscc => {
            out.extend(trimmed.bytes().map(|b| b.to_ascii_uppercase()));
        }
        FieldKind::PostalCode => {
            let kept = trimmed.bytes().filter(|b| !matches!(b, b' ' | b'-'));
            out.extend(kept.map(|b| b.to_ascii_uppercase()));
        }
        FieldKind::Text
        | FieldKind::Phone
        | FieldKind::Integer
        | FieldKind::Number
        | FieldKind::Boolean
        | FieldKind::Date
        | FieldKind::Bytes => out.extend_from_slice(trimmed.as_bytes()),
    }
    out
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({})", self.type_name())
    }
}

impl Zeroize for Value {
    fn zeroize(&mut self) {
        match self {
            Value::Text(s) => s.zeroize(),
            Value::Integer(n) => n.zeroize(),
            Value::Number(x) => x.zeroize(),
            Value::Boolean(b) => b.zeroize(),
            Value::Date(d) => d.0.zeroize(),
            Value::Bytes(b) => b.zeroize(),
        }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.zeroize();
    }
}

impl ZeroizeOnDrop for Value {}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(s: &str) -> Value {
        Value::Text(s.to_owned())
    }

    fn all() -> Vec<Value> {
        vec![
            text("canary-text"),
            Value::Integer(424_242),
            Value::Number(424_242.5),
            Value::Boolean(true),
            Value::Date(Day(424_242)),
            Value::Bytes(b"canary-bytes".to_vec()),
        ]
    }

    #[test]
    fn debug_shows_the_type_and_no_content() {
        let shown = all().iter().map(|v| format!("{v:?}")).collect::<Vec<_>>().join(" ");
        assert_eq!(
            shown,
            "Value(text) Value(integer) Value(number) Value(boolean) Value(date) Value(bytes)"
        );
    }

    #[test]
    fn every_type_is_overwritten_by_what_drop_calls() {
        for mut v in all() {
            v.zeroize();
            let gone = match &v {
                Value::Text(s) => s.is_empty(),
                Value::Integer(n) => *n == 0,
                Value::Number(x) => *x == 0.0,
                Value::Boolean(b) => !*b,
                Value::Date(d) => d.0 == 0,
                Value::Bytes(b) => b.is_empty(),
            };
            assert!(gone, "{v:?}");
        }
    }

    #[test]
    fn a_duplicate_is_equal_and_moving_out_keeps_the_content() {
        for v in all() {
            assert!(v.duplicate() == v);
        }
        assert_eq!(text("a").into_text().as_deref().map(String::as_str), Some("a"));
        assert!(text("a").into_bytes().is_none());
        assert_eq!(Value::Bytes(vec![1]).into_bytes().as_deref(), Some(&vec![1]));
    }

    #[test]
    fn spellings_of_the_same_thing_meet_and_others_do_not() {
        let same = [
            (FieldKind::Email, "Wang.Wei@Example.COM", " wang.wei@example.com\n"),
            (FieldKind::ResidentId, "11010519491231002x", "11010519491231002X"),
            (FieldKind::Uscc, "9144030071526726xg", "9144030071526726XG"),
            (FieldKind::PostalCode, "sw1a 1aa", "SW1A1AA"),
            (FieldKind::PostalCode, "12345-6789", "123456789"),
            (FieldKind::Text, "\t张三 ", "张三"),
            (FieldKind::Phone, "+8613812345678", "+8613812345678"),
        ];
        for (kind, a, b) in same {
            assert!(text(a).matches(&text(b), kind), "{kind:?} {a}");
        }
        let different = [
            (FieldKind::Text, "Wang", "wang"),
            (FieldKind::Text, "a b", "a  b"),
            // The ideographic space is not ASCII white space.
            (FieldKind::Text, "\u{3000}张三", "张三"),
            (FieldKind::Phone, "+8613812345678", "+8613812345679"),
            (FieldKind::Email, "a@example.com", "b@example.com"),
        ];
        for (kind, a, b) in different {
            assert!(!text(a).matches(&text(b), kind), "{kind:?} {a}");
        }
    }

    #[test]
    fn fixed_width_forms_are_those_of_the_format() {
        let date = Value::Date(Day(-1)).normalised(FieldKind::Date);
        assert_eq!(*date, [0xff; 8]);
        let int = Value::Integer(258).normalised(FieldKind::Integer);
        assert_eq!(*int, [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(*Value::Boolean(true).normalised(FieldKind::Boolean), [1]);
        let zero = Value::Number(-0.0).normalised(FieldKind::Number);
        assert_eq!(*zero, [0; 8]);
        let one = Value::Number(-1.5).normalised(FieldKind::Number);
        assert_eq!(*one, (-1.5f64).to_bits().to_be_bytes());
        assert!(!Value::Date(Day(1)).matches(&Value::Integer(1), FieldKind::Date));
    }
}
