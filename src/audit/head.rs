//! The head of the log, signed: how many entries there are and the root of the tree over them.

use crate::clock::UnixMillis;
use crate::crypto::{Digest32, SIGNATURE_BYTES, Signer, labels, verify_ed25519};
use crate::id::{Gen, VaultId};

/// What a signed head says. The anchor bound it before it was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub vault: VaultId,
    pub size: u64,
    pub root: Digest32,
    /// The anchor's generation that bound it.
    pub generation: Gen,
    pub at: UnixMillis,
}

/// Why a signed head is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error("it is not a head of an audit log")]
    Shape,
    #[error("its signature is not that key's")]
    Signature,
}

impl Head {
    /// `VD1 | vault[16] | size u64 | root[32] | generation u64 | at i64`.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = labels::AUDIT_HEAD.to_vec();
        out.extend_from_slice(&self.vault.0);
        out.extend_from_slice(&self.size.to_be_bytes());
        out.extend_from_slice(&self.root);
        out.extend_from_slice(&self.generation.0.to_be_bytes());
        out.extend_from_slice(&self.at.0.to_be_bytes());
        out
    }

    pub fn sign(&self, signer: &Signer) -> [u8; SIGNATURE_BYTES] {
        signer.sign(&self.bytes())
    }

    /// The head in these bytes, if this key signed them.
    pub fn verify(bytes: &[u8], signature: &[u8], public_key: &[u8]) -> Result<Self, HeadError> {
        let head = Self::decode(bytes).ok_or(HeadError::Shape)?;
        if !verify_ed25519(public_key, bytes, signature) {
            return Err(HeadError::Signature);
        }
        Ok(head)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(labels::AUDIT_HEAD)?;
        let (vault, rest) = rest.split_first_chunk()?;
        let (size, rest) = rest.split_first_chunk()?;
        let (root, rest) = rest.split_first_chunk()?;
        let (generation, at) = rest.split_first_chunk()?;
        Some(Self {
            vault: VaultId(*vault),
            size: u64::from_be_bytes(*size),
            root: *root,
            generation: Gen(u64::from_be_bytes(*generation)),
            at: UnixMillis(i64::from_be_bytes(at.try_into().ok()?)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_holds_for_its_key_and_bytes_only() {
        let signer = Signer::from_seed(&[3; 32]).unwrap();
        let head = Head {
            vault: VaultId([1; 16]),
            size: 2,
            root: [3; 32],
            generation: Gen(4),
            at: UnixMillis(-5),
        };
        let (bytes, signature) = (head.bytes(), head.sign(&signer));
        let verify = |bytes: &[u8]| Head::verify(bytes, &signature, &signer.public_key());
        assert_eq!(verify(&bytes), Ok(head));
        assert_eq!(Head::verify(&bytes, &signature, &[0; 32]), Err(HeadError::Signature));
        for bit in 0..bytes.len() * 8 {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&other).is_err(), "bit {bit}");
        }
        assert!((0..bytes.len()).all(|len| verify(&bytes[..len]) == Err(HeadError::Shape)));
    }
}
