//! Ed25519 (RFC 8032): the vault signs receipts with it, anyone verifies them.

use std::fmt;

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use super::aead::SealError;

pub const PUBLIC_KEY_BYTES: usize = 32;
pub const SIGNATURE_BYTES: usize = 64;

/// The vault's signing key.
pub struct Signer(Ed25519KeyPair);

impl Signer {
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, SealError> {
        Ed25519KeyPair::from_seed_unchecked(seed).map(Self).map_err(|_| SealError)
    }

    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut out = [0; SIGNATURE_BYTES];
        out.copy_from_slice(self.0.sign(message).as_ref());
        out
    }

    pub fn public_key(&self) -> [u8; PUBLIC_KEY_BYTES] {
        let mut out = [0; PUBLIC_KEY_BYTES];
        out.copy_from_slice(self.0.public_key().as_ref());
        out
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(secret)")
    }
}

/// Whether `signature` is `public`'s over `message`.
pub fn verify_ed25519(public: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
}

/// The public key of `seed`, and its signature of `message`.
#[cfg(test)]
pub fn sign_for_test(seed: [u8; 32], message: &[u8]) -> ([u8; 32], Vec<u8>) {
    let signer = Signer::from_seed(&seed).unwrap();
    (signer.public_key(), signer.sign(message).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_message_and_key_only() {
        let signer = Signer::from_seed(&[3; 32]).unwrap();
        let signature = signer.sign(b"m");
        assert!(verify_ed25519(&signer.public_key(), b"m", &signature));
        assert!(!verify_ed25519(&signer.public_key(), b"n", &signature));
        assert!(!verify_ed25519(&[0; 32], b"m", &signature));
        assert_eq!(
            signature,
            signer.sign(b"m"),
            "RFC 8032 signatures are deterministic: a receipt can be re-issued"
        );
    }
}
