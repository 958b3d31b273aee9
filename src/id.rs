//! Newtypes for every id. Mixing two of them does not compile; all encode big-endian as docs/FORMAT.md says.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Greatest value of a 24-bit ordinal.
pub const ORDINAL_MAX: u32 = (1 << 24) - 1;

/// The parts one after the other. `N` is the sum of their lengths.
pub fn joined<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut out = [0; N];
    let mut at = 0;
    for part in parts {
        // A sum that is wrong shows in every row that the function is used for.
        let Some(place) = out.get_mut(at..at + part.len()) else { break };
        place.copy_from_slice(part);
        at += part.len();
    }
    debug_assert_eq!(at, N, "parts of another length");
    out
}

macro_rules! ordinal {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(u32);

        impl $name {
            /// `None` above 2^24 − 1.
            pub fn new(n: u32) -> Option<Self> {
                (n <= ORDINAL_MAX).then_some(Self(n))
            }

            pub const fn of(n: u16) -> Self {
                Self(n as u32)
            }

            pub const fn value(self) -> u32 {
                self.0
            }

            pub fn bytes(self) -> [u8; 3] {
                let [_, a, b, c] = self.0.to_be_bytes();
                [a, b, c]
            }

            pub fn from_bytes(b: [u8; 3]) -> Self {
                let [x, y, z] = b;
                Self(u32::from_be_bytes([0, x, y, z]))
            }
        }
    };
}

ordinal!(
    /// Which tenant, in the order of their creation.
    TenantOrd
);
ordinal!(
    /// Which retention bucket of a tenant: one per (record type, expiry day), and a new one after each kill.
    BucketOrd
);
ordinal!(
    /// Which key page of a bucket.
    PageOrd
);
ordinal!(
    /// Which index run of a bucket.
    RunOrd
);

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", uuid::Uuid::from_bytes(self.0))
            }
        }

        impl $name {
            /// Its text, written into `out`.
            pub fn encode(self, out: &mut [u8; 36]) -> &str {
                uuid::Uuid::from_bytes(self.0).hyphenated().encode_lower(out)
            }

            /// Parses the hyphenated lower-case form only.
            pub fn parse(s: &str) -> Option<Self> {
                let id = uuid::Uuid::try_parse(s).ok()?;
                (id.to_string() == s).then_some(Self(id.into_bytes()))
            }
        }
    };
}

random_id!(
    /// A vault.
    VaultId
);
random_id!(
    /// A record, or a subject (a subject is a record of type 0 about itself).
    RecordId
);

random_id!(
    /// A caller's name for one call, so that its repetition has no second effect.
    RequestId
);

impl fmt::Debug for VaultId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VaultId({self})")
    }
}

/// Record ids never reach a log by accident.
impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordId(..)")
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestId(..)")
    }
}

impl RequestId {
    /// A random UUID (version 4, RFC 9562) in its usual form, and no other: a name made from a customer's data would
    /// outlive that data.
    pub fn parse_random(s: &str) -> Option<Self> {
        let id = Self::parse(s)?;
        (uuid::Uuid::from_bytes(id.0).get_version_num() == 4).then_some(id)
    }
}

/// Which schema of a tenant; 0 is the built-in type `subject`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TypeOrd(pub u16);

/// Which field of a schema; never reused within one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldOrd(pub u16);

/// Version of a record: 1, 2, …
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecVer(pub u64);

/// The anchor's generation: one more with each batch that removes keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Gen(pub u64);

/// Days since 1970-01-01, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i32);

impl Day {
    /// The expiry day of what is kept until it is erased by request.
    pub const OPEN_ENDED: Day = Day(i32::MAX);
    /// What a legal hold took out of the bucket of its day.
    pub const HELD: Day = Day(i32::MAX - 1);
    /// The last day that something can end on.
    pub const LAST: Day = Day(i32::MAX - 2);
}

/// Names one DEK: a slot of a page. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kid {
    pub tenant: TenantOrd,
    pub bucket: BucketOrd,
    pub page: PageOrd,
    pub slot: u8,
}

impl Kid {
    pub fn bytes(self) -> [u8; 10] {
        let [a, b, c] = self.tenant.bytes();
        let [d, e, f] = self.bucket.bytes();
        let [g, h, i] = self.page.bytes();
        [a, b, c, d, e, f, g, h, i, self.slot]
    }

    pub fn from_bytes(k: [u8; 10]) -> Self {
        let [a, b, c, d, e, f, g, h, i, slot] = k;
        Self {
            tenant: TenantOrd::from_bytes([a, b, c]),
            bucket: BucketOrd::from_bytes([d, e, f]),
            page: PageOrd::from_bytes([g, h, i]),
            slot,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kid_survives_its_bytes() {
        let kid = Kid {
            tenant: TenantOrd::of(1),
            bucket: BucketOrd::new(0x0a0b0c).unwrap(),
            page: PageOrd::new(ORDINAL_MAX).unwrap(),
            slot: 127,
        };
        assert_eq!(Kid::from_bytes(kid.bytes()), kid);
        assert_eq!(kid.bytes()[3..6], [0x0a, 0x0b, 0x0c]);
    }

    #[test]
    fn only_the_canonical_form_of_an_id_parses() {
        let id = RecordId([7; 16]);
        assert_eq!(RecordId::parse(&id.to_string()), Some(id));
        assert_eq!(RecordId::parse(&id.to_string().to_uppercase().replace('7', "A")), None);
        assert_eq!(RecordId::parse("07070707070707070707070707070707"), None);
        assert!(TenantOrd::new(ORDINAL_MAX + 1).is_none());
    }
}
