//! Names that people give: of tenants, record types, purposes and fields.
//!
//! Guarantees: a [`Slug`] or [`FieldName`] holds only its grammar, at most 63 bytes of lower-case
//! ASCII, so that it can stand in a resource name, a message, a log or a metric without escaping.

use std::borrow::Borrow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest name.
pub const NAME_BYTES_MAX: usize = 63;

/// A text that is not a name of its kind. It says nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("must be 1 to 63 of a-z, 0-9 and -, begin with a letter and not end with -")]
    Slug,
    #[error("must be 1 to 63 of a-z, 0-9 and _, and begin with a letter")]
    Field,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:ident, $error:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn parse(text: &str) -> Result<Self, NameError> {
                $check(text).then(|| Self(text.to_owned())).ok_or($error)
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

name!(
    /// The id of a tenant, a record type or a purpose: `[a-z]([a-z0-9-]{0,61}[a-z0-9])?`.
    Slug,
    is_slug,
    NameError::Slug
);
name!(
    /// The name of a field: `[a-z][a-z0-9_]{0,62}`.
    FieldName,
    is_field_name,
    NameError::Field
);

fn is_slug(text: &str) -> bool {
    is_name(text, b'-') && !text.ends_with('-')
}

fn is_field_name(text: &str) -> bool {
    is_name(text, b'_')
}

fn is_name(text: &str, joiner: u8) -> bool {
    text.len() <= NAME_BYTES_MAX
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == joiner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_their_grammar() {
        let longest = "a".repeat(63);
        for text in ["a", "shop", "shop-2", "a--b", "a9", longest.as_str()] {
            assert_eq!(Slug::parse(text).unwrap().as_str(), text);
        }
        for text in ["a", "phone", "phone_2", "a__b", "a_", longest.as_str()] {
            assert_eq!(FieldName::parse(text).unwrap().as_str(), text);
        }
        let too_long = "a".repeat(64);
        for text in [
            "",
            "A",
            "1a",
            "-a",
            "_a",
            "aB",
            "a b",
            "a/b",
            "a.b",
            "é",
            "aé",
            "a\0",
            "a\n",
            "张",
            too_long.as_str(),
        ] {
            assert_eq!(Slug::parse(text), Err(NameError::Slug), "{text:?}");
            assert_eq!(FieldName::parse(text), Err(NameError::Field), "{text:?}");
        }
        assert!(Slug::parse("a_b").is_err() && Slug::parse("a-").is_err());
        assert!(FieldName::parse("a-b").is_err());
    }

    #[test]
    fn a_name_read_from_json_is_checked_too() {
        assert_eq!(serde_json::from_str::<Slug>("\"shop-2\"").unwrap().as_str(), "shop-2");
        assert!(serde_json::from_str::<Slug>("\"Shop\"").is_err());
        assert!(serde_json::from_str::<FieldName>("\"a-b\"").is_err());
    }
}
