//! The primitives that the format names, from RustCrypto: HKDF-SHA256, AES-256-GCM, HMAC-SHA256.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// Every key of the format has 256 bits.
pub type Key = [u8; 32];

/// `HKDF(salt, ikm, info, N)` of RFC 5869; an empty salt means 32 zero bytes.
pub fn hkdf<const N: usize>(salt: &[u8], ikm: &[u8], info: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    let salt = (!salt.is_empty()).then_some(salt);
    // Fails only above 255 * 32 bytes; the format asks for 16, 32 and (RFC vectors) 82.
    let done = Hkdf::<Sha256>::new(salt, ikm).expand(info, &mut out);
    debug_assert!(done.is_ok());
    out
}

/// The plaintext, if `key` opens `sealed` (ciphertext with tag) under this nonce and AAD.
pub fn open(key: &Key, nonce: &[u8; 12], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    Aes256Gcm::new(key.into()).decrypt(nonce.into(), Payload { msg: sealed, aad }).ok()
}

/// Key of the chunks after the first (FORMAT section 5).
pub fn chunk_key(dek: &Key) -> Key {
    hkdf(b"", dek, b"lethe/v1/chunk")
}

/// Blind index token of a normalised value (FORMAT section 4.3).
pub fn index_token(k_idx: &Key, record_type: u16, field: u16, value: &[u8]) -> [u8; 16] {
    let Ok(mut mac) = <Hmac<Sha256> as Mac>::new_from_slice(k_idx) else {
        return [0; 16]; // HMAC takes keys of every length
    };
    mac.update(b"VI1");
    mac.update(&record_type.to_be_bytes());
    mac.update(&field.to_be_bytes());
    mac.update(value);
    let full: [u8; 32] = mac.finalize().into_bytes().into();
    let (token, _) = full.split_at(16);
    token.try_into().unwrap_or_default()
}

/// What a request is compared by (FORMAT section 3.7).
pub fn fingerprint(dek: &Key, asked: &[u8]) -> [u8; 16] {
    let key: Key = hkdf(b"", dek, b"lethe/v1/request");
    let Ok(mut mac) = <Hmac<Sha256> as Mac>::new_from_slice(&key) else {
        return [0; 16]; // HMAC takes keys of every length
    };
    mac.update(asked);
    let full: [u8; 32] = mac.finalize().into_bytes().into();
    let (first, _) = full.split_at(16);
    first.try_into().unwrap_or_default()
}

/// SHA-256 over the concatenation of `parts`.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::{hex, unhex};

    /// RFC 5869, appendix A, test cases 1 to 3.
    #[test]
    fn rfc5869_vectors() {
        let okm: [u8; 42] = hkdf(
            &unhex("000102030405060708090a0b0c").unwrap(),
            &[0x0b; 22],
            &unhex("f0f1f2f3f4f5f6f7f8f9").unwrap(),
        );
        assert_eq!(
            hex(&okm),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
        );
        let bytes = |from: u8, to: u8| (from..=to).collect::<Vec<u8>>();
        let okm: [u8; 82] = hkdf(&bytes(0x60, 0xaf), &bytes(0, 0x4f), &bytes(0xb0, 0xff));
        assert!(hex(&okm).starts_with("b11e398dc80327a1c8e7f78c596a4934"));
        assert!(hex(&okm).ends_with("cc30c58179ec3e87c14c01d5c1f3434f1d87"));
        let okm: [u8; 42] = hkdf(b"", &[0x0b; 22], b"");
        assert_eq!(
            hex(&okm),
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
        );
    }

    /// GCM specification, test case 14 (256-bit zero key, one zero block), and a broken tag.
    #[test]
    fn gcm_vector() {
        let mut sealed =
            unhex("cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919").unwrap();
        assert_eq!(open(&[0; 32], &[0; 12], b"", &sealed).unwrap(), [0; 16]);
        sealed[31] ^= 1;
        assert!(open(&[0; 32], &[0; 12], b"", &sealed).is_none());
    }
}
