//! Checks of what anyone may check without a secret: an Ed25519 signature, a SHA-256 hash.

use ring::{digest, signature};

/// Whether `signature` is the Ed25519 signature (RFC 8032) of `message` under the 32-byte key `public`.
pub fn verify_ed25519(public: &[u8], message: &[u8], signature: &[u8]) -> bool {
    signature::UnparsedPublicKey::new(&signature::ED25519, public)
        .verify(message, signature)
        .is_ok()
}

/// SHA-256 over the concatenation of `parts`.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut hash = [0; 32];
    for (to, from) in hash.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    hash
}

/// The public key of `seed`, and its signature of `message`.
#[cfg(test)]
pub(crate) fn sign_for_test(seed: [u8; 32], message: &[u8]) -> ([u8; 32], Vec<u8>) {
    use ring::signature::KeyPair;
    let pair = signature::Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    let public = pair.public_key().as_ref().try_into().unwrap();
    (public, pair.sign(message).as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(s: &str) -> Vec<u8> {
        (0..s.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&s[i..i + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn a_signature_counts_for_its_message_and_key_only() {
        let (public, signature) = sign_for_test([7; 32], b"gone");
        assert!(verify_ed25519(&public, b"gone", &signature));
        assert!(!verify_ed25519(&public, b"Gone", &signature));
        assert!(!verify_ed25519(&[9; 32], b"gone", &signature));
        assert!(!verify_ed25519(&public, b"gone", &signature[..63]));
        assert!(!verify_ed25519(&[], b"gone", &signature));
    }

    /// RFC 8032 §7.1, TEST 2.
    #[test]
    fn the_vector_of_rfc_8032_verifies() {
        let public = hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        let signature = hex(concat!(
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da",
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ));
        assert!(verify_ed25519(&public, &[0x72], &signature));
    }

    /// FIPS 180-2, appendix B.1.
    #[test]
    fn the_vector_of_fips_180_hashes() {
        let abc = hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(sha256(&[b"a", b"", b"bc"]).as_slice(), abc);
    }
}
