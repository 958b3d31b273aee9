//! R18: trees, proofs, tiles and notes against those of another implementation. `tests/go` makes the vectors with
//! golang.org/x/mod, and compares them with the file each time that it runs.

use std::collections::BTreeMap;
use std::convert::Infallible;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lethe::crypto::checkpoint::Checkpoint;
use lethe::crypto::merkle::tile::{Part, Tile, node_from_tiles, root_from_tiles, root_of};
use lethe::crypto::merkle::{
    Frontier, Node, consistency, inclusion, leaf_hash, verify_consistency, verify_inclusion,
};
use lethe::crypto::note::VerifierKey;
use lethe::crypto::{Digest32, Signer, sha256_parts};

const VECTORS: &str = include_str!("../golden/tlog.txt");
const LARGEST: u64 = 200_000;

/// Hashes of every level of tiles; leaf n is n in decimal.
struct Levels(Vec<Vec<Digest32>>);

impl Levels {
    fn new() -> Self {
        let leaves = (0..LARGEST).map(|n| leaf_hash(n.to_string().as_bytes())).collect();
        let mut levels: Vec<Vec<Digest32>> = vec![leaves];
        while let Some(below) = levels.last().filter(|l| l.len() >= 256) {
            levels.push(below.chunks_exact(256).map(root_of).collect());
        }
        Self(levels)
    }

    fn hashes(&self, level: u8, first: u64, count: u64) -> Result<Vec<Digest32>, Infallible> {
        Ok(self.0[usize::from(level)][first as usize..(first + count) as usize].to_vec())
    }

    fn node(&self, node: Node) -> Result<Digest32, Infallible> {
        node_from_tiles(node, &mut |l, f, c| self.hashes(l, f, c))
    }

    fn root(&self, size: u64) -> Digest32 {
        root_from_tiles(size, &mut |l, f, c| self.hashes(l, f, c)).unwrap()
    }

    fn inclusion(&self, index: u64, size: u64) -> Vec<u8> {
        let path = inclusion(index, size, &mut |n| self.node(n)).unwrap().unwrap();
        let (leaf, head) = (self.0[0][index as usize], (size, self.root(size)));
        assert_eq!(verify_inclusion(leaf, index, head, &path), Ok(()));
        counted(path)
    }

    fn consistency(&self, old: u64, size: u64) -> Vec<u8> {
        let path = consistency(old, size, &mut |n| self.node(n)).unwrap().unwrap();
        let (before, head) = ((old, self.root(old)), (size, self.root(size)));
        assert_eq!(verify_consistency(before, head, &path), Ok(()));
        counted(path)
    }
}

/// A proof and how long it is.
fn counted(path: Vec<Digest32>) -> Vec<u8> {
    [path.as_flattened(), &[path.len() as u8]].concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn hash_of(parts: &[Vec<u8>]) -> String {
    hex(&sha256_parts(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>()))
}

#[test]
fn roots_proofs_tiles_and_notes_are_those_of_another_implementation() {
    let levels = Levels::new();
    let signer = Signer::from_seed(&[3; 32]).unwrap();
    let mut seen = BTreeMap::<&str, usize>::new();
    let mut grown = Frontier::default();
    for line in VECTORS.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        *seen.entry(words[0]).or_default() += 1;
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        match words[0] {
            "small" => {
                let size = number(1);
                grown.push(levels.0[0][size as usize - 1]);
                assert_eq!((grown.size(), hex(&grown.root()).as_str()), (size, words[2]));
                assert_eq!(hex(&levels.root(size)), words[2]);
                let all: Vec<_> = (0..size).map(|n| levels.inclusion(n, size)).collect();
                assert_eq!(hash_of(&all), words[3], "inclusion in {size}");
                let all: Vec<_> = (1..=size).map(|n| levels.consistency(n, size)).collect();
                assert_eq!(hash_of(&all), words[4], "consistency with {size}");
            }
            "large" => {
                let (size, index, old) = (number(1), number(3), number(5));
                assert_eq!(hex(&levels.root(size)), words[2]);
                assert_eq!(hash_of(&[levels.inclusion(index, size)]), words[4], "{line}");
                assert_eq!(hash_of(&[levels.consistency(old, size)]), words[6], "{line}");
            }
            "tiles" => {
                let mut all = Vec::new();
                for tile in Tile::all_since(0, number(1)) {
                    let Part::Hashes(level) = tile.part else { continue };
                    let hashes = levels.hashes(level, tile.first(), tile.width.into()).unwrap();
                    all.push(hashes.as_flattened().to_vec());
                    all.push(tile.to_string().into_bytes());
                }
                assert_eq!(hash_of(&all), words[2], "{line}");
            }
            "note" => {
                let theirs = String::from_utf8(STANDARD.decode(words[2]).unwrap()).unwrap();
                let (opened, _) = Checkpoint::open(&theirs, signer.public_key()).unwrap();
                assert_eq!(opened.root, levels.root(opened.size));
                assert_eq!(opened.sign(&signer, []).unwrap(), theirs, "to the byte");
                let key = opened.origin.key(signer.public_key()).unwrap();
                assert_eq!(VerifierKey::parse(words[1]), Ok(key));
            }
            other => panic!("a line of no known kind: {other}"),
        }
    }
    assert_eq!(seen, [("large", 60), ("note", 2), ("small", 300), ("tiles", 8)].into());
}
