//! The masked view of a value, for readers without the clear right.
//!
//! Guarantees: a masked text shows no more of the value than the table says, whatever the value
//! holds, and hides at least as much as it says; the number of `*` tells nothing of the length.
//! Anything that is not text is withheld.
//!
//! | mask | shown | condition, else only `****` |
//! |---|---|---|
//! | FULL | nothing at all | |
//! | NAME | first character, `**` | at least 2 characters |
//! | PHONE | a leading `+`, first 3 digits, `****`, last 4 | at least 11 digits |
//! | | a leading `+`, first 2 digits, `****`, last 2 | 8 to 10 digits |
//! | EMAIL | first character, `***@`, domain | local part of at least 2 characters |
//! | | `***@`, domain | local part of 1 character |
//! | ID | `****`, last 4 characters | at least 12 characters |
//! | | `****`, last 2 characters | 8 to 11 characters |
//! | ADDRESS | first 6 characters, their digits as `*`, `****` | at least 12 characters |
//! | | first quarter of the characters, likewise | 4 to 11 characters |
//! | CARD | `****`, last 4 digits | at least 12 digits |
//!
//! PHONE gives the usual `138****5678` for a domestic mobile number. ID hides the region and the
//! birth date of a resident identity number, which are as personal as the number: it shows the
//! sequence and the check digit, by which a holder is asked to confirm it. ADDRESS suits addresses
//! written from the large to the small (province, city, district first); digits are hidden for
//! those that begin with the house number.

use zeroize::Zeroizing;

use super::value::Value;
use crate::class::MaskKind;

const WITHHELD: &str = "****";

/// What a reader without the clear right sees: a text, or nothing.
pub fn masked(value: &Value, kind: MaskKind) -> Option<Value> {
    let text = value.as_text()?.trim();
    let shown = match kind {
        MaskKind::Full => return None,
        MaskKind::Name => name(text),
        MaskKind::Phone => phone(text),
        MaskKind::Email => email(text),
        MaskKind::Id => id(text),
        MaskKind::Address => address(text),
        MaskKind::Card => card(text),
    };
    Some(Value::Text(shown.unwrap_or_else(|| WITHHELD.to_owned())))
}

fn name(text: &str) -> Option<String> {
    let mut chars = text.chars();
    let first = chars.next()?;
    chars.next()?;
    Some(format!("{first}**"))
}

fn phone(text: &str) -> Option<String> {
    let plus = if text.starts_with('+') { "+" } else { "" };
    let digits = digits(text);
    let (head, tail) = match digits.len() {
        0..8 => return None,
        8..11 => (2, 2),
        _ => (3, 4),
    };
    let head = digits.get(..head)?;
    let tail = digits.get(digits.len().checked_sub(tail)?..)?;
    Some(format!("{plus}{head}****{tail}"))
}

fn email(text: &str) -> Option<String> {
    let (local, domain) = text.rsplit_once('@')?;
    // A domain is shown only if it is one: a free text with an @ in it stays hidden.
    let is_domain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    if local.contains('@') || domain.is_empty() || !domain.bytes().all(is_domain) {
        return None;
    }
    let mut chars = local.chars();
    let first = chars.next()?;
    match chars.next() {
        Some(_) => Some(format!("{first}***@{domain}")),
        None => Some(format!("***@{domain}")),
    }
}

fn id(text: &str) -> Option<String> {
    let count = text.chars().count();
    let tail = match count {
        0..8 => return None,
        8..12 => 2,
        _ => 4,
    };
    Some(WITHHELD.chars().chain(text.chars().skip(count - tail)).collect())
}

fn address(text: &str) -> Option<String> {
    let head = match text.chars().count() {
        0..4 => return None,
        n @ 4..12 => n / 4,
        _ => 6,
    };
    let shown = text.chars().take(head).map(|c| if c.is_numeric() { '*' } else { c });
    Some(shown.chain(WITHHELD.chars()).collect())
}

fn card(text: &str) -> Option<String> {
    let digits = digits(text);
    if digits.len() < 12 {
        return None;
    }
    let tail = digits.get(digits.len().checked_sub(4)?..)?;
    Some(format!("{WITHHELD}{tail}"))
}

/// The ASCII digits, in order; grouping is dropped.
fn digits(text: &str) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(text.len()));
    out.extend(text.chars().filter(char::is_ascii_digit));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Day;

    const KINDS: [MaskKind; 6] = [
        MaskKind::Name,
        MaskKind::Phone,
        MaskKind::Email,
        MaskKind::Id,
        MaskKind::Address,
        MaskKind::Card,
    ];

    fn shown(kind: MaskKind, text: &str) -> String {
        let masked = masked(&Value::Text(text.to_owned()), kind);
        masked.and_then(|v| v.as_text().map(str::to_owned)).unwrap()
    }

    #[test]
    fn masks_are_the_usual_ones() {
        for (kind, text, want) in [
            (MaskKind::Name, "张三", "张**"),
            (MaskKind::Name, "欧阳小红", "欧**"),
            (MaskKind::Name, " Wang Wei ", "W**"),
            (MaskKind::Name, "𠮷野", "𠮷**"),
            (MaskKind::Phone, "13812345678", "138****5678"),
            (MaskKind::Phone, "+8613812345678", "+861****5678"),
            (MaskKind::Phone, "+86 138-1234-5678", "+861****5678"),
            (MaskKind::Phone, "+35312345", "+35****45"),
            (MaskKind::Email, "wang.wei@example.com", "w***@example.com"),
            (MaskKind::Email, "w@example.com", "***@example.com"),
            (MaskKind::Email, "a@b@example.com", "****"),
            (MaskKind::Email, "no address", "****"),
            (MaskKind::Email, "@example.com", "****"),
            (MaskKind::Email, "call me @ home, flat 7", "****"),
            (MaskKind::Id, "11010519491231002X", "****002X"),
            (MaskKind::Id, "E12345678", "****78"),
            (MaskKind::Address, "北京市朝阳区建国路一号二单元", "北京市朝阳区****"),
            (MaskKind::Address, "221B Baker Street, London", "***B B****"),
            (MaskKind::Card, "6222 0212 3456 7890", "****7890"),
        ] {
            assert_eq!(shown(kind, text), want, "{text}");
        }
    }

    /// How many characters of a value of `len` characters each mask may show, as the table says.
    fn allowed(kind: MaskKind, len: usize) -> usize {
        match (kind, len) {
            (MaskKind::Full, _) => 0,
            (MaskKind::Name, 0..2) => 0,
            (MaskKind::Name, _) => 1,
            (MaskKind::Phone, 0..8) => 0,
            (MaskKind::Phone, 8..11) => 4,
            (MaskKind::Phone, _) => 7,
            // Without an @ nothing of an address is shown.
            (MaskKind::Email, _) => 0,
            (MaskKind::Id, 0..8) => 0,
            (MaskKind::Id, 8..12) => 2,
            (MaskKind::Id, _) => 4,
            (MaskKind::Address, 0..4) => 0,
            (MaskKind::Address, 4..12) => len / 4,
            (MaskKind::Address, _) => 6,
            (MaskKind::Card, 0..12) => 0,
            (MaskKind::Card, _) => 4,
        }
    }

    fn revealed(masked: &str) -> usize {
        masked.chars().filter(|c| !matches!(c, '*' | '+')).count()
    }

    #[test]
    fn no_length_shows_more_than_the_table_says() {
        for kind in KINDS {
            for len in 0..=40 {
                for unit in ["7", "a", "张", "𠮷"] {
                    let text = unit.repeat(len);
                    let seen = revealed(&shown(kind, &text));
                    assert!(seen <= allowed(kind, len), "{kind:?} {unit} x {len} shows {seen}");
                    let hides = kind == MaskKind::Name || len == 0 || len - seen >= seen.min(4);
                    assert!(hides, "{kind:?} {unit} x {len} hides too little");
                }
            }
        }
        for (kind, unit) in [(MaskKind::Phone, "7"), (MaskKind::Card, "7"), (MaskKind::Id, "x")] {
            assert_eq!(revealed(&shown(kind, &unit.repeat(20))), allowed(kind, 20), "{kind:?}");
        }
    }

    #[test]
    fn a_local_part_of_any_length_shows_one_character_at_most() {
        for len in 1..=40 {
            let masked = shown(MaskKind::Email, &format!("{}@d.cn", "x".repeat(len)));
            assert_eq!(masked.matches('x').count(), usize::from(len > 1), "{len}");
        }
    }

    #[test]
    fn two_values_of_other_lengths_look_alike() {
        for kind in [MaskKind::Name, MaskKind::Phone, MaskKind::Id, MaskKind::Card] {
            assert_eq!(shown(kind, &"7".repeat(13)), shown(kind, &"7".repeat(19)), "{kind:?}");
        }
    }

    #[test]
    fn what_is_not_text_is_withheld() {
        let values = [
            Value::Integer(123_456_789_012),
            Value::Number(1.5),
            Value::Boolean(true),
            Value::Date(Day(1)),
            Value::Bytes(b"123456789012".to_vec()),
        ];
        for value in values {
            assert!(KINDS.iter().all(|k| masked(&value, *k).is_none()), "{value:?}");
        }
        assert!(masked(&Value::Text("text".into()), MaskKind::Full).is_none());
    }
}
