//! AES-256-GCM with a fresh random nonce at each seal (NIST SP 800-38D §8.2.2), in place.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::secret::fill_random;

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 12;
/// Bytes of a tag.
pub const TAG_BYTES: usize = 16;

/// It did not authenticate, or could not be sealed. Says no more on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sealed value does not authenticate")]
pub struct SealError;

fn key(bytes: &[u8; 32]) -> Result<LessSafeKey, SealError> {
    UnboundKey::new(&AES_256_GCM, bytes).map(LessSafeKey::new).map_err(|_| SealError)
}

/// Appends `nonce | ciphertext | tag` of `plain` to `out`, whose present content is not touched.
pub fn seal_append(
    key_bytes: &[u8; 32],
    aad: &[u8],
    plain: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), SealError> {
    let mut nonce = [0; NONCE_BYTES];
    fill_random(&mut nonce);
    let start = out.len() + NONCE_BYTES;
    out.reserve(NONCE_BYTES + plain.len() + TAG_BYTES);
    out.extend_from_slice(&nonce);
    out.extend_from_slice(plain);
    let body = out.get_mut(start..).ok_or(SealError)?;
    let tag = key(key_bytes)?
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), body)
        .map_err(|_| SealError)?;
    out.extend_from_slice(tag.as_ref());
    Ok(())
}

/// Opens `nonce | ciphertext | tag` in place and returns the plaintext's part of the buffer.
pub fn open_in_place<'a>(
    key_bytes: &[u8; 32],
    aad: &[u8],
    sealed: &'a mut [u8],
) -> Result<&'a mut [u8], SealError> {
    let (nonce, body) = sealed.split_first_chunk_mut::<NONCE_BYTES>().ok_or(SealError)?;
    key(key_bytes)?
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), body)
        .map_err(|_| SealError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_any_other_aad_or_key_is_refused() {
        let (k, aad) = ([7; 32], b"aad".as_slice());
        let mut sealed = vec![9, 9];
        seal_append(&k, aad, b"plain", &mut sealed).unwrap();
        assert_eq!(sealed.len(), 2 + NONCE_BYTES + 5 + TAG_BYTES);
        let sealed = &sealed[2..];
        assert_eq!(open_in_place(&k, aad, &mut sealed.to_vec()).unwrap(), b"plain");
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open_in_place(&k, aad, &mut bad), Err(SealError));
        }
        assert_eq!(open_in_place(&k, b"add", &mut sealed.to_vec()), Err(SealError));
        assert_eq!(open_in_place(&[8; 32], aad, &mut sealed.to_vec()), Err(SealError));
        for len in 0..sealed.len() {
            assert_eq!(open_in_place(&k, aad, &mut sealed[..len].to_vec()), Err(SealError));
        }
    }

    #[test]
    fn two_seals_of_the_same_bytes_differ() {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        seal_append(&[1; 32], b"", b"x", &mut a).unwrap();
        seal_append(&[1; 32], b"", b"x", &mut b).unwrap();
        assert_ne!(a, b);
    }
}
