//! RFC 9162 §2.1 Merkle hashing, kept as a frontier: the roots of the perfect subtrees of what was appended. Proofs and
//! tiles are below.

mod proof;
pub mod tile;

pub use proof::{
    Node, ProofError, Range, consistency, inclusion, inclusion_ranges, range_hash,
    verify_consistency, verify_inclusion,
};

use super::digest::{Digest32, sha256, sha256_parts};

const MAGIC: &[u8; 4] = b"LTH1";

/// Hash of a leaf.
pub fn leaf_hash(leaf: &[u8]) -> Digest32 {
    sha256_parts(&[&[0], leaf])
}

pub(super) fn node_hash(left: &Digest32, right: &Digest32) -> Digest32 {
    sha256_parts(&[&[1], left, right])
}

/// A tree that can grow: its size and the roots of its perfect subtrees, largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Digest32>,
}

impl Frontier {
    /// `None` when the number of peaks is not the number of one bits in `size`.
    pub fn from_parts(size: u64, peaks: Vec<Digest32>) -> Option<Self> {
        (u32::try_from(peaks.len()) == Ok(size.count_ones())).then_some(Self { size, peaks })
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn peaks(&self) -> &[Digest32] {
        &self.peaks
    }

    /// Appends a leaf, given by its hash.
    pub fn push(&mut self, leaf: Digest32) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The value of a frontier row (docs/FORMAT.md §7).
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&self.size.to_be_bytes());
        out.push(self.peaks.len() as u8);
        self.peaks.iter().for_each(|p| out.extend_from_slice(p));
        out
    }

    /// Reads a frontier row.
    pub fn decode(value: &[u8]) -> Option<Self> {
        let rest = value.strip_prefix(MAGIC.as_slice())?;
        let (size, rest) = rest.split_first_chunk()?;
        let (count, rest) = rest.split_first()?;
        if rest.len() != usize::from(*count) * 32 {
            return None;
        }
        let peaks = rest.chunks_exact(32).filter_map(|p| p.try_into().ok()).collect();
        Self::from_parts(u64::from_be_bytes(*size), peaks)
    }

    /// The tree's root; SHA-256 of nothing for the empty tree.
    pub fn root(&self) -> Digest32 {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            None => sha256(b""),
            Some(last) => peaks.fold(*last, |right, left| node_hash(left, &right)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// RFC 9162 §2.1.1, straight from its recursive definition.
    pub(super) fn mth(leaves: &[Vec<u8>]) -> Digest32 {
        match leaves {
            [] => sha256(b""),
            [one] => leaf_hash(one),
            many => {
                let mut k = 1;
                while k * 2 < many.len() {
                    k *= 2;
                }
                node_hash(&mth(&many[..k]), &mth(&many[k..]))
            }
        }
    }

    #[test]
    fn the_frontier_agrees_with_the_recursive_definition() {
        let mut leaves = Vec::new();
        let mut frontier = Frontier::default();
        for n in 0..70u8 {
            assert_eq!(frontier.root(), mth(&leaves));
            assert_eq!(
                Frontier::from_parts(frontier.size(), frontier.peaks().to_vec()),
                Some(frontier.clone())
            );
            let row = frontier.encode();
            assert_eq!(Frontier::decode(&row), Some(frontier.clone()));
            assert!((0..row.len()).all(|len| Frontier::decode(&row[..len]).is_none()));
            let leaf = vec![n; usize::from(n % 5)];
            frontier.push(leaf_hash(&leaf));
            leaves.push(leaf);
        }
        assert_eq!(Frontier::from_parts(3, vec![]), None);
    }

    #[test]
    fn the_well_known_vectors_of_certificate_transparency_hold() {
        let hex = |d: Digest32| d.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let mut tree = Frontier::default();
        assert_eq!(
            hex(tree.root()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        tree.push(leaf_hash(b""));
        assert_eq!(
            hex(tree.root()),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
        tree.push(leaf_hash(&[0]));
        assert_eq!(
            hex(tree.root()),
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
        );
    }
}
