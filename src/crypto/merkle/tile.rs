//! Tiles of a tree (C2SP tlog-tiles, height 8): which there are, what they are called, and what their bytes are.
//!
//! Guarantees: a path has one spelling; what parses prints as it was. A tile is named by its level (in steps of eight)
//! and its number; the tile over a tree of `size` leaves is as wide as the tree fills it.

use std::fmt;

use super::{Digest32, Frontier, Node, range_hash};

/// Levels of the tree in a tile.
pub const TILE_HEIGHT: u32 = 8;
/// Hashes in a full tile.
pub const TILE_WIDTH: u64 = 1 << TILE_HEIGHT;
/// Bytes of a full tile of hashes.
pub const TILE_BYTES: usize = 32 << TILE_HEIGHT;
/// Levels of tiles that a tree of 2^64 leaves has.
pub const TILE_LEVELS: u8 = 8;
/// Longest path of a tile.
const PATH_BYTES_MAX: usize = 64;

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The leaves themselves, each after its length.
    Entries,
    /// Hashes; of level 0 those of the leaves, above of the full tiles of the level below.
    Hashes(u8),
}

/// One tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    pub part: Part,
    pub index: u64,
    /// From 1 to [`TILE_WIDTH`].
    pub width: u16,
}

/// A text that names no tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not tile/LEVEL/NUMBER or tile/entries/NUMBER as C2SP tlog-tiles writes it")]
pub struct TilePathError;

/// Hashes of a level of tiles in a tree of `size` leaves.
pub fn hashes_at(level: u8, size: u64) -> u64 {
    size.checked_shr(TILE_HEIGHT * u32::from(level)).unwrap_or(0)
}

impl Tile {
    pub fn is_full(&self) -> bool {
        u64::from(self.width) == TILE_WIDTH
    }

    /// The level whose hashes it goes by: entries go by those of the leaves.
    pub fn level(&self) -> u8 {
        match self.part {
            Part::Entries => 0,
            Part::Hashes(level) => level,
        }
    }

    /// Number of its first hash in its level.
    pub fn first(&self) -> u64 {
        self.index.saturating_mul(TILE_WIDTH)
    }

    /// Whether a tree of `size` leaves has all of its hashes.
    pub fn is_in(&self, size: u64) -> bool {
        let end = self.first().checked_add(u64::from(self.width));
        end.is_some_and(|end| end <= hashes_at(self.level(), size))
    }

    /// The tiles of a tree of `size` leaves whose hashes are not all in full tiles of the tree of `old` leaves: entries
    /// first, then from the leaves up.
    pub fn all_since(old: u64, size: u64) -> impl Iterator<Item = Self> {
        let parts = std::iter::once(Part::Entries).chain((0..TILE_LEVELS).map(Part::Hashes));
        parts.flat_map(move |part| {
            let level = Self { part, index: 0, width: 1 }.level();
            let (from, end) = (hashes_at(level, old), hashes_at(level, size));
            (from / TILE_WIDTH..end.div_ceil(TILE_WIDTH)).map(move |index| {
                let width = (end - index * TILE_WIDTH).min(TILE_WIDTH);
                Self { part, index, width: width as u16 }
            })
        })
    }

    /// Whether it says something of entries before a log's minimum index alone, and of each of them.
    pub fn is_pruned(&self, minimum_index: u64) -> bool {
        let end = self.first().saturating_add(TILE_WIDTH);
        self.level() == 0 && end <= minimum_index
    }

    pub fn parse(path: &str) -> Result<Self, TilePathError> {
        Self::read(path).filter(|tile| tile.to_string() == path).ok_or(TilePathError)
    }

    /// More than is right: leading zeros and the like are found by printing it again.
    fn read(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("tile/").filter(|_| path.len() <= PATH_BYTES_MAX)?;
        let (level, rest) = rest.split_once('/')?;
        let part = match level {
            "entries" => Part::Entries,
            level => Part::Hashes(level.parse().ok().filter(|level| *level < TILE_LEVELS)?),
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, width.parse().ok().filter(|w| (1..256).contains(w))?),
            None => (rest, TILE_WIDTH as u16),
        };
        let mut index = 0u64;
        for digits in number.split('/') {
            let digits = digits.strip_prefix('x').unwrap_or(digits);
            let digits: u64 = Some(digits).filter(|d| d.len() == 3)?.parse().ok()?;
            index = index.checked_mul(1_000)?.checked_add(digits)?;
        }
        Some(Self { part, index, width })
    }

    /// The hashes in a tile's bytes; `None` if they are not as many as it is wide.
    pub fn hashes_in(&self, bytes: &[u8]) -> Option<Vec<Digest32>> {
        let (hashes, []) = bytes.as_chunks::<32>() else { return None };
        (hashes.len() == usize::from(self.width)).then(|| hashes.to_vec())
    }

    /// The entries in a tile's bytes; `None` if they are not as many as it is wide.
    pub fn entries_in<'a>(&self, bytes: &'a [u8]) -> Option<Vec<&'a [u8]>> {
        let (mut entries, mut rest) = (Vec::new(), bytes);
        while let Some((len, after)) = rest.split_first_chunk() {
            let (entry, after) = after.split_at_checked(u16::from_be_bytes(*len).into())?;
            entries.push(entry);
            rest = after;
        }
        (rest.is_empty() && entries.len() == usize::from(self.width)).then_some(entries)
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            Part::Entries => f.write_str("tile/entries/")?,
            Part::Hashes(level) => write!(f, "tile/{level}/")?,
        }
        let (mut high, mut groups) = (self.index / 1_000, Vec::new());
        while high > 0 {
            groups.push(high % 1_000);
            high /= 1_000;
        }
        groups.iter().rev().try_for_each(|group| write!(f, "x{group:03}/"))?;
        write!(f, "{:03}", self.index % 1_000)?;
        if self.is_full() { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

/// The bytes of a tile of entries; `None` if one is longer than the format can say.
pub fn bundle<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for entry in entries {
        out.extend_from_slice(&u16::try_from(entry.len()).ok()?.to_be_bytes());
        out.extend_from_slice(entry);
    }
    Some(out)
}

/// The root over hashes of one level, as if they were leaves' hashes.
pub fn root_of(hashes: &[Digest32]) -> Digest32 {
    let mut tree = Frontier::default();
    hashes.iter().for_each(|hash| tree.push(*hash));
    tree.root()
}

/// The hash of a perfect subtree, from the hashes of a level of tiles: `hashes(level, first, count)`, all of one tile.
pub fn node_from_tiles<E>(
    node: Node,
    hashes: &mut dyn FnMut(u8, u64, u64) -> Result<Vec<Digest32>, E>,
) -> Result<Digest32, E> {
    let (level, height) = (node.level / TILE_HEIGHT, node.level % TILE_HEIGHT);
    let level = u8::try_from(level).unwrap_or(TILE_LEVELS);
    Ok(root_of(&hashes(level, node.index << height, 1 << height)?))
}

/// The root over the first `size` leaves, from the hashes of a level of tiles.
pub fn root_from_tiles<E>(
    size: u64,
    hashes: &mut dyn FnMut(u8, u64, u64) -> Result<Vec<Digest32>, E>,
) -> Result<Digest32, E> {
    range_hash((0, size), &mut |node| node_from_tiles(node, hashes))
}

/// The tree over the first `size` leaves, as it can grow on, from the hashes of a level of tiles.
pub fn frontier_from_tiles<E>(
    size: u64,
    hashes: &mut dyn FnMut(u8, u64, u64) -> Result<Vec<Digest32>, E>,
) -> Result<Frontier, E> {
    let mut tree = Frontier::default();
    for level in (0..u64::BITS).rev().filter(|level| size >> level & 1 == 1) {
        let node = Node { level, index: tree.size() >> level };
        tree.push_tree(level, node_from_tiles(node, hashes)?);
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::crypto::merkle::leaf_hash;

    #[test]
    fn a_path_has_one_spelling() {
        for good in [
            "tile/0/000",
            "tile/0/000.p/1",
            "tile/7/x001/x234/067",
            "tile/entries/x001/000.p/255",
            "tile/entries/x018/x446/x744/x073/x709/x551/615",
        ] {
            assert_eq!(Tile::parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "",
            "tile",
            "tile/",
            "tile/0",
            "tile/0/",
            "tile/0/0",
            "tile/0/0000",
            "tile/00/000",
            "tile/8/000",
            "tile/-1/000",
            "tile/+1/000",
            "tile/0/x000/001",
            "tile/0/001/002",
            "tile/0/x001",
            "tile/0/00a",
            "tile/0/+01",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/+1",
            "tile/0/000.p/1/",
            "tile/0/000.p/1.p/1",
            "tile/data/000",
            "/tile/0/000",
            "tile/0/../000",
            "tile/entries/x999/x999/x999/x999/x999/x999/x999/999",
            "tile/0/x018/x446/x744/x073/x709/x551/616",
        ] {
            assert_eq!(Tile::parse(bad), Err(TilePathError), "{bad}");
        }
    }

    #[test]
    fn a_tree_has_the_tiles_that_the_specification_counts() {
        let count = |level, full| {
            let tiles = Tile::all_since(0, 70_000).filter(move |t| t.part == Part::Hashes(level));
            tiles.filter(|t| t.is_full() == full).map(|t| t.width).collect::<Vec<_>>()
        };
        assert_eq!((count(0, true).len(), count(0, false)), (273, vec![112]));
        assert_eq!((count(1, true).len(), count(1, false)), (1, vec![17]));
        assert_eq!((count(2, true).len(), count(2, false)), (0, vec![1]));
        assert!(count(3, false).is_empty());
        let small: Vec<_> = Tile::all_since(0, 256).map(|t| t.to_string()).collect();
        assert_eq!(small, ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]);
        let since: Vec<_> = Tile::all_since(300, 600).map(|t| t.to_string()).collect();
        let tiles = ["tile/entries/001", "tile/entries/002.p/88", "tile/0/001", "tile/0/002.p/88"];
        assert_eq!(since[..4], tiles);
        assert_eq!(since[4..], ["tile/1/000.p/2"]);
        assert_eq!(Tile::all_since(0, 0).count(), 0);
        assert!(Tile::all_since(0, 70_000).all(|t| t.is_in(70_000)));
        let over = Tile { part: Part::Hashes(1), index: 1, width: 18 };
        assert!(!over.is_in(70_000) && !Tile { index: u64::MAX, ..over }.is_in(u64::MAX));
    }

    #[test]
    fn roots_from_tiles_are_the_tree_s() {
        let leaves: Vec<Digest32> = (0..70_000u32).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        let mut levels = vec![leaves.clone()];
        while let Some(below) = levels.last().filter(|l| l.len() >= 256) {
            levels.push(below.chunks_exact(256).map(root_of).collect());
        }
        let mut hashes = |level: u8, first: u64, count: u64| {
            let first = first as usize;
            assert_eq!(first / 256, (first + count as usize - 1) / 256, "of one tile");
            Ok::<_, Infallible>(levels[usize::from(level)][first..first + count as usize].to_vec())
        };
        let mut tree = Frontier::default();
        for (size, leaf) in (1u64..).zip(&leaves) {
            tree.push(*leaf);
            if size < 1_030 || size % 997 == 0 || size == 65_536 {
                assert_eq!(root_from_tiles(size, &mut hashes), Ok(tree.root()), "{size}");
                assert_eq!(frontier_from_tiles(size, &mut hashes).as_ref(), Ok(&tree), "{size}");
            }
        }
    }

    #[test]
    fn a_bundle_is_read_as_it_was_made_and_only_whole() {
        let long = vec![7; 65_535];
        let entries: [&[u8]; 3] = [b"", b"abc", &long];
        let bytes = bundle(entries).unwrap();
        let tile = |width| Tile { part: Part::Entries, index: 0, width };
        assert_eq!(tile(3).entries_in(&bytes).unwrap(), entries);
        assert_eq!(tile(2).entries_in(&bytes), None);
        for cut in [0, 1, 2, 5, bytes.len() - 1] {
            assert_eq!(tile(3).entries_in(&bytes[..cut]), None);
        }
        assert_eq!(bundle([[0; 65_536].as_slice()]), None);
        assert_eq!(tile(2).hashes_in(&[0; 63]), None);
        assert_eq!(tile(2).hashes_in(&[0; 64]), Some(vec![[0; 32]; 2]));
    }
}
