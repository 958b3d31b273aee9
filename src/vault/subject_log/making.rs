//! Makes the rows of the index of subjects, and takes away those that have had their time.
//!
//! A block's rows are made from its entries, those of a wider span from the rows of the sixteen that it replaces, a
//! partition at a time, from the last posting to the first; what is not there, or not readable, comes from the log.
//!
//! Invariants: rows of a span that does not count yet are seen by nobody, and those that it replaces go after it
//! counts, so after a crash the index is as before or as after, and strays are found by their keys; nothing that is
//! made has a posting of an entry that was pruned; memory is bounded by what sixteen rows, a block and a batch take.

use super::VaultError;
use crate::audit::named::{
    Filling, INDEXED_KEY, NamedRow, Posting, indexed_row, key, level_key, partition, place_in,
    postings_of, span_key,
};
use crate::audit::spans::{BLOCK_ENTRIES, FANOUT, LEVEL_MAX, Span};
use crate::limits::{COMMIT_GROUP_MAX, SCAN_PAGE_ROWS};
use crate::store::{Batch, Store, StoreError, Urgency};

/// Bytes of rows after which a batch is committed.
const BATCH_BYTES: usize = 1 << 20;
/// Blocks that are counted at once, at most.
const STEP_BLOCKS: u64 = FANOUT * FANOUT;

/// Calls back with each entry of a range: its number, that of the first one in its row, its bytes.
pub type EachEntry<'a> = &'a dyn Fn(u64, u64, OnEntry<'_>) -> Result<(), VaultError>;
pub type OnEntry<'a> = &'a mut dyn FnMut(u64, u64, &[u8]);

/// What the index has of a partition right below a place.
pub struct Piece {
    /// It is about the places from here on.
    pub from: u32,
    /// `None`: nothing that can be read.
    pub postings: Option<Vec<Posting>>,
}

/// Reads one row at most: that which covers the place before `until`.
pub fn piece_below(
    store: &Store,
    span: Span,
    partition: u16,
    until: u32,
) -> Result<Piece, StoreError> {
    let start = key(span, partition, until.saturating_sub(1));
    let past = [key(span, partition, 0).as_slice(), &[0]].concat();
    let rows = store.scan(&start, &past, 1)?;
    let Some(row) = rows.first() else { return Ok(Piece { from: 0, postings: None }) };
    Ok(match NamedRow::decode(&row.key, &row.value) {
        Some(mut found) if found.until >= until => {
            found.postings.retain(|posting| posting.place < until);
            Piece { from: found.from, postings: Some(found.postings) }
        }
        Some(found) => Piece { from: found.until, postings: None },
        None => {
            let from = place_in(&row.key).map_or(0, |(_, _, from)| from);
            Piece { from, postings: None }
        }
    })
}

/// Changes rows of the index, in batches that are bounded.
pub struct Maker<'a> {
    store: &'a Store,
    entries: EachEntry<'a>,
    /// What is before this was pruned.
    minimum: u64,
    urgency: Urgency,
    enough: &'a dyn Fn() -> bool,
    batch: Batch,
    bytes: usize,
    /// Pieces that could not be read, and were taken from the log.
    pub unread: u64,
}

impl<'a> Maker<'a> {
    pub fn new(
        (store, urgency): (&'a Store, Urgency),
        entries: EachEntry<'a>,
        minimum: u64,
        enough: &'a dyn Fn() -> bool,
    ) -> Self {
        let batch = Batch { urgency, ..Batch::default() };
        Self { store, entries, minimum, urgency, enough, batch, bytes: 0, unread: 0 }
    }

    /// Makes the rows of the next blocks of `full`, up to where spans of the second level become one, and counts them.
    /// How many blocks are counted then; rows of more may be there.
    pub fn go_on(&mut self, begun: u64, full: u64) -> Result<u64, VaultError> {
        let whole =
            |done: u64, blocks: u64| (done / blocks).saturating_add(1).saturating_mul(blocks);
        let until = full.min(whole(begun, STEP_BLOCKS));
        let mut done = begun;
        while done < until && !(self.enough)() {
            let next = whole(done, FANOUT);
            if next > until {
                self.make_block(Span::block(done))?;
                done += 1;
                continue;
            }
            // Blocks that would be replaced at once get no rows.
            if !self.make_of_narrower(Span { level: 1, number: done / FANOUT }, begun)? {
                break;
            }
            done = next;
        }
        if done <= begun {
            return Ok(begun);
        }
        for span in Span::completed(done).filter(|span| span.level > 1) {
            // What it is made of must be there to be read.
            self.commit()?;
            if !self.make_of_narrower(span, done)? {
                return Ok(begun);
            }
        }
        // The last of the rows and their count are one batch.
        self.batch.put(INDEXED_KEY, indexed_row(done));
        self.commit()?;
        Ok(done)
    }

    fn make_block(&mut self, span: Span) -> Result<(), VaultError> {
        let mut filling = [Filling::new(span, 0)];
        self.fill_from_log(&mut filling, span, (span, 0), (0, span.width()))?;
        self.end(filling)
    }

    /// Whether it was not told that it is enough. Blocks from number `fresh` on have no rows.
    fn make_of_narrower(&mut self, span: Span, fresh: u64) -> Result<bool, VaultError> {
        let parts = u64::from(span.partitions()) / FANOUT;
        for part in (0..parts).filter_map(|part| u16::try_from(part).ok()) {
            if (self.enough)() {
                return Ok(false);
            }
            let mut fillings: Vec<Filling> =
                (0..16).map(|nibble| Filling::new(span, part << 4 | nibble)).collect();
            for child in span.children().rev() {
                if child.level == 0 && child.number >= fresh {
                    let all = (0, child.width());
                    self.fill_from_log(&mut fillings, span, (child, part), all)?;
                } else {
                    self.fill_from(&mut fillings, span, child, part)?;
                }
            }
            self.end(fillings)?;
        }
        Ok(true)
    }

    /// Adds what a narrower span has of a partition.
    fn fill_from(
        &mut self,
        fillings: &mut [Filling],
        span: Span,
        child: Span,
        part: u16,
    ) -> Result<(), VaultError> {
        let least = child.place_of(self.minimum);
        let mut until = child.width();
        while until > least {
            let piece = piece_below(self.store, child, part, until)?;
            let from = piece.from.max(least);
            match piece.postings {
                Some(postings) => {
                    let kept = postings.into_iter().rev().take_while(|p| p.place >= from);
                    for posting in kept {
                        self.add(fillings, span, child, posting)?;
                    }
                }
                None => {
                    self.unread += 1;
                    self.fill_from_log(fillings, span, (child, part), (from, until))?;
                }
            }
            until = piece.from;
        }
        Ok(())
    }

    /// Adds what the log's entries of these places say of a partition.
    fn fill_from_log(
        &mut self,
        fillings: &mut [Filling],
        span: Span,
        (child, part): (Span, u16),
        (from, until): (u32, u32),
    ) -> Result<(), VaultError> {
        let (entries, start) = (self.entries, child.start());
        let (first, mut end) =
            (start.saturating_add(from.into()), start.saturating_add(until.into()));
        while end > first {
            let begin = end.saturating_sub(BLOCK_ENTRIES).max(first);
            let mut found = Vec::new();
            entries(begin, end, &mut |seq, row, leaf| {
                let all = postings_of(child, (seq, row), leaf).into_iter();
                found.extend(all.filter(|p| partition(child.level, p.fingerprint) == part));
            })?;
            for posting in found.into_iter().rev() {
                self.add(fillings, span, child, posting)?;
            }
            end = begin;
        }
        Ok(())
    }

    /// Adds a posting to the partition of the wider span that it is in.
    fn add(
        &mut self,
        fillings: &mut [Filling],
        span: Span,
        child: Span,
        posting: Posting,
    ) -> Result<(), VaultError> {
        let nibble = partition(span.level, posting.fingerprint) % 16;
        let offset = span.place_of(child.start());
        let posting = Posting { place: posting.place.saturating_add(offset), ..posting };
        match fillings.get_mut(usize::from(nibble)).and_then(|filling| filling.push(posting)) {
            Some(full) => self.put(&full),
            None => Ok(()),
        }
    }

    fn end(&mut self, fillings: impl IntoIterator<Item = Filling>) -> Result<(), VaultError> {
        fillings.into_iter().try_for_each(|filling| self.put(&filling.end()))
    }

    /// Deletes the rows of spans that do not count, in an index of so many blocks: narrower ones that were replaced,
    /// what was not finished, and what was pruned.
    pub fn sweep(&mut self, blocks: u64) -> Result<(), VaultError> {
        for level in 0..=LEVEL_MAX {
            let live = Span::live(level, blocks);
            let pruned = self.minimum / u64::from(Span { level, number: 0 }.width());
            let first = Span { level, number: live.start.max(pruned).min(live.end) };
            let past = Span { level, number: live.end };
            self.delete(&level_key(level), &span_key(first))?;
            self.delete(&span_key(past), &level_key(level + 1))?;
        }
        self.delete(&level_key(LEVEL_MAX + 1), b"z")
    }

    /// Takes what was pruned out of the one span that has more than that.
    pub fn cut(&mut self, blocks: u64) -> Result<(), VaultError> {
        let Some(span) = Span::holding(self.minimum, blocks) else { return Ok(()) };
        let least = span.place_of(self.minimum);
        if least == 0 {
            return Ok(());
        }
        let mut from = span_key(span);
        let past = span_key(Span { number: span.number.saturating_add(1), ..span });
        loop {
            let rows = self.store.scan(&from, &past, SCAN_PAGE_ROWS)?;
            let Some(last) = rows.last() else { return self.commit() };
            from = [last.key.as_slice(), &[0]].concat();
            for row in rows {
                match NamedRow::decode(&row.key, &row.value) {
                    Some(mut found) if found.until > least => {
                        let all = found.postings.len();
                        found.postings.retain(|posting| posting.place >= least);
                        if found.postings.len() < all {
                            self.put(&found)?;
                        }
                    }
                    // What cannot be read may have them too: it is looked up in the log anyway.
                    _ => self.write((row.key, None))?,
                }
            }
        }
    }

    fn delete(&mut self, from: &[u8], past: &[u8]) -> Result<(), VaultError> {
        let mut from = from.to_vec();
        loop {
            let rows = self.store.scan(&from, past, SCAN_PAGE_ROWS)?;
            let Some(last) = rows.last() else { return Ok(()) };
            from = [last.key.as_slice(), &[0]].concat();
            self.batch.writes.extend(rows.into_iter().map(|row| (row.key, None)));
            self.commit()?;
        }
    }

    fn put(&mut self, row: &NamedRow) -> Result<(), VaultError> {
        let (key, value) = row.encode();
        self.write((key, Some(value)))
    }

    fn write(&mut self, (key, value): (Vec<u8>, Option<Vec<u8>>)) -> Result<(), VaultError> {
        // One place is left for the count.
        if self.batch.writes.len() + 1 >= COMMIT_GROUP_MAX || self.bytes >= BATCH_BYTES {
            self.commit()?;
        }
        self.bytes += key.len() + value.as_ref().map_or(0, Vec::len);
        self.batch.writes.push((key, value));
        Ok(())
    }

    fn commit(&mut self) -> Result<(), VaultError> {
        let empty = Batch { urgency: self.urgency, ..Batch::default() };
        let batch = std::mem::replace(&mut self.batch, empty);
        self.bytes = 0;
        if !batch.is_empty() {
            self.store.commit_blocking(batch)?;
        }
        Ok(())
    }
}
