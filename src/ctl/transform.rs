//! Cleaning of one CSV cell. Few and exact; what cannot be cleaned is refused, never guessed.

use serde::Deserialize;

/// One step of cleaning, written as `trim`, `lower`, `upper` or `e164:CC`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Transform {
    /// White space at both ends goes.
    Trim,
    Lower,
    Upper,
    /// A phone number in national or international form becomes E.164; the digits are the country code for
    /// national forms.
    E164(String),
}

impl TryFrom<String> for Transform {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "trim" => Ok(Self::Trim),
            "lower" => Ok(Self::Lower),
            "upper" => Ok(Self::Upper),
            other => match other.strip_prefix("e164:") {
                Some(code) if is_country_code(code) => Ok(Self::E164(code.to_owned())),
                _ => {
                    Err(format!("no transform {other:?}; there are trim, lower, upper and e164:CC"))
                }
            },
        }
    }
}

fn is_country_code(code: &str) -> bool {
    (1..=3).contains(&code.len())
        && code.bytes().all(|b| b.is_ascii_digit())
        && !code.starts_with('0')
}

impl Transform {
    pub fn apply(&self, text: &str) -> Result<String, &'static str> {
        match self {
            Self::Trim => Ok(text.trim().to_owned()),
            Self::Lower => Ok(text.to_lowercase()),
            Self::Upper => Ok(text.to_uppercase()),
            Self::E164(code) => e164(text, code),
        }
    }
}

/// `+` and `00` open an international form; of a national form one leading zero, the trunk prefix, goes. A zero in
/// brackets, `+44 (0)20`, is the trunk prefix too.
fn e164(text: &str, code: &str) -> Result<String, &'static str> {
    let text = text.trim().replace("(0)", "");
    let separator = |c: char| matches!(c, ' ' | '-' | '.' | '/' | '(' | ')' | '\u{a0}');
    let kept: String = text.chars().filter(|c| !separator(*c)).collect();
    let (international, digits) = match kept.strip_prefix('+').or_else(|| kept.strip_prefix("00")) {
        Some(rest) => (true, rest),
        None => (false, kept.strip_prefix('0').unwrap_or(&kept)),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err("is not a phone number: it holds more than digits and separators, or no digit");
    }
    Ok(if international { format!("+{digits}") } else { format!("+{code}{digits}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str) -> Result<Transform, String> {
        Transform::try_from(name.to_owned())
    }

    #[test]
    fn only_known_names_are_taken() {
        assert_eq!(made("e164:49"), Ok(Transform::E164("49".into())));
        for bad in ["", "Trim", "e164", "e164:", "e164:049", "e164:4900", "e164:DE", "rot13"] {
            assert!(made(bad).unwrap_err().contains("there are trim"), "{bad}");
        }
    }

    #[test]
    fn phone_numbers_become_e164() {
        for (text, expected) in [
            ("030-0074321", "+49300074321"),
            ("+44 (0)20 7707 0707", "+442077070707"),
            ("0049 (711) 284.22/42", "+4971128422 42".replace(' ', "").as_str()),
            (" 2967 542 ", "+492967542"),
        ] {
            assert_eq!(made("e164:49").unwrap().apply(text).as_deref(), Ok(expected), "{text}");
        }
        for bad in ["", "ext. 12", "+", "12#3", "１２３"] {
            assert!(made("e164:49").unwrap().apply(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn case_and_space() {
        assert_eq!(made("trim").unwrap().apply(" Edinburgh\u{a0}\t").as_deref(), Ok("Edinburgh"));
        assert_eq!(made("lower").unwrap().apply("ÅKE").as_deref(), Ok("åke"));
        assert_eq!(made("upper").unwrap().apply("åke").as_deref(), Ok("ÅKE"));
    }
}
