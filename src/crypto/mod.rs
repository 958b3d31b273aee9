//! The only users of ring: AEAD, key derivation, signatures, Merkle hashing, and the types that secrets live in.
//!
//! Every label and every AAD layout of docs/FORMAT.md is in [`labels`], so that two can never be confused.

mod aead;
pub mod checkpoint;
mod digest;
pub mod labels;
pub mod merkle;
pub mod note;
mod secret;
mod sign;

pub use aead::{NONCE_BYTES, SealError, TAG_BYTES, open_in_place, seal_append};
pub use digest::{Digest32, hkdf, hkdf32, hmac_sha256, kek_id, sha256, sha256_parts};
pub use secret::{
    Dek, IndexKey, Kek, LockedKey, MetaKey, NamesKey, NodeKey, SaltKey, SecretBytes, fill_random,
    random,
};
#[cfg(test)]
pub use sign::sign_for_test;
pub use sign::{PUBLIC_KEY_BYTES, SIGNATURE_BYTES, Signer, verify_ed25519};
