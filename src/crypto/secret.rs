//! The types that secrets live in: one per role, built in place, zeroized on drop, without `Clone` or a telling
//! `Debug`.

use std::fmt;
use std::ops::{Deref, DerefMut};

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::{Zeroize, ZeroizeOnDrop, optimization_barrier};

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

/// Secret bytes of any number, overwritten when dropped: all that was allocated, in one pass.
#[derive(Default)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Room for as many bytes: growing beyond them would leave a copy behind.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Zeros, over what is in use and what is not.
    fn wipe(&mut self) {
        self.0.clear();
        self.0.resize(self.0.capacity(), 0);
        optimization_barrier(self.0.as_slice());
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(secret)")
    }
}

impl Deref for SecretBytes {
    type Target = Vec<u8>;
    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for SecretBytes {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Zeroize for SecretBytes {
    fn zeroize(&mut self) {
        self.wipe();
        self.0.clear();
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl ZeroizeOnDrop for SecretBytes {}

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident in $place:ty) => {
        $(#[$doc])*
        pub struct $name($place);

        impl Zeroize for $name {
            fn zeroize(&mut self) {
                self.0.fill(0);
                optimization_barrier(self.0.as_slice());
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                self.zeroize();
            }
        }

        impl ZeroizeOnDrop for $name {}

        impl $name {
            pub fn generate() -> Self {
                let mut new = Self(<$place>::default());
                fill_random(new.0.as_mut_slice());
                new
            }

            /// Takes a copy of bytes that the caller zeroizes.
            pub fn copied(bytes: &[u8; 32]) -> Self {
                let mut new = Self(<$place>::default());
                new.0.copy_from_slice(bytes);
                new
            }

            /// The secret. Grep for this name to find every place that sees one.
            pub fn expose(&self) -> &[u8; 32] {
                &self.0
            }

            /// The same secret once more, for a second place in the tree that must hold it.
            pub fn duplicate(&self) -> Self {
                Self::copied(self.expose())
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
    NodeKey in [u8; 32]
);
secret!(
    /// Opens one version of one record. Boxed: what is moved leaves a copy on the stack, and a record's key must not be
    /// there after its erasure.
    Dek in Box<[u8; 32]>
);
secret!(
    /// Key-encryption key: seals the anchor. Its secrecy is no part of the erasure argument.
    Kek in [u8; 32]
);
secret!(
    /// Opens a tenant's metadata rows.
    MetaKey in [u8; 32]
);
secret!(
    /// Makes a tenant's blind-index tokens.
    IndexKey in [u8; 32]
);
secret!(
    /// Opens the names of principals.
    NamesKey in [u8; 32]
);
secret!(
    /// Salts the ids in the list of what went with a bucket.
    SaltKey in [u8; 32]
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
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            NodeKey::copied(&[0xab; 32]),
            Dek::copied(&[0xab; 32]),
            Kek::copied(&[0xab; 32]),
            MetaKey::copied(&[0xab; 32]),
            IndexKey::copied(&[0xab; 32]),
            NamesKey::copied(&[0xab; 32]),
            SaltKey::copied(&[0xab; 32]),
            LockedKey::copied(&[0xab; 32]).unwrap(),
        );
        assert_eq!(
            shown,
            "NodeKey(secret) Dek(secret) Kek(secret) MetaKey(secret) IndexKey(secret) NamesKey(secret) \
             SaltKey(secret) LockedKey(secret)"
        );
    }

    #[test]
    fn wiping_covers_all_that_was_allocated() {
        let mut bytes = SecretBytes::new(vec![7; 100]);
        bytes.truncate(40);
        let place = bytes.as_ptr();
        bytes.wipe();
        assert!(bytes.len() >= 100 && bytes.iter().all(|b| *b == 0));
        assert_eq!(bytes.as_ptr(), place, "the same memory");
        bytes.zeroize();
        assert!(bytes.is_empty());
        let mut key = NodeKey::copied(&[7; 32]);
        key.zeroize();
        assert_eq!(key.expose(), &[0; 32]);
    }
}
