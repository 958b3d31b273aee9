//! The tree over a log: hashes from tiles, each checked against the root that the anchor has bound.
//!
//! Invariants: what is in memory (the tiles that are not full yet, at most 255 hashes of each level) has the bound
//! root; a full tile counts only if its own root is the hash that the level above has for it, up to what is in
//! memory. What does not fit is made anew: from the tiles below, and if they do not fit either, from the log's rows.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::files::TileFiles;
use crate::crypto::Digest32;
use crate::crypto::merkle::tile::{
    TILE_LEVELS, TILE_WIDTH, hashes_at, node_from_tiles, root_from_tiles, root_of,
};
use crate::crypto::merkle::{
    consistency, inclusion, leaf_hash, verify_consistency, verify_inclusion,
};
use crate::limits::SCAN_PAGE_ROWS;
use crate::metrics::Metrics;
use crate::vault::error::VaultError;

/// Size and root.
pub type Head = (u64, Digest32);

/// What the log's rows have.
pub trait Source {
    /// The entries from a number to before another; all of them, or an error.
    fn entries(&self, start: u64, end: u64) -> Result<Vec<Vec<u8>>, VaultError>;

    /// The hash of a block of 256 entries that were pruned; `None`: they are there.
    fn pruned(&self, block: u64) -> Result<Option<Digest32>, VaultError>;
}

/// Tiles that one call keeps in mind.
const SEEN_MAX: usize = 64;

/// The hashes that are in no full tile.
#[derive(Clone)]
struct Tip {
    size: u64,
    /// One for each level of tiles; shorter than a tile.
    tails: Vec<Vec<Digest32>>,
}

impl Tip {
    /// Hashes of a level; `None` if not all of them are here.
    fn hashes(&self, level: u8, first: u64, count: u64) -> Option<Vec<Digest32>> {
        let all = hashes_at(level, self.size);
        let at = usize::try_from(first.checked_sub(all - all % TILE_WIDTH)?).ok()?;
        let end = at.checked_add(usize::try_from(count).ok()?)?;
        self.tails.get(usize::from(level))?.get(at..end).map(<[_]>::to_vec)
    }

    /// A tree's peaks are all in tiles that are not full.
    fn root(&self) -> Option<Digest32> {
        let mut hashes = |level, first, count| self.hashes(level, first, count).ok_or(());
        root_from_tiles(self.size, &mut hashes).ok()
    }
}

/// The tree over one log, and its tiles' files.
pub struct TileTree {
    files: TileFiles,
    metrics: Arc<Metrics>,
    tip: Option<Tip>,
    /// What the log is called in errors.
    damaged: &'static str,
}

impl TileTree {
    pub fn new(files: TileFiles, metrics: Arc<Metrics>, called: &'static str) -> Self {
        Self { files, metrics, tip: None, damaged: called }
    }

    /// How many entries of the log it has not in mind.
    pub fn behind(&self, head: Head) -> u64 {
        head.0.saturating_sub(self.tip.as_ref().map_or(0, |tip| tip.size))
    }

    /// Goes with the log to `head`. An error if the log's rows do not lead there.
    pub fn reach<'a>(
        &'a mut self,
        head: Head,
        rows: &'a dyn Source,
    ) -> Result<View<'a>, VaultError> {
        let known = self.tip.take().filter(|tip| tip.size <= head.0);
        let grown = known.map(|tip| self.grow(tip, head.0, rows)).transpose()?;
        let fits = |tip: &Tip| tip.root() == Some(head.1);
        let tip = match grown.filter(fits) {
            Some(tip) => tip,
            // The files, if they fit; else the rows alone.
            None => match self.load(head.0, true, rows).ok().filter(fits) {
                Some(tip) => tip,
                None => {
                    let tip = self.load(head.0, false, rows)?;
                    Some(tip).filter(fits).ok_or(VaultError::Damaged(self.damaged))?
                }
            },
        };
        let tip: &Tip = self.tip.insert(tip);
        let (files, metrics, damaged) = (&self.files, &*self.metrics, self.damaged);
        let tiles = Tiles { files, metrics, rows };
        Ok(View { tip, tiles, head, damaged, seen: RefCell::default() })
    }

    /// Removes the files that have hashes of single entries of the first so many blocks.
    pub fn forget_entries(&self, blocks: u64) {
        if let Err(error) = self.files.remove_before(0, blocks) {
            tracing::warn!(kind = ?error.kind(), "tiles of pruned entries could not be removed");
        }
    }

    fn tiles<'a>(&'a self, rows: &'a dyn Source) -> Tiles<'a> {
        Tiles { files: &self.files, metrics: &self.metrics, rows }
    }

    fn grow(&self, mut tip: Tip, size: u64, rows: &dyn Source) -> Result<Tip, VaultError> {
        let tiles = self.tiles(rows);
        while tip.size < size {
            let end = size.min(tip.size.saturating_add(SCAN_PAGE_ROWS as u64));
            for leaf in rows.entries(tip.size, end)? {
                tip.size += 1;
                let mut hash = leaf_hash(&leaf);
                for (level, tail) in (0u8..).zip(&mut tip.tails) {
                    tail.push(hash);
                    if (tail.len() as u64) < TILE_WIDTH {
                        break;
                    }
                    tiles.write(level, hashes_at(level + 1, tip.size) - 1, tail);
                    hash = root_of(tail);
                    tail.clear();
                }
            }
        }
        Ok(tip)
    }

    /// The tip of the tree of this size, from the files of its full tiles; those that are missing are made. `trusting`
    /// false: all are made.
    fn load(&self, size: u64, trusting: bool, rows: &dyn Source) -> Result<Tip, VaultError> {
        let tiles = self.tiles(rows);
        let mut tails = Vec::with_capacity(TILE_LEVELS.into());
        for level in 0..TILE_LEVELS {
            let end = hashes_at(level, size);
            let start = end - end % TILE_WIDTH;
            tails.push(match level.checked_sub(1) {
                None => tiles.of_leaves(start, end)?,
                Some(below) => (start..end)
                    .map(|index| tiles.root(below, index, trusting))
                    .collect::<Result<_, VaultError>>()?,
            });
        }
        Ok(Tip { size, tails })
    }
}

/// Full tiles, as the files or the rows have them; not checked.
struct Tiles<'a> {
    files: &'a TileFiles,
    metrics: &'a Metrics,
    rows: &'a dyn Source,
}

impl Tiles<'_> {
    fn of_leaves(&self, start: u64, end: u64) -> Result<Vec<Digest32>, VaultError> {
        Ok(self.rows.entries(start, end)?.iter().map(|leaf| leaf_hash(leaf)).collect())
    }

    fn full(&self, level: u8, index: u64, trusting: bool) -> Result<Vec<Digest32>, VaultError> {
        let kept = if trusting { self.files.read(level, index) } else { None };
        kept.map_or_else(|| self.make(level, index, trusting), Ok)
    }

    /// The hash over a full tile. Of entries that were pruned it is all that there is.
    fn root(&self, level: u8, index: u64, trusting: bool) -> Result<Digest32, VaultError> {
        let pruned = if level == 0 { self.rows.pruned(index)? } else { None };
        pruned.map_or_else(|| Ok(root_of(&self.full(level, index, trusting)?)), Ok)
    }

    /// Makes a tile from what is below it.
    fn make(&self, level: u8, index: u64, trusting: bool) -> Result<Vec<Digest32>, VaultError> {
        let (start, end) = (index * TILE_WIDTH, (index + 1) * TILE_WIDTH);
        let hashes = match level.checked_sub(1) {
            None => self.of_leaves(start, end)?,
            Some(below) => (start..end)
                .map(|index| self.root(below, index, trusting))
                .collect::<Result<_, VaultError>>()?,
        };
        self.write(level, index, &hashes);
        Ok(hashes)
    }

    /// A tile that cannot be written is made again when it is asked for.
    fn write(&self, level: u8, index: u64, hashes: &[Digest32]) {
        match self.files.write(level, index, hashes) {
            Ok(()) => self.metrics.log_tiles_written.one(),
            Err(error) => {
                self.metrics.log_tiles_unwritten.one();
                tracing::warn!(kind = ?error.kind(), "a tile of a log could not be written");
            }
        }
    }
}

/// The tree as it is at a bound head. All that it tells has that root.
pub struct View<'a> {
    tip: &'a Tip,
    tiles: Tiles<'a>,
    pub head: Head,
    damaged: &'static str,
    seen: RefCell<BTreeMap<(u8, u64), Vec<Digest32>>>,
}

impl View<'_> {
    fn lost<T>(&self) -> Result<T, VaultError> {
        Err(VaultError::Damaged(self.damaged))
    }

    /// `count` hashes of a level of tiles from number `first` on, all of one tile that the tree has.
    pub fn hashes(&self, level: u8, first: u64, count: u64) -> Result<Vec<Digest32>, VaultError> {
        if let Some(hashes) = self.tip.hashes(level, first, count) {
            return Ok(hashes);
        }
        let (index, at) = (first / TILE_WIDTH, (first % TILE_WIDTH) as usize);
        let tile = self.full(level, index)?;
        let part = usize::try_from(count).ok().and_then(|count| tile.get(at..at + count));
        part.map_or_else(|| self.lost(), |part| Ok(part.to_vec()))
    }

    fn full(&self, level: u8, index: u64) -> Result<Vec<Digest32>, VaultError> {
        if level + 1 >= TILE_LEVELS || index >= hashes_at(level + 1, self.head.0) {
            return self.lost();
        }
        if level == 0 && self.tiles.rows.pruned(index)?.is_some() {
            // No file of it is believed, if one is left. The rows say what is there instead.
            self.tiles.rows.entries(index * TILE_WIDTH, (index + 1) * TILE_WIDTH)?;
            return self.lost();
        }
        if let Some(tile) = self.seen.borrow().get(&(level, index)) {
            return Ok(tile.clone());
        }
        // What the level above has for it. That is a tile itself, or in the tip.
        let Some(root) = self.hashes(level + 1, index, 1)?.pop() else { return self.lost() };
        let fits = |tile: &Vec<Digest32>| root_of(tile) == root;
        let tile = match self.tiles.files.read(level, index).filter(fits) {
            Some(tile) => tile,
            None => {
                self.tiles.metrics.log_tiles_rebuilt.one();
                match self.tiles.make(level, index, true).ok().filter(fits) {
                    Some(tile) => tile,
                    None => match self.tiles.make(level, index, false)? {
                        tile if fits(&tile) => tile,
                        _ => return self.lost(),
                    },
                }
            }
        };
        let mut seen = self.seen.borrow_mut();
        if seen.len() >= SEEN_MAX {
            seen.clear();
        }
        seen.insert((level, index), tile.clone());
        Ok(tile)
    }

    /// The root over the first `size` entries.
    pub fn root(&self, size: u64) -> Result<Digest32, VaultError> {
        if size == self.head.0 {
            return Ok(self.head.1);
        }
        root_from_tiles(size, &mut |level, first, count| self.hashes(level, first, count))
    }

    /// Entries, each the one that the tree has there.
    pub fn entries(&self, first: u64, count: u64) -> Result<Vec<Vec<u8>>, VaultError> {
        let entries = self.tiles.rows.entries(first, first.saturating_add(count))?;
        let hashes = self.hashes(0, first, count)?;
        if entries.len() != hashes.len() {
            return self.lost();
        }
        match entries.iter().zip(hashes).all(|(entry, hash)| leaf_hash(entry) == hash) {
            true => Ok(entries),
            false => self.lost(),
        }
    }

    /// An entry, and the proof that it is in the tree of `size` entries.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<(Vec<u8>, Proof), VaultError> {
        let none = VaultError::NotFound("entry of a tree of that size");
        if size > self.head.0 || index >= size {
            return Err(none);
        }
        let Some(leaf) = self.entries(index, 1)?.pop() else { return self.lost() };
        let mut hashes = |level, first, count| self.hashes(level, first, count);
        let mut node = |node| node_from_tiles(node, &mut hashes);
        let path = inclusion(index, size, &mut node)?.ok_or(none)?;
        let head = (size, self.root(size)?);
        if verify_inclusion(leaf_hash(&leaf), index, head, &path).is_err() {
            return self.lost();
        }
        Ok((leaf, Proof { path, head }))
    }

    /// The proof that the tree of `new` entries begins with that of `old`, and the root of that.
    pub fn consistency(&self, old: u64, new: u64) -> Result<(Digest32, Proof), VaultError> {
        let none = VaultError::NotFound("tree of that size");
        if old > new {
            let reason = "is larger than the size that it is compared with";
            return Err(VaultError::Argument { field: "old_size", reason });
        }
        if new > self.head.0 {
            return Err(none);
        }
        let mut hashes = |level, first, count| self.hashes(level, first, count);
        let mut node = |node| node_from_tiles(node, &mut hashes);
        let path = consistency(old, new, &mut node)?.ok_or(none)?;
        let (before, head) = ((old, self.root(old)?), (new, self.root(new)?));
        if verify_consistency(before, head, &path).is_err() {
            return self.lost();
        }
        Ok((before.1, Proof { path, head }))
    }
}

/// A proof, and the tree that it is about.
pub struct Proof {
    pub path: Vec<Digest32>,
    pub head: Head,
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
