//! Cosignatures of checkpoints: one row for each log and witness, with the largest checkpoint that it has cosigned
//! (docs/FORMAT.md §10.4).

use crate::class::Log;
use crate::crypto::checkpoint::{Checkpoint, Origin};
use crate::crypto::note::{NoteSignature, VerifierKey};
use crate::crypto::{SIGNATURE_BYTES, sha256};
use crate::store::sum::with_sum;
use crate::vault::rows::Fields;

const MAGIC: &[u8; 4] = b"LTC1";

/// A witness's word for a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cosigned {
    pub size: u64,
    pub root: [u8; 32],
    /// Seconds since 1970.
    pub at: u64,
    pub signature: [u8; SIGNATURE_BYTES],
}

/// Key of a witness's row of a log.
pub fn row_key(log: Log, witness: &VerifierKey) -> Vec<u8> {
    let hash = sha256(witness.to_string().as_bytes());
    [b"c".as_slice(), &[log as u8], &hash].concat()
}

impl Cosigned {
    pub fn encode(&self) -> Vec<u8> {
        let numbers = [self.size.to_be_bytes(), self.at.to_be_bytes()];
        with_sum([MAGIC, numbers.as_flattened(), &self.root, &self.signature].concat())
    }

    pub fn decode(value: &[u8]) -> Option<Self> {
        let mut fields = Fields::after(value, MAGIC)?;
        let (size, at) = (fields.take()?, fields.take()?);
        let (size, at) = (u64::from_be_bytes(size), u64::from_be_bytes(at));
        let whole = Self { size, at, root: fields.take()?, signature: fields.take()? };
        fields.end(whole)
    }

    pub fn checkpoint(&self, origin: Origin) -> Checkpoint {
        Checkpoint { origin, size: self.size, root: self.root }
    }

    /// Its line under the checkpoint.
    pub fn line(&self, witness: &VerifierKey) -> NoteSignature {
        NoteSignature::cosignature(witness, self.at, &self.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_as_it_was_written_and_only_so() {
        let one = Cosigned { size: 1, root: [2; 32], at: 3, signature: [4; 64] };
        let row = one.encode();
        assert_eq!((row.len(), Cosigned::decode(&row)), (120, Some(one)));
        assert!((0..row.len()).all(|len| Cosigned::decode(&row[..len]).is_none()));
        for bit in 0..row.len() * 8 {
            let mut bad = row.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Cosigned::decode(&bad), None);
        }
    }
}
