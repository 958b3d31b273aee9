//! RFC 9162 §2.1 Merkle hashing, kept as a frontier: the roots of the perfect subtrees of what was appended. Proofs and
//! tiles are below.

mod proof;
pub mod tile;

pub use proof::{
    Node, ProofError, Range, consistency, inclusion, range_hash, verify_consistency,
    verify_inclusion,
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
        self.push_tree(0, leaf);
    }

    /// Appends a perfect tree of 2^height leaves, given by its root. False, and nothing changes, if such a tree cannot
    /// begin here.
    pub fn push_tree(&mut self, height: u32, root: Digest32) -> bool {
        let (Some(count), mut hash) = (1u64.checked_shl(height), root) else { return false };
        let Some(size) = self.size.checked_add(count).filter(|_| self.size.is_multiple_of(count))
        else {
            return false;
        };
        for _ in 0..(self.size >> height).trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.peaks.push(hash);
        self.size = size;
        true
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
    fn a_perfect_tree_is_appended_as_its_leaves_would_be() {
        let leaves = |from: u64, to: u64| (from..to).map(|n| leaf_hash(&n.to_be_bytes()));
        for height in 0..4 {
            let count = 1 << height;
            for before in 0..20 {
                let mut plain = Frontier::default();
                leaves(0, before).for_each(|leaf| plain.push(leaf));
                let (mut tree, mut sub) = (plain.clone(), Frontier::default());
                leaves(before, before + count).for_each(|leaf| sub.push(leaf));
                let fits = before.is_multiple_of(count);
                assert_eq!(tree.push_tree(height, sub.root()), fits, "{height} at {before}");
                if fits {
                    leaves(before, before + count).for_each(|leaf| plain.push(leaf));
                }
                assert_eq!(tree, plain, "{height} at {before}");
            }
        }
        assert!(!Frontier::default().push_tree(64, [0; 32]));
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
