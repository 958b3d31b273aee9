//! Field values between JSON or text and the wire. Errors never hold the value.
//!
//! BYTES are base64 (RFC 4648 §4): text in CSV, `{"base64": "…"}` in JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use crate::proto::v1::value::Kind;
use crate::proto::v1::{Field, FieldKind, Value};

/// Why text or JSON is not a value of its field's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    #[error("is not a whole number of 64 bits")]
    Integer,
    #[error("is not a finite number")]
    Number,
    #[error("is not true or false")]
    Boolean,
    #[error("is not base64")]
    Bytes,
    #[error("is a list or an object other than {{\"base64\": \"...\"}}")]
    Shape,
}

/// A value from text, as in a CSV cell or typed at a prompt.
pub fn from_text(field: &Field, text: &str) -> Result<Value, ValueError> {
    let kind = match field.kind() {
        FieldKind::Integer => Kind::IntegerValue(text.parse().map_err(|_| ValueError::Integer)?),
        FieldKind::Number => {
            let number: f64 = text.parse().map_err(|_| ValueError::Number)?;
            if !number.is_finite() {
                return Err(ValueError::Number);
            }
            Kind::NumberValue(number)
        }
        FieldKind::Boolean => match text {
            "true" => Kind::BoolValue(true),
            "false" => Kind::BoolValue(false),
            _ => return Err(ValueError::Boolean),
        },
        FieldKind::Bytes => Kind::BytesValue(STANDARD.decode(text).map_err(|_| ValueError::Bytes)?),
        _ => Kind::StringValue(text.to_owned()),
    };
    Ok(Value { kind: Some(kind) })
}

/// A value from JSON, by its own shape: the vault checks it against the schema. `None` for `null`. A whole number
/// without a point is an INTEGER, one with a point a NUMBER.
pub fn from_json(json: &Json) -> Result<Option<Value>, ValueError> {
    let kind = match json {
        Json::Null => return Ok(None),
        Json::Bool(b) => Kind::BoolValue(*b),
        Json::String(s) => Kind::StringValue(s.clone()),
        Json::Number(n) if n.is_f64() => Kind::NumberValue(n.as_f64().ok_or(ValueError::Number)?),
        Json::Number(n) => Kind::IntegerValue(n.as_i64().ok_or(ValueError::Integer)?),
        Json::Array(_) => return Err(ValueError::Shape),
        Json::Object(object) => match (object.len(), object.get("base64").and_then(Json::as_str)) {
            (1, Some(text)) => {
                Kind::BytesValue(STANDARD.decode(text).map_err(|_| ValueError::Bytes)?)
            }
            _ => return Err(ValueError::Shape),
        },
    };
    Ok(Some(Value { kind: Some(kind) }))
}

/// For people. Masked values of any kind come as text.
pub fn to_text(value: &Value) -> String {
    match &value.kind {
        None => String::new(),
        Some(Kind::StringValue(s)) => s.clone(),
        Some(Kind::IntegerValue(n)) => n.to_string(),
        Some(Kind::NumberValue(n)) => n.to_string(),
        Some(Kind::BoolValue(b)) => b.to_string(),
        Some(Kind::BytesValue(b)) => STANDARD.encode(b),
    }
}

/// For programs.
pub fn to_json(value: &Value) -> Json {
    match &value.kind {
        None => Json::Null,
        Some(Kind::StringValue(s)) => json!(s),
        Some(Kind::IntegerValue(n)) => json!(n),
        Some(Kind::NumberValue(n)) => json!(n),
        Some(Kind::BoolValue(b)) => json!(b),
        Some(Kind::BytesValue(b)) => json!({ "base64": STANDARD.encode(b) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(kind: FieldKind) -> Field {
        Field { name: "f".into(), kind: kind.into(), ..Field::default() }
    }

    #[test]
    fn each_shape_survives_json() {
        for json in [
            json!("Åke"),
            json!(i64::MIN),
            json!(-1.5),
            json!(3.0),
            json!(true),
            json!({ "base64": "AP8=" }),
        ] {
            let value = from_json(&json).unwrap().unwrap();
            assert_eq!(to_json(&value), json);
        }
        assert!(from_json(&Json::Null).unwrap().is_none());
    }

    #[test]
    fn each_kind_survives_text() {
        for (kind, text) in [
            (FieldKind::Text, " Åke "),
            (FieldKind::Integer, "-9"),
            (FieldKind::Number, "2.25"),
            (FieldKind::Boolean, "false"),
            (FieldKind::Bytes, "AP8="),
        ] {
            assert_eq!(to_text(&from_text(&field(kind), text).unwrap()), text);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_without_its_value() {
        for (kind, text) in [
            (FieldKind::Integer, "12.5"),
            (FieldKind::Integer, "9223372036854775808"),
            (FieldKind::Number, "NaN"),
            (FieldKind::Number, "inf"),
            (FieldKind::Boolean, "yes"),
            (FieldKind::Bytes, "%%"),
        ] {
            let error = from_text(&field(kind), text).err().unwrap();
            assert!(!error.to_string().contains(text), "{error}");
        }
        for json in [
            json!(u64::MAX),
            json!(["canary"]),
            json!({ "base64": "%%" }),
            json!({ "base64": 7 }),
            json!({ "base64": "AP8=", "canary": 1 }),
        ] {
            let error = from_json(&json).err().unwrap().to_string();
            assert!(!error.contains("canary") && !error.contains("%%"), "{error}");
        }
    }
}
