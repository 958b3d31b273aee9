//! The log as rows: who is next, what the tree over all is, and which entries a row has.
//!
//! Invariants: entries get their numbers in the order in which they commit; the rows of a group and the frontier after
//! it are one write with the effects that they tell of.

use super::entry::set_seq;
use super::pruned;
use crate::crypto::Digest32;
use crate::crypto::merkle::{Frontier, leaf_hash};
use crate::limits::{ROW_BYTES_MAX, SCAN_PAGE_ROWS};
use crate::store::sum::{checked, with_sum};
use crate::store::{Chronicle, Engine, StoreError, Write};

/// Members of one part of an entry: a part fits a row.
pub const MEMBERS_MAX: usize = 240;
/// Key of the row that holds the frontier.
pub const FRONTIER_KEY: &[u8] = b"f";
const MAGIC: &[u8; 4] = b"LTD1";
/// `magic | count u16`, and the sum.
const ROW_FRAME: usize = 10;

/// Key of the row whose first entry has this number.
pub fn row_key(first: u64) -> Vec<u8> {
    [b"a".as_slice(), &first.to_be_bytes()].concat()
}

/// Number of the first entry in the row with this key.
pub fn first_in(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.strip_prefix(b"a")?.try_into().ok()?))
}

/// The entries of a row, as bytes; `None` if the row is damaged.
pub fn entries_in(value: &[u8]) -> Option<Vec<&[u8]>> {
    let rest = checked(value)?.strip_prefix(MAGIC.as_slice())?;
    let (count, mut rest) = rest.split_first_chunk()?;
    let mut entries = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (len, after) = rest.split_first_chunk()?;
        let (entry, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        entries.push(entry);
        rest = after;
    }
    rest.is_empty().then_some(entries)
}

fn row(first: u64, entries: &[impl AsRef<[u8]>]) -> Write {
    let mut value = MAGIC.to_vec();
    value.extend_from_slice(&(entries.len() as u16).to_be_bytes());
    for entry in entries.iter().map(AsRef::as_ref) {
        value.extend_from_slice(&(entry.len() as u16).to_be_bytes());
        value.extend_from_slice(entry);
    }
    (row_key(first), Some(with_sum(value)))
}

/// A row in two: the entries before number `at`, and from there on. `None` if they are not on both sides of it.
pub fn split(first: u64, entries: &[&[u8]], at: u64) -> Option<[Write; 2]> {
    let before = usize::try_from(at.checked_sub(first)?).ok()?;
    let (old, new) = entries.split_at_checked(before)?;
    (!old.is_empty() && !new.is_empty()).then(|| [row(first, old), row(at, new)])
}

/// The log of an engine: from its frontier, or if that does not open from what was pruned and all of its entries.
/// `None` if neither is whole.
pub fn load(engine: &dyn Engine) -> Result<Option<Book>, StoreError> {
    let row = engine.get(FRONTIER_KEY)?;
    if let Some(frontier) = row.as_deref().and_then(checked).and_then(Frontier::decode) {
        return Ok(Some(Book(frontier)));
    }
    let scan = |from: &[u8], to: &[u8], most: usize| engine.scan(from, to, most);
    let Some(mut frontier) = pruned::frontier(&scan)? else { return Ok(None) };
    let mut from = row_key(frontier.size());
    loop {
        let rows = engine.scan(&from, b"b", SCAN_PAGE_ROWS)?;
        let Some(last) = rows.last() else { break };
        from = [last.key.as_slice(), &[0]].concat();
        for row in &rows {
            let follows = first_in(&row.key) == Some(frontier.size());
            let Some(entries) = entries_in(&row.value).filter(|_| follows) else { return Ok(None) };
            entries.into_iter().for_each(|e| frontier.push(leaf_hash(e)));
        }
    }
    // A log that was written to has a frontier: with neither there is none yet, or all of it is lost.
    Ok(Some(Book(frontier)).filter(|book| row.is_none() || book.0.size() > 0))
}

/// The end of the log, where entries are added.
#[derive(Default)]
pub struct Book(Frontier);

impl Book {
    /// Goes on after what was written so far.
    pub fn at(frontier: Frontier) -> Self {
        Self(frontier)
    }
}

impl Chronicle for Book {
    fn append(&mut self, entries: Vec<Vec<u8>>) -> Vec<Write> {
        let mut writes = Vec::new();
        let (mut page, mut bytes, mut first) = (Vec::new(), ROW_FRAME, self.0.size());
        for mut entry in entries {
            if bytes + 2 + entry.len() > ROW_BYTES_MAX && !page.is_empty() {
                writes.push(row(first, &page));
                page.clear();
                (bytes, first) = (ROW_FRAME, self.0.size());
            }
            set_seq(&mut entry, self.0.size());
            self.0.push(leaf_hash(&entry));
            bytes += 2 + entry.len();
            page.push(entry);
        }
        if !page.is_empty() {
            writes.push(row(first, &page));
            writes.push((FRONTIER_KEY.to_vec(), Some(with_sum(self.0.encode()))));
        }
        writes
    }

    fn head(&self) -> (u64, Digest32) {
        (self.0.size(), self.0.root())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Act, Entry, Kind, Member};
    use crate::clock::UnixMillis;

    fn entry(members: usize) -> Vec<Vec<u8>> {
        let members = vec![Member::default(); members];
        Entry { members, ..Entry::new(Kind::Call, Act::GetRecord, UnixMillis(1)) }.encode()
    }

    #[test]
    fn entries_are_numbered_in_order_and_every_row_fits() {
        let mut book = Book::default();
        let mut all = Vec::new();
        for group in [vec![0, 1], vec![MEMBERS_MAX, MEMBERS_MAX, 0], vec![0; 300], vec![]] {
            let before = book.head().0;
            let writes = book.append(group.iter().flat_map(|n| entry(*n)).collect());
            assert_eq!(writes.is_empty(), group.is_empty());
            let mut next = before;
            for (key, value) in &writes {
                let value = value.as_ref().unwrap();
                assert!(value.len() <= ROW_BYTES_MAX);
                let Some(first) = first_in(key) else {
                    assert_eq!(key, FRONTIER_KEY);
                    assert_eq!(
                        Frontier::decode(checked(value).unwrap()).unwrap().root(),
                        book.head().1
                    );
                    continue;
                };
                assert_eq!(first, next);
                let entries = entries_in(value).unwrap();
                next += entries.len() as u64;
                all.extend(entries.iter().map(|e| e.to_vec()));
                for bit in 0..value.len().min(200) * 8 {
                    let mut bad = value.clone();
                    bad[bit / 8] ^= 1 << (bit % 8);
                    assert!(entries_in(&bad).is_none());
                }
            }
            assert_eq!(next, book.head().0);
        }
        let mut tree = Frontier::default();
        for (n, entry) in (0..).zip(&all) {
            assert_eq!(Entry::decode(entry).unwrap().seq, n);
            tree.push(leaf_hash(entry));
        }
        assert_eq!((tree.size(), tree.root()), book.head());
        assert_eq!(all.len(), 305);
    }
}
