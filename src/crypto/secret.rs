//! The types that secrets live in: one per role, built in place, zeroized on drop, without `Clone` or a telling
//! `Debug`.

use std::fmt;

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::os::{LockError, LockedBytes};

/// Fills a buffer from the operating system's random source.
///
/// # Panics
/// When the source fails: nothing may be sealed or named with bytes that are not random.
pub fn fill_random(out: &mut [u8]) {
    assert!(SystemRandom::new().fill(out).is_ok(), "the operating system's random source failed");
}

/// `N` random bytes that are not secret (ids, versions, salts).
pub fn random<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    fill_random(&mut out);
    out
}

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            pub fn generate() -> Self {
                let mut new = Self([0; 32]);
                fill_random(&mut new.0);
                new
            }

            /// Takes a copy of bytes that the caller zeroizes.
            pub fn copied(bytes: &[u8; 32]) -> Self {
                Self(*bytes)
            }

            /// The secret. Grep for this name to find every place that sees one.
            pub fn expose(&self) -> &[u8; 32] {
                &self.0
            }

            /// The same secret once more, for a second place in the tree that must hold it.
            pub fn duplicate(&self) -> Self {
                Self(self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(secret)"))
            }
        }
    };
}

secret!(
    /// Opens one node of the key tree.
    NodeKey
);
secret!(
    /// Opens one version of one record.
    Dek
);
secret!(
    /// Key-encryption key: seals the anchor. Its secrecy is no part of the erasure argument.
    Kek
);
secret!(
    /// Opens a tenant's metadata rows.
    MetaKey
);
secret!(
    /// Makes a tenant's blind-index tokens.
    IndexKey
);

/// A key in locked memory: the root key and the node cache's key.
pub struct LockedKey(LockedBytes);

impl LockedKey {
    pub fn generate() -> Result<Self, LockError> {
        LockedBytes::new(|b| fill_random(b)).map(Self)
    }

    pub fn copied(bytes: &[u8; 32]) -> Result<Self, LockError> {
        LockedBytes::new(|b| b.copy_from_slice(bytes)).map(Self)
    }

    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }
}

impl fmt::Debug for LockedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LockedKey(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_secret_shows_nothing() {
        let shown = format!(
            "{:?} {:?} {:?} {:?} {:?} {:?}",
            NodeKey::copied(&[0xab; 32]),
            Dek::copied(&[0xab; 32]),
            Kek::copied(&[0xab; 32]),
            MetaKey::copied(&[0xab; 32]),
            IndexKey::copied(&[0xab; 32]),
            LockedKey::copied(&[0xab; 32]).unwrap(),
        );
        assert_eq!(
            shown,
            "NodeKey(secret) Dek(secret) Kek(secret) MetaKey(secret) IndexKey(secret) LockedKey(secret)"
        );
    }
}
