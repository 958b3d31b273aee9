//! What a value of each field kind must look like.
//!
//! Guarantees: every check is total and linear in the value's length; a refusal is one of a fixed
//! list of sentences and never holds the value or a part of it. Date fields accept ISO 8601 text
//! and store the day.
//!
//! Sources: E.164 (phone), RFC 5321 and RFC 1035 (e-mail, ASCII only), GB 11643 with ISO 7064 MOD
//! 11-2 and the province codes of GB/T 2260 (resident identity number), GB 32100 (unified social
//! credit code).

use super::calendar::{format_iso_date, parse_iso_date};
use super::value::Value;
use crate::class::FieldKind;

pub const EMAIL_BYTES_MAX: usize = 254;
const EMAIL_LOCAL_BYTES_MAX: usize = 64;
const DOMAIN_LABEL_BYTES_MAX: usize = 63;
/// `+` and 15 digits.
pub const PHONE_BYTES_MAX: usize = 16;
/// Resident identity numbers and unified social credit codes.
pub const ID_BYTES: usize = 18;
pub const POSTAL_CODE_BYTES_MAX: usize = 12;
/// Births before this year are taken for slips of the pen; GB 11643 itself has an example born in
/// 1880.
const BIRTH_YEAR_MIN: &str = "1800";

/// Why a value is refused. The text completes "the field …".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    #[error("must be a text")]
    NotText,
    #[error("must be an integer")]
    NotInteger,
    #[error("must be a number")]
    NotNumber,
    #[error("must be a boolean")]
    NotBoolean,
    #[error("must be bytes")]
    NotBytes,
    #[error("is empty")]
    Empty,
    #[error("is longer than the field allows")]
    TooLong,
    #[error("has a control character other than tab and line break")]
    ControlCharacter,
    #[error("is not a finite number")]
    NotFinite,
    #[error("is not a calendar date of the form YYYY-MM-DD")]
    NotADate,
    #[error("must have exactly one @")]
    EmailAt,
    #[error("has a malformed part before the @")]
    EmailLocalPart,
    #[error("has a malformed domain")]
    EmailDomain,
    #[error("must be + and 7 to 15 digits, the first not 0 (E.164)")]
    Phone,
    #[error("must have exactly 18 characters")]
    IdLength,
    #[error("has a character that the code does not use")]
    IdCharacter,
    #[error("has an unknown region code")]
    IdRegion,
    #[error("has a birth date that does not exist")]
    IdBirthDate,
    #[error("check digit is wrong")]
    CheckDigit,
    #[error(
        "must be 2 to 12 letters, digits, spaces or hyphens, with a letter or digit at each end"
    )]
    PostalCode,
}

/// Checks a value and gives it in the form in which it is stored: a DATE given as text becomes a
/// day.
///
/// `max_bytes` bounds TEXT and BYTES; the other kinds have bounds of their own.
pub fn parse(kind: FieldKind, max_bytes: usize, value: Value) -> Result<Value, ValueError> {
    let parsed = match (kind, &value) {
        (FieldKind::Date, Value::Text(s)) => {
            Some(Value::Date(parse_iso_date(s).ok_or(ValueError::NotADate)?))
        }
        _ => None,
    };
    let value = parsed.unwrap_or(value);
    check(kind, max_bytes, &value)?;
    Ok(value)
}

/// Checks a value in its stored form.
pub fn check(kind: FieldKind, max_bytes: usize, value: &Value) -> Result<(), ValueError> {
    match (kind, value) {
        (FieldKind::Integer, Value::Integer(_)) | (FieldKind::Boolean, Value::Boolean(_)) => Ok(()),
        (FieldKind::Number, Value::Number(x)) => {
            x.is_finite().then_some(()).ok_or(ValueError::NotFinite)
        }
        (FieldKind::Date, Value::Date(day)) => {
            format_iso_date(*day).map(drop).ok_or(ValueError::NotADate)
        }
        (FieldKind::Bytes, Value::Bytes(b)) => {
            (b.len() <= max_bytes).then_some(()).ok_or(ValueError::TooLong)
        }
        (FieldKind::Text, Value::Text(s)) => text(s, max_bytes),
        (FieldKind::Email, Value::Text(s)) => email(s),
        (FieldKind::Phone, Value::Text(s)) => phone(s),
        (FieldKind::ResidentId, Value::Text(s)) => resident_id(s),
        (FieldKind::Uscc, Value::Text(s)) => uscc(s),
        (FieldKind::PostalCode, Value::Text(s)) => postal_code(s),
        (FieldKind::Integer, _) => Err(ValueError::NotInteger),
        (FieldKind::Number, _) => Err(ValueError::NotNumber),
        (FieldKind::Boolean, _) => Err(ValueError::NotBoolean),
        (FieldKind::Bytes, _) => Err(ValueError::NotBytes),
        (FieldKind::Date, _) => Err(ValueError::NotADate),
        (
            FieldKind::Text
            | FieldKind::Email
            | FieldKind::Phone
            | FieldKind::ResidentId
            | FieldKind::Uscc
            | FieldKind::PostalCode,
            _,
        ) => Err(ValueError::NotText),
    }
}

/// Tab, LF and CR before LF are the only control characters (C0, DEL, C1) in a text.
pub fn text(s: &str, max_bytes: usize) -> Result<(), ValueError> {
    if s.len() > max_bytes {
        return Err(ValueError::TooLong);
    }
    let mut chars = s.chars().peekable();
    while let Some(c) = chars.next() {
        let allowed = match c {
            '\t' | '\n' => true,
            '\r' => chars.peek() == Some(&'\n'),
            _ => !c.is_control(),
        };
        if !allowed {
            return Err(ValueError::ControlCharacter);
        }
    }
    Ok(())
}

/// A dot-atom of at most 64 bytes, `@`, and a dotted domain of letters, digits and hyphens (an
/// internationalised one in its `xn--` form).
fn email(s: &str) -> Result<(), ValueError> {
    if s.is_empty() {
        return Err(ValueError::Empty);
    }
    if s.len() > EMAIL_BYTES_MAX {
        return Err(ValueError::TooLong);
    }
    let (local, domain) = s.split_once('@').ok_or(ValueError::EmailAt)?;
    if domain.contains('@') {
        return Err(ValueError::EmailAt);
    }
    let atext = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b);
    let local_ok = local.len() <= EMAIL_LOCAL_BYTES_MAX
        && local.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(atext));
    if !local_ok {
        return Err(ValueError::EmailLocalPart);
    }
    let label_ok = |label: &str| {
        (1..=DOMAIN_LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let top = domain.rsplit_once('.').map(|(_, top)| top).ok_or(ValueError::EmailDomain)?;
    // An all-digit last label would be an address of a host, not a name.
    let domain_ok = domain.split('.').all(label_ok) && !top.bytes().all(|b| b.is_ascii_digit());
    domain_ok.then_some(()).ok_or(ValueError::EmailDomain)
}

fn phone(s: &str) -> Result<(), ValueError> {
    let digits = s.strip_prefix('+').ok_or(ValueError::Phone)?;
    let ok = (7..=15).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
        && !digits.starts_with('0');
    ok.then_some(()).ok_or(ValueError::Phone)
}

fn postal_code(s: &str) -> Result<(), ValueError> {
    let ends_ok = |c: Option<u8>| c.is_some_and(|b| b.is_ascii_alphanumeric());
    let ok = (2..=POSTAL_CODE_BYTES_MAX).contains(&s.len())
        && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b' ' | b'-'))
        && ends_ok(s.bytes().next())
        && ends_ok(s.bytes().next_back());
    ok.then_some(()).ok_or(ValueError::PostalCode)
}

/// Province-level codes of GB/T 2260, and 83 of the residence permits for residents of Taiwan.
const PROVINCES: [&str; 35] = [
    "11", "12", "13", "14", "15", "21", "22", "23", "31", "32", "33", "34", "35", "36", "37", "41",
    "42", "43", "44", "45", "46", "50", "51", "52", "53", "54", "61", "62", "63", "64", "65", "71",
    "81", "82", "83",
];

/// Six digits of region, eight of birth date, three of sequence, one check character (`X` or `x` is
/// ten).
fn resident_id(s: &str) -> Result<(), ValueError> {
    if s.chars().count() != ID_BYTES {
        return Err(ValueError::IdLength);
    }
    let (body, check) = s.split_at_checked(ID_BYTES - 1).ok_or(ValueError::IdCharacter)?;
    let check = match check.as_bytes() {
        [digit @ b'0'..=b'9'] => u32::from(digit - b'0'),
        [b'X' | b'x'] => 10,
        _ => return Err(ValueError::IdCharacter),
    };
    if !body.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ValueError::IdCharacter);
    }
    if !body.get(..2).is_some_and(|p| PROVINCES.contains(&p)) {
        return Err(ValueError::IdRegion);
    }
    if !body.get(6..14).is_some_and(is_birth_date) {
        return Err(ValueError::IdBirthDate);
    }
    // ISO 7064 MOD 11-2: doubling and adding from the left; the whole is congruent to 1.
    let sum = body.bytes().fold(0, |sum, b| (sum + u32::from(b - b'0')) * 2 % 11);
    ((sum + check) % 11 == 1).then_some(()).ok_or(ValueError::CheckDigit)
}

fn is_birth_date(yyyymmdd: &str) -> bool {
    let (Some(y), Some(m), Some(d)) = (yyyymmdd.get(..4), yyyymmdd.get(4..6), yyyymmdd.get(6..8))
    else {
        return false;
    };
    y >= BIRTH_YEAR_MIN && parse_iso_date(&format!("{y}-{m}-{d}")).is_some()
}

/// The 31 characters of GB 32100, in the order of their values.
const USCC_ALPHABET: &[u8; 31] = b"0123456789ABCDEFGHJKLMNPQRTUWXY";

/// Authority, category, six digits of region, nine characters of organisation code, one check
/// character; either case.
fn uscc(s: &str) -> Result<(), ValueError> {
    if s.chars().count() != ID_BYTES {
        return Err(ValueError::IdLength);
    }
    let mut sum = 0;
    let mut weight = 1;
    for (i, byte) in s.bytes().map(|b| b.to_ascii_uppercase()).enumerate() {
        let value = USCC_ALPHABET.iter().position(|a| *a == byte);
        let value = value.ok_or(ValueError::IdCharacter)?;
        if (2..8).contains(&i) && !byte.is_ascii_digit() {
            return Err(ValueError::IdRegion);
        }
        if i == ID_BYTES - 1 {
            // The check character makes the weighted sum of all a multiple of 31; its own weight is
            // 1.
            return ((sum + value) % 31 == 0).then_some(()).ok_or(ValueError::CheckDigit);
        }
        sum += value * weight;
        weight = weight * 3 % 31;
    }
    Err(ValueError::IdLength)
}

#[cfg(test)]
mod tests;
