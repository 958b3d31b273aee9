//! One file's bytes: those on disk for certain, and the writes that are not yet.
//!
//! Guarantees: a write is lost only if no finished sync began after it; writes to one 4 KiB block
//! reach the disk in order (they share a page), writes to different blocks in any order; a block is
//! whole unless it is the one torn at a 512-byte sector. A dropped truncation takes the writes
//! after it along, because they need the space it freed.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// The granularity of writeback.
pub const BLOCK: u64 = 4096;
/// The granularity of a torn block.
pub const SECTOR: u64 = 512;
/// One block in this many that lost a write is torn rather than cut.
const TORN_ONE_IN: u64 = 16;

#[derive(Clone, Debug)]
pub enum DataOp {
    Write { offset: u64, data: Arc<[u8]> },
    Resize(u64),
    Zero { offset: u64, len: u64 },
}

impl DataOp {
    /// The range it changes; a resize changes everything.
    fn range(&self) -> (u64, u64) {
        match self {
            DataOp::Write { offset, data } => (*offset, offset.saturating_add(data.len() as u64)),
            DataOp::Zero { offset, len } => (*offset, offset.saturating_add(*len)),
            DataOp::Resize(_) => (0, u64::MAX),
        }
    }

    fn overlaps(&self, other: &DataOp) -> bool {
        let ((a, b), (c, d)) = (self.range(), other.range());
        a < d && c < b
    }

    /// Whether nothing of `earlier` is left once this is applied.
    fn hides(&self, earlier: &DataOp) -> bool {
        let ((a, b), (c, d)) = (self.range(), earlier.range());
        matches!(self, DataOp::Write { .. }) && a <= c && d <= b
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            DataOp::Write { offset, data } => overwrite(bytes, *offset, data),
            DataOp::Resize(size) => bytes.resize(index(*size), 0),
            DataOp::Zero { offset, len } => {
                let end = index(offset.saturating_add(*len)).min(bytes.len());
                if let Some(hole) = bytes.get_mut(index(*offset)..end) {
                    hole.fill(0);
                }
            }
        }
    }
}

/// Offsets are bounded by `model::FILE_BYTES_MAX` before they come here.
fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

fn overwrite(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let start = index(offset);
    let end = start.saturating_add(data.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(hole) = bytes.get_mut(start..end) {
        hole.copy_from_slice(data);
    }
}

#[derive(Clone, Debug)]
struct Pending {
    at: usize,
    op: DataOp,
    durable: bool,
}

#[derive(Clone, Debug, Default)]
pub struct FileState {
    /// On disk for certain.
    base: Vec<u8>,
    /// In order. A durable one is still here only if an earlier unsynced one touches the same
    /// bytes.
    pending: Vec<Pending>,
}

impl FileState {
    /// `at`: the index of the event. `durable`: on disk when the call returned.
    pub fn push(&mut self, at: usize, op: DataOp, durable: bool) {
        self.pending.push(Pending { at, op, durable });
        if durable {
            self.fold();
        }
    }

    /// A sync that began at event `before` has succeeded.
    pub fn synced(&mut self, before: usize) {
        for pending in self.pending.iter_mut().filter(|p| p.at < before) {
            pending.durable = true;
        }
        self.fold();
    }

    pub fn unsynced(&self) -> bool {
        self.pending.iter().any(|p| !p.durable)
    }

    /// Moves into `base` what is durable and not entangled with something that is not.
    fn fold(&mut self) {
        let mut kept: Vec<Pending> = Vec::new();
        for pending in self.pending.drain(..) {
            if pending.durable && !kept.iter().any(|k| matches!(k.op, DataOp::Resize(_))) {
                kept.retain(|k| !pending.op.hides(&k.op));
            }
            if pending.durable && !kept.iter().any(|k| k.op.overlaps(&pending.op)) {
                pending.op.apply(&mut self.base);
            } else {
                kept.push(pending);
            }
        }
        self.pending = kept;
    }

    /// With every write.
    pub fn all(&self) -> Cow<'_, [u8]> {
        self.filtered(|_| true)
    }

    /// Without the unsynced writes.
    pub fn durable(&self) -> Cow<'_, [u8]> {
        self.filtered(|p| p.durable)
    }

    fn filtered(&self, keep: impl Fn(&Pending) -> bool) -> Cow<'_, [u8]> {
        let mut bytes = Cow::Borrowed(self.base.as_slice());
        for pending in self.pending.iter().filter(|p| keep(p)) {
            pending.op.apply(bytes.to_mut());
        }
        bytes
    }

    /// With a random part of the unsynced writes, `in_flight` being the last of them: a call that
    /// had begun and not returned.
    pub fn random(&self, rng: &mut Rng, in_flight: Option<&DataOp>) -> Cow<'_, [u8]> {
        let ops = || {
            let kept = self.pending.iter().map(|p| (&p.op, p.durable));
            kept.chain(in_flight.map(|op| (op, false)))
        };
        let mut bytes = Cow::Borrowed(self.base.as_slice());
        let mut cuts = Cuts::choose(ops().filter(|(_, durable)| !durable).map(|(op, _)| op), rng);
        let mut lost = false;
        for (op, durable) in ops() {
            if durable {
                op.apply(bytes.to_mut());
            } else if lost {
                continue;
            } else if let DataOp::Write { offset, data } = op {
                for (at, piece) in blocks(*offset, data) {
                    let len = cuts.survivors(at, piece.len());
                    if let Some(piece) = piece.get(..len).filter(|p| !p.is_empty()) {
                        overwrite(bytes.to_mut(), at, piece);
                    }
                }
            } else if rng.below(100) < cuts.keep_percent {
                op.apply(bytes.to_mut());
            } else {
                lost = matches!(op, DataOp::Resize(size) if index(*size) < bytes.len());
            }
        }
        bytes
    }
}

/// Splits at block borders: `(offset, bytes)` each.
fn blocks(offset: u64, data: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let (mut at, mut rest) = (offset, data);
    std::iter::from_fn(move || {
        let room = index(BLOCK - at % BLOCK).min(rest.len());
        let (piece, tail) = rest.split_at_checked(room).filter(|(piece, _)| !piece.is_empty())?;
        let item = (at, piece);
        (at, rest) = (at + room as u64, tail);
        Some(item)
    })
}

/// How many of its unsynced writes each block received before the crash.
struct Cuts {
    keep_percent: u64,
    /// block → (writes left that survive, bytes that survive of the one after them)
    left: HashMap<u64, (u64, u64)>,
}

impl Cuts {
    fn choose<'a>(ops: impl Iterator<Item = &'a DataOp>, rng: &mut Rng) -> Cuts {
        let mut order = Vec::new();
        let mut count: HashMap<u64, u64> = HashMap::new();
        for op in ops {
            let DataOp::Write { offset, data } = op else {
                continue;
            };
            for (at, _) in blocks(*offset, data) {
                let seen = count.entry(at / BLOCK).or_insert(0);
                if *seen == 0 {
                    order.push(at / BLOCK);
                }
                *seen += 1;
            }
        }
        // Mostly kept, mostly lost and mixed images find different faults.
        let keep_percent = [10, 50, 90].get(index(rng.below(3))).copied().unwrap_or(50);
        let mut left = HashMap::new();
        for block in order {
            let writes = count.get(&block).copied().unwrap_or(0);
            let whole = rng.below(100) < keep_percent;
            let survive = if whole { writes } else { rng.below(writes) };
            let torn = survive < writes && rng.below(TORN_ONE_IN) == 0;
            let sectors = if torn { 1 + rng.below(BLOCK / SECTOR - 1) } else { 0 };
            left.insert(block, (survive, sectors * SECTOR));
        }
        Cuts { keep_percent, left }
    }

    /// How many bytes of the next write to the block at `at` survive; a torn one ends at a sector
    /// border of the file.
    fn survivors(&mut self, at: u64, len: usize) -> usize {
        let Some((survive, torn)) = self.left.get_mut(&(at / BLOCK)) else {
            return 0;
        };
        if *survive > 0 {
            *survive -= 1;
            return len;
        }
        let end = std::mem::take(torn);
        index(end.saturating_sub(at % BLOCK)).min(len)
    }
}

/// A seeded sequence (splitmix64): the same seed gives the same image, everywhere.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`, 0 when `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.draw().checked_rem(n).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(offset: u64, byte: u8, len: usize) -> DataOp {
        DataOp::Write { offset, data: vec![byte; len].into() }
    }

    fn state(ops: &[(DataOp, bool)]) -> FileState {
        let mut file = FileState::default();
        for (at, (op, durable)) in ops.iter().enumerate() {
            file.push(at, op.clone(), *durable);
        }
        file
    }

    #[test]
    fn a_sync_covers_only_what_came_before_it() {
        let mut file = state(&[(write(0, 1, 4), false), (write(4, 2, 4), false)]);
        file.synced(1);
        assert_eq!(file.durable().as_ref(), [1; 4]);
        assert_eq!(file.all().as_ref(), [1, 1, 1, 1, 2, 2, 2, 2]);
        assert!(file.unsynced());
        file.synced(2);
        assert!(!file.unsynced() && file.pending.is_empty());
    }

    #[test]
    fn a_durable_write_over_an_unsynced_one_keeps_their_order() {
        let file = state(&[(write(0, 1, 8), false), (write(2, 2, 2), true)]);
        assert_eq!(file.all().as_ref(), [1, 1, 2, 2, 1, 1, 1, 1]);
        assert_eq!(file.durable().as_ref(), [0, 0, 2, 2]);
        let hidden = state(&[(write(2, 1, 2), false), (write(0, 2, 8), true)]);
        assert_eq!(hidden.all().as_ref(), [2; 8]);
        assert!(hidden.pending.is_empty(), "a hidden write needs no place");
    }

    #[test]
    fn a_truncation_and_a_hole_are_writes_too() {
        let ops = [(write(0, 1, 8), true), (DataOp::Resize(2), false)];
        assert_eq!(state(&ops).durable().len(), 8);
        assert_eq!(state(&ops).all().as_ref(), [1, 1]);
        let hole = [(write(0, 1, 4), true), (DataOp::Zero { offset: 1, len: 99 }, false)];
        assert_eq!(state(&hole).all().as_ref(), [1, 0, 0, 0]);
    }

    #[test]
    fn random_images_cut_at_blocks_and_tear_at_sectors() {
        let file = state(&[(write(0, 1, 3 * 4096), true), (write(100, 2, 2 * 4096), false)]);
        let (mut mixed, mut torn) = (0, 0);
        for seed in 0..2000 {
            let bytes = file.random(&mut Rng::new(seed), None);
            assert_eq!((bytes.len(), bytes[99], bytes[2 * 4096 + 100]), (3 * 4096, 1, 1));
            let mut blocks = [0; 3];
            for (i, block) in bytes.chunks(4096).enumerate() {
                let new: Vec<usize> = (0..4096).filter(|j| block[*j] == 2).collect();
                let (start, end) = ([100, 0, 0][i], [4096, 4096, 100][i]);
                blocks[i] = new.len();
                if !new.is_empty() {
                    assert_eq!(new[0], start, "a prefix survives");
                    let cut = start + new.len();
                    assert!(cut == end || cut.is_multiple_of(512), "cut at {cut}");
                    torn += usize::from(cut != end);
                }
            }
            mixed += usize::from(blocks[0] == 0 && blocks[1] == 4096);
        }
        assert!(mixed > 100, "a later block without an earlier one: {mixed}");
        assert!((10..400).contains(&torn), "torn blocks: {torn}");
    }

    #[test]
    fn one_blocks_writes_survive_in_order() {
        let ops: Vec<_> = (0..8).map(|i| (write(i * 512, i as u8 + 1, 512), false)).collect();
        let file = state(&ops);
        let mut lengths = std::collections::BTreeSet::new();
        for seed in 0..500 {
            let bytes = file.random(&mut Rng::new(seed), None);
            let expected: Vec<u8> = (0..bytes.len()).map(|i| (i / 512) as u8 + 1).collect();
            assert_eq!(bytes.as_ref(), expected, "no gap before a survivor");
            lengths.insert(bytes.len());
        }
        assert_eq!(lengths.len(), 9, "every prefix occurs: {lengths:?}");
    }

    #[test]
    fn a_lost_truncation_takes_later_writes_along() {
        let ops = [(write(0, 1, 8192), true), (DataOp::Resize(0), false), (write(0, 2, 9), false)];
        let mut seen = [false; 2];
        for seed in 0..200 {
            let bytes = state(&ops).random(&mut Rng::new(seed), None).into_owned();
            let whole = bytes == [1; 8192];
            assert!(whole || bytes.is_empty() || bytes == [2; 9], "{} bytes", bytes.len());
            seen[usize::from(whole)] = true;
        }
        assert_eq!(seen, [true; 2]);
    }

    #[test]
    fn a_call_in_flight_may_have_reached_the_disk() {
        let file = state(&[(write(0, 1, 8), true)]);
        let next = write(0, 2, 8);
        let hits = (0..100).filter(|s| file.random(&mut Rng::new(*s), Some(&next))[0] == 2).count();
        assert!((1..100).contains(&hits));
        assert!((0..100).all(|s| file.random(&mut Rng::new(s), None)[0] == 1));
    }
}
