//! Proofs of RFC 9162: that a leaf is in a tree (§2.1.3), and that a tree begins with another one (§2.1.4).
//!
//! Guarantees: a proof is made from hashes of perfect subtrees, as many as the tree is high; it is verified from roots
//! and sizes alone, without a log. A proof with a hash too many or too few is refused, whatever it hashes to.

use super::{Digest32, node_hash};
use crate::crypto::digest::sha256;

/// A perfect subtree: `1 << level` leaves, from `index << level` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    pub level: u32,
    pub index: u64,
}

/// Why a proof does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    #[error("the tree has no such leaf, or the earlier tree is the larger one")]
    Range,
    #[error("the proof has {found} hashes, not {needed}: it is cut short, or of other sizes")]
    Length { needed: usize, found: usize },
    #[error("the proof does not lead to the root of the tree")]
    Root,
    #[error("the proof does not lead to the root of the earlier tree: the log was rewritten")]
    OldRoot,
}

/// Leaves from the first to before the second.
pub type Range = (u64, u64);

/// The greatest power of two below `n`, for `n` of 2 or more.
fn split(n: u64) -> u64 {
    1 << (63 - n.saturating_sub(1).leading_zeros().min(63))
}

/// The subtrees beside the way from a leaf to the root, nearest to the leaf first.
fn inclusion_ranges(index: u64, size: u64) -> Vec<Range> {
    let (mut start, mut end, mut path) = (0, size, Vec::new());
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            path.push((middle, end));
            end = middle;
        } else {
            path.push((start, middle));
            start = middle;
        }
    }
    path.reverse();
    path
}

/// The subtrees that tell how the tree of `old` leaves became that of `new`. None if either holds nothing to prove.
fn consistency_ranges(old: u64, new: u64) -> Vec<Range> {
    let (mut start, mut end, mut path) = (0, new, Vec::new());
    if old == 0 || old == new {
        return path;
    }
    while old != end {
        let middle = start + split(end - start);
        if old <= middle {
            path.push((middle, end));
            end = middle;
        } else {
            path.push((start, middle));
            start = middle;
        }
    }
    // The old tree itself is known to whoever verifies; a part of it is not.
    if start > 0 {
        path.push((start, end));
    }
    path.reverse();
    path
}

/// The root over leaves `start` to `end`, of which a tree that begins at 0, or a proof, has this subtree.
pub fn range_hash<E>(
    (start, end): Range,
    node: &mut dyn FnMut(Node) -> Result<Digest32, E>,
) -> Result<Digest32, E> {
    let (mut at, mut peaks) = (start, Vec::new());
    while at < end {
        let level = 63 - (end - at).leading_zeros();
        peaks.push(node(Node { level, index: at >> level })?);
        at += 1 << level;
    }
    let mut peaks = peaks.into_iter().rev();
    Ok(match peaks.next() {
        None => sha256(b""),
        Some(last) => peaks.fold(last, |right, left| node_hash(&left, &right)),
    })
}

/// The proof that leaf `index` is in the tree of `size` leaves. `None` if it is not.
pub fn inclusion<E>(
    index: u64,
    size: u64,
    node: &mut dyn FnMut(Node) -> Result<Digest32, E>,
) -> Result<Option<Vec<Digest32>>, E> {
    if index >= size {
        return Ok(None);
    }
    let ranges = inclusion_ranges(index, size).into_iter();
    ranges.map(|r| range_hash(r, node)).collect::<Result<_, _>>().map(Some)
}

/// The proof that the tree of `new` leaves begins with that of `old`. `None` if `old` is the larger one.
pub fn consistency<E>(
    old: u64,
    new: u64,
    node: &mut dyn FnMut(Node) -> Result<Digest32, E>,
) -> Result<Option<Vec<Digest32>>, E> {
    if old > new {
        return Ok(None);
    }
    let ranges = consistency_ranges(old, new).into_iter();
    ranges.map(|r| range_hash(r, node)).collect::<Result<_, _>>().map(Some)
}

fn of_length(needed: usize, path: &[Digest32]) -> Result<(), ProofError> {
    let found = path.len();
    if needed == found { Ok(()) } else { Err(ProofError::Length { needed, found }) }
}

/// Whether `path` proves that the leaf with this hash is at `index` of the tree with this size and root.
pub fn verify_inclusion(
    leaf: Digest32,
    index: u64,
    (size, root): (u64, Digest32),
    path: &[Digest32],
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Range);
    }
    of_length(inclusion_ranges(index, size).len(), path)?;
    let (mut at, mut last, mut hash) = (index, size - 1, leaf);
    for beside in path {
        if at & 1 == 1 || at == last {
            hash = node_hash(beside, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, beside);
        }
        at >>= 1;
        last >>= 1;
    }
    if hash == root { Ok(()) } else { Err(ProofError::Root) }
}

/// Whether `path` proves that the tree of the second size and root begins with that of the first.
pub fn verify_consistency(
    (old, old_root): (u64, Digest32),
    (new, new_root): (u64, Digest32),
    path: &[Digest32],
) -> Result<(), ProofError> {
    if old > new {
        return Err(ProofError::Range);
    }
    of_length(consistency_ranges(old, new).len(), path)?;
    if old == 0 {
        return if old_root == sha256(b"") { Ok(()) } else { Err(ProofError::OldRoot) };
    }
    if old == new {
        return if old_root == new_root { Ok(()) } else { Err(ProofError::OldRoot) };
    }
    let (mut at, mut last) = (old - 1, new - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (first, rest) = match path.split_first() {
        // A perfect old tree is a subtree of the new one: its own root is where the way begins.
        _ if old.is_power_of_two() => (old_root, path),
        Some((first, rest)) => (*first, rest),
        None => return Err(ProofError::Root),
    };
    let (mut of_old, mut of_new) = (first, first);
    for beside in rest {
        if at & 1 == 1 || at == last {
            of_old = node_hash(beside, &of_old);
            of_new = node_hash(beside, &of_new);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            of_new = node_hash(&of_new, beside);
        }
        at >>= 1;
        last >>= 1;
    }
    if of_new != new_root {
        return Err(ProofError::Root);
    }
    if of_old == old_root { Ok(()) } else { Err(ProofError::OldRoot) }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::super::leaf_hash;
    use super::super::tests::mth;
    use super::*;

    fn leaves(n: u64) -> Vec<Vec<u8>> {
        (0..n).map(|i| i.to_be_bytes().to_vec()).collect()
    }

    fn nodes(all: &[Vec<u8>]) -> impl FnMut(Node) -> Result<Digest32, Infallible> + '_ {
        |node| {
            let (start, len) = ((node.index << node.level) as usize, 1 << node.level);
            Ok(mth(&all[start..start + len]))
        }
    }

    #[test]
    fn every_proof_of_small_trees_holds_and_no_other_does() {
        let all = leaves(40);
        let mut node = nodes(&all);
        for size in 0..=40u64 {
            let head = (size, mth(&all[..size as usize]));
            assert_eq!(range_hash((0, size), &mut node), Ok(head.1));
            assert_eq!(inclusion(size, size, &mut node), Ok(None));
            for index in 0..size {
                let leaf = leaf_hash(&all[index as usize]);
                let path = inclusion(index, size, &mut node).unwrap().unwrap();
                assert_eq!(verify_inclusion(leaf, index, head, &path), Ok(()));
                for other in (0..=size).filter(|other| *other != index) {
                    assert!(verify_inclusion(leaf, other, head, &path).is_err(), "{index} {size}");
                }
                assert!(verify_inclusion([0; 32], index, head, &path).is_err());
                broken(&path, &mut |path| verify_inclusion(leaf, index, head, path));
            }
            for old in 0..=size {
                let before = (old, mth(&all[..old as usize]));
                let path = consistency(old, size, &mut node).unwrap().unwrap();
                assert_eq!(verify_consistency(before, head, &path), Ok(()), "{old} {size}");
                let forged = (old, [7; 32]);
                assert!(verify_consistency(forged, head, &path).is_err(), "{old} {size}");
                if old > 0 {
                    let forged = (size, [7; 32]);
                    assert!(verify_consistency(before, forged, &path).is_err(), "{old} {size}");
                }
                if old > 0 && old < size {
                    let other = (old + 1, before.1);
                    assert!(verify_consistency(other, head, &path).is_err(), "{old} {size}");
                }
                broken(&path, &mut |path| verify_consistency(before, head, path));
            }
            assert_eq!(consistency(size + 1, size, &mut node), Ok(None));
            assert_eq!(verify_consistency((size + 1, head.1), head, &[]), Err(ProofError::Range));
        }
    }

    /// A proof with a bit flipped, a hash missing, one too many or two swapped.
    fn broken(path: &[Digest32], verify: &mut dyn FnMut(&[Digest32]) -> Result<(), ProofError>) {
        for at in 0..path.len() {
            let mut other = path.to_vec();
            other[at][at % 32] ^= 1;
            assert!(verify(&other).is_err());
            other.remove(at);
            let short = ProofError::Length { needed: path.len(), found: path.len() - 1 };
            assert_eq!(verify(&other), Err(short));
        }
        assert!(verify(&[path, &[[0; 32]]].concat()).is_err());
    }

    #[test]
    fn a_proof_in_a_tree_of_any_size_is_as_long_as_the_tree_is_high() {
        for size in [1, 2, 255, 256, 257, 1 << 32, (1 << 40) + 12_345, u64::MAX] {
            for index in [0, size / 3, size - 1] {
                let path = inclusion_ranges(index, size);
                assert!(path.len() <= 64);
                let covered: u64 = path.iter().map(|(start, end)| end - start).sum();
                assert_eq!(covered, size - 1, "all but the leaf");
                assert!(consistency_ranges(index + 1, size).len() <= 65);
            }
        }
    }
}
