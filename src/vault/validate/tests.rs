//! Right and wrong values of every kind; the identity numbers also by every single corruption.

use super::*;
use crate::id::Day;

fn verdict(kind: FieldKind, s: &str) -> Result<(), ValueError> {
    check(kind, 4_096, &Value::Text(s.to_owned()))
}

/// The first two are the examples of GB 11643 itself.
const RESIDENT_IDS: [&str; 4] =
    ["11010519491231002X", "440524188001010014", "34052419800101001X", "11010519491231002x"];

/// Published codes of large companies.
const USCCS: [&str; 3] = ["9144030071526726XG", "91110000802100433B", "914403001922038216"];

#[test]
fn right_values_of_every_kind_pass() {
    let long_local = format!("{}@example.com", "a".repeat(64));
    let right: [(FieldKind, &[&str]); 7] = [
        (
            FieldKind::Email,
            &[
                "a@b.cn",
                "Wang.Wei+shop@mail.example.com",
                "o'neil@x-y.org",
                "1@2.example",
                &long_local,
                "a@xn--fiqs8s.cn",
            ],
        ),
        (FieldKind::Phone, &["+8613812345678", "+1234567", "+123456789012345"]),
        (FieldKind::ResidentId, &RESIDENT_IDS),
        (FieldKind::Uscc, &USCCS),
        (FieldKind::PostalCode, &["100000", "SW1A 1AA", "12345-6789", "d02 af30", "00"]),
        (FieldKind::Date, &["2026-01-31", "2028-02-29", "0001-01-01", "9999-12-31"]),
        (FieldKind::Text, &["", "张三", "tab\tand\nline\r\nbreaks", "e\u{301}", "👩‍👧"]),
    ];
    for (kind, values) in right {
        for s in values {
            let parsed = parse(kind, 4_096, Value::Text((*s).to_owned()));
            assert!(parsed.is_ok(), "{kind:?} {s:?}: {:?}", parsed.err());
        }
    }
}

#[test]
fn malformed_mail_addresses_are_refused_for_the_right_reason() {
    use ValueError::*;
    let local = format!("{}@example.com", "a".repeat(65));
    let label = format!("a@{}.com", "b".repeat(64));
    let whole = format!("a@{}com", "bbbbbbb.".repeat(32));
    for (s, want) in [
        ("", Empty),
        ("a", EmailAt),
        ("a@b@c.com", EmailAt),
        ("@b.com", EmailLocalPart),
        (".a@b.com", EmailLocalPart),
        ("a.@b.com", EmailLocalPart),
        ("a..b@c.com", EmailLocalPart),
        ("a b@c.com", EmailLocalPart),
        ("\"a\"@c.com", EmailLocalPart),
        ("张@c.com", EmailLocalPart),
        (local.as_str(), EmailLocalPart),
        ("a@", EmailDomain),
        ("a@localhost", EmailDomain),
        ("a@.com", EmailDomain),
        ("a@b.com.", EmailDomain),
        ("a@b..com", EmailDomain),
        ("a@-b.com", EmailDomain),
        ("a@b-.com", EmailDomain),
        ("a@b_c.com", EmailDomain),
        ("a@127.0.0.1", EmailDomain),
        ("a@b.com\n", EmailDomain),
        ("a@例子.cn", EmailDomain),
        (label.as_str(), EmailDomain),
        (whole.as_str(), TooLong),
    ] {
        assert_eq!(verdict(FieldKind::Email, s), Err(want), "{s:?}");
    }
}

#[test]
fn malformed_phones_and_postal_codes_are_refused() {
    for s in [
        "",
        "+",
        "13812345678",
        "+123456",
        "+1234567890123456",
        "+0123456789",
        "+86 13812345678",
        "+86-138",
        "++8613812345678",
        "+8613812345678\n",
        "+８613812345678",
        "+861381234567x",
    ] {
        assert_eq!(verdict(FieldKind::Phone, s), Err(ValueError::Phone), "{s:?}");
    }
    for s in ["", "1", "1234567890123", " 100000", "100000 ", "-1", "1_2", "10\n0", "邮编", "--"]
    {
        assert_eq!(verdict(FieldKind::PostalCode, s), Err(ValueError::PostalCode), "{s:?}");
    }
}

#[test]
fn every_single_corruption_of_a_resident_id_is_refused() {
    for id in RESIDENT_IDS {
        assert_eq!(verdict(FieldKind::ResidentId, id), Ok(()), "{id}");
        for at in 0..ID_BYTES {
            for with in "0123456789X".chars() {
                let mut bad: Vec<char> = id.chars().collect();
                if bad[at].to_ascii_uppercase() == with {
                    continue;
                }
                bad[at] = with;
                let bad: String = bad.into_iter().collect();
                assert!(verdict(FieldKind::ResidentId, &bad).is_err(), "{id} became {bad}");
            }
        }
        // MOD 11-2 also catches every swap of neighbours.
        for at in 0..ID_BYTES - 2 {
            let mut bad: Vec<char> = id.chars().collect();
            bad.swap(at, at + 1);
            let bad: String = bad.into_iter().collect();
            assert_eq!(verdict(FieldKind::ResidentId, &bad).is_ok(), bad == id, "{bad}");
        }
    }
}

#[test]
fn a_resident_id_is_refused_for_the_right_reason() {
    use ValueError::*;
    for (s, want) in [
        ("", IdLength),
        ("11010519491231002", IdLength),
        ("11010519491231002XX", IdLength),
        ("110105491231002", IdLength),
        ("1101051949123100２X", IdCharacter),
        ("１1010519491231002X", IdCharacter),
        ("X1010519491231002X", IdCharacter),
        ("11010519491231002Y", IdCharacter),
        ("1101051949123100 X", IdCharacter),
        ("10010519491231002X", IdRegion),
        ("99010519491231002X", IdRegion),
        ("11010519490229002X", IdBirthDate),
        ("11010519491301002X", IdBirthDate),
        ("11010517991231002X", IdBirthDate),
        ("110105194912310021", CheckDigit),
    ] {
        assert_eq!(verdict(FieldKind::ResidentId, s), Err(want), "{s:?}");
    }
}

#[test]
fn every_single_corruption_of_a_uscc_is_refused() {
    for code in USCCS {
        assert_eq!(verdict(FieldKind::Uscc, code), Ok(()), "{code}");
        assert_eq!(verdict(FieldKind::Uscc, &code.to_lowercase()), Ok(()), "{code}");
        for at in 0..ID_BYTES {
            for with in ('0'..='9').chain('A'..='Z') {
                let mut bad: Vec<char> = code.chars().collect();
                if bad[at] == with {
                    continue;
                }
                bad[at] = with;
                let bad: String = bad.into_iter().collect();
                assert!(verdict(FieldKind::Uscc, &bad).is_err(), "{code} became {bad}");
            }
        }
    }
}

#[test]
fn a_uscc_is_refused_for_the_right_reason() {
    use ValueError::*;
    for (s, want) in [
        ("", IdLength),
        ("9144030071526726X", IdLength),
        ("9144030071526726XGG", IdLength),
        ("9144030071526726XI", IdCharacter),
        ("9144030071526726XO", IdCharacter),
        ("91440300S1526726XG", IdCharacter),
        ("9144030071526726X张", IdCharacter),
        ("91A4030071526726XG", IdRegion),
        ("9144030071526726XH", CheckDigit),
    ] {
        assert_eq!(verdict(FieldKind::Uscc, s), Err(want), "{s:?}");
    }
}

#[test]
fn texts_have_a_length_and_no_control_characters() {
    for s in ["\0", "a\0", "\u{1b}[31m", "\u{7f}", "\u{85}", "\r", "a\rb", "\n\r"] {
        assert_eq!(verdict(FieldKind::Text, s), Err(ValueError::ControlCharacter), "{s:?}");
    }
    let text = |n| check(FieldKind::Text, n, &Value::Text("张三".into()));
    assert_eq!((text(6), text(5)), (Ok(()), Err(ValueError::TooLong)));
    let bytes = |n| check(FieldKind::Bytes, n, &Value::Bytes(vec![0; 6]));
    assert_eq!((bytes(6), bytes(5)), (Ok(()), Err(ValueError::TooLong)));
}

#[test]
fn dates_are_stored_as_days() {
    let stored = parse(FieldKind::Date, 0, Value::Text("1970-01-02".into()));
    assert!(stored == Ok(Value::Date(Day(1))));
    for s in ["", "2026-02-30", "2026-1-1", "yesterday"] {
        let refused = parse(FieldKind::Date, 0, Value::Text(s.into()));
        assert_eq!(refused.unwrap_err(), ValueError::NotADate, "{s:?}");
    }
    assert_eq!(check(FieldKind::Date, 0, &Value::Date(Day::OPEN_ENDED)), Err(ValueError::NotADate));
    // In stored form a date is a day, never a text.
    assert_eq!(verdict(FieldKind::Date, "2026-01-31"), Err(ValueError::NotADate));
}

#[test]
fn numbers_are_finite() {
    let number = |x| check(FieldKind::Number, 0, &Value::Number(x));
    assert_eq!(number(-1.5e300), Ok(()));
    for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(number(x), Err(ValueError::NotFinite));
    }
}

#[test]
fn a_kind_takes_only_its_own_type() {
    use FieldKind as K;
    let values = || {
        [
            Value::Text("x".into()),
            Value::Integer(1),
            Value::Number(1.0),
            Value::Boolean(true),
            Value::Date(Day(1)),
            Value::Bytes(vec![1]),
        ]
    };
    for (kind, own, want) in [
        (K::Text, "text", ValueError::NotText),
        (K::Email, "text", ValueError::NotText),
        (K::Phone, "text", ValueError::NotText),
        (K::ResidentId, "text", ValueError::NotText),
        (K::Uscc, "text", ValueError::NotText),
        (K::PostalCode, "text", ValueError::NotText),
        (K::Integer, "integer", ValueError::NotInteger),
        (K::Number, "number", ValueError::NotNumber),
        (K::Boolean, "boolean", ValueError::NotBoolean),
        (K::Date, "date", ValueError::NotADate),
        (K::Bytes, "bytes", ValueError::NotBytes),
    ] {
        for value in values() {
            let got = check(kind, 100, &value);
            if value.type_name() == own {
                assert_ne!(got, Err(want), "{kind:?} {value:?}");
            } else {
                assert_eq!(got, Err(want), "{kind:?} {value:?}");
            }
        }
    }
}
