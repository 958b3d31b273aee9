//! Which spans of the audit log have rows in the index of who is in which entry (docs/FORMAT.md §9.6).
//!
//! Invariants: the spans follow from the number of indexed blocks alone; each entry of those is in exactly one; they
//! come in the order of the log, the widest first, so that few are asked whatever the length of the log.

use std::ops::Range;

/// Entries of a block, the narrowest span.
pub const BLOCK_ENTRIES: u64 = 256;
/// Spans of a level that make one of the next.
pub const FANOUT: u64 = 16;
/// Level of the widest spans: of these there may be any number.
pub const LEVEL_MAX: u8 = 3;

/// So many entries in a row of the log, from a multiple of that number on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub level: u8,
    /// Which of its level, in the order of the log.
    pub number: u64,
}

/// Blocks of a span of this level.
fn blocks_of(level: u8) -> u64 {
    1 << (4 * level.min(LEVEL_MAX))
}

impl Span {
    pub const fn block(number: u64) -> Self {
        Self { level: 0, number }
    }

    /// How many entries it has: at most a million.
    pub fn width(self) -> u32 {
        256 << (4 * self.level.min(LEVEL_MAX))
    }

    /// Number of its first entry.
    pub fn start(self) -> u64 {
        self.number.saturating_mul(self.width().into())
    }

    /// Number of the first entry after it.
    pub fn end(self) -> u64 {
        self.start().saturating_add(self.width().into())
    }

    /// Parts of its index, by the first bits of pseudonyms: as many as it has blocks, so that all are of a size.
    pub fn partitions(self) -> u16 {
        1 << (4 * self.level.min(LEVEL_MAX))
    }

    /// How far an entry is behind its first one; after its end: its width.
    pub fn place_of(self, seq: u64) -> u32 {
        let place = u32::try_from(seq.saturating_sub(self.start()));
        place.unwrap_or(u32::MAX).min(self.width())
    }

    /// The spans of the level below that it is made of; none of a block.
    pub fn children(self) -> impl DoubleEndedIterator<Item = Self> {
        let first = self.number.saturating_mul(FANOUT);
        let level = self.level.checked_sub(1);
        let numbers = level.map(|_| first..first.saturating_add(FANOUT)).unwrap_or_default();
        numbers.map(move |number| Self { level: level.unwrap_or_default(), number })
    }

    /// Numbers of a level's spans in an index of so many blocks: digits of the number to the base of 16.
    pub fn live(level: u8, blocks: u64) -> Range<u64> {
        let end = blocks / blocks_of(level);
        let start = if level < LEVEL_MAX { end - end % FANOUT } else { 0 };
        start..end
    }

    /// The one that has an entry, in an index of so many blocks.
    pub fn holding(seq: u64, blocks: u64) -> Option<Self> {
        let of = |level| Self { level, number: seq / BLOCK_ENTRIES / blocks_of(level) };
        let is_live = |span: &Self| Self::live(span.level, blocks).contains(&span.number);
        (0..=LEVEL_MAX).map(of).find(is_live)
    }

    /// Those that are made of narrower ones when the index comes to have so many blocks, each of those before it.
    pub fn completed(blocks: u64) -> impl Iterator<Item = Self> {
        let whole = move |level: &u8| blocks > 0 && blocks.is_multiple_of(blocks_of(*level));
        let last =
            move |level| Self { level, number: (blocks / blocks_of(level)).saturating_sub(1) };
        (1..=LEVEL_MAX).take_while(whole).map(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(blocks: u64) -> Vec<Span> {
        let of = |level| Span::live(level, blocks).map(move |number| Span { level, number });
        (0..=LEVEL_MAX).rev().flat_map(of).collect()
    }

    #[test]
    fn the_spans_of_any_number_of_blocks_are_the_log_in_its_order() {
        let some = (0..600).chain([4_095, 4_096, 4_097, 8_191, 65_536, 1 << 30]);
        for blocks in some {
            let spans = all(blocks);
            let mut next = 0;
            for span in &spans {
                assert_eq!(span.start(), next, "{blocks}");
                next = span.end();
                for seq in [span.start(), span.start() + 100, span.end() - 1] {
                    assert_eq!(Span::holding(seq, blocks), Some(*span), "{blocks}");
                }
            }
            assert_eq!(next, blocks * BLOCK_ENTRIES);
            assert_eq!(Span::holding(next, blocks), None);
            let widest = usize::try_from(blocks / 4_096).unwrap();
            assert!(spans.len() <= widest + 45, "{blocks}");
        }
        assert_eq!(all(37).iter().map(|s| s.level).collect::<Vec<_>>(), [1, 1, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_span_is_made_of_what_was_there_before_it() {
        for blocks in [1, 15, 16, 48, 256, 272, 4_096, 8_192] {
            let (before, after) = (all(blocks - 1), all(blocks));
            let mut there: Vec<Span> =
                before.into_iter().chain([Span::block(blocks - 1)]).collect();
            for made in Span::completed(blocks) {
                assert!(made.children().all(|child| there.contains(&child)), "{blocks} {made:?}");
                assert_eq!(made.children().count(), 16);
                let children: Vec<Span> = made.children().collect();
                assert_eq!((children[0].start(), children[15].end()), (made.start(), made.end()));
                there.retain(|span| !children.contains(span));
                there.push(made);
            }
            assert_eq!(there, after, "{blocks}");
        }
        assert_eq!((Span::block(3).children().count(), Span::completed(0).count()), (0, 0));
    }

    #[test]
    fn the_place_of_an_entry_is_within_its_span() {
        let span = Span { level: 1, number: 2 };
        let places = [0, 8_192, 8_200, 12_287, 12_288, u64::MAX].map(|seq| span.place_of(seq));
        assert_eq!(places, [0, 0, 8, 4_095, 4_096, 4_096]);
    }
}
