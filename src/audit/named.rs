//! Rows of an index over the log: which entries name a subject (docs/FORMAT.md §9.6).
//!
//! Invariants: a row is made of the entries of one block alone, so that it can be made again and is the same; its key
//! has the subject's pseudonym, which is in those entries too, and nothing else of it. Of one subject the rows of later
//! blocks come first.

use std::collections::BTreeMap;

use super::entry::Entry;
use crate::store::sum::{checked, with_sum};

/// Entries of a block. Blocks are indexed whole.
pub const BLOCK_ENTRIES: u64 = 256;
/// Key of the row that says how many blocks are indexed.
pub const INDEXED_KEY: &[u8] = b"y";
const MAGIC: &[u8; 4] = b"LTY1";
const INDEXED_MAGIC: &[u8; 4] = b"LTY2";

/// One entry: its place in the block, and how many entries before it are in the same row of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posting {
    place: u8,
    back: u8,
}

impl Posting {
    /// Number of the entry, and of the first one in its row.
    pub fn of(self, block: u64) -> (u64, u64) {
        let seq = block.saturating_mul(BLOCK_ENTRIES).saturating_add(self.place.into());
        (seq, seq.saturating_sub(self.back.into()))
    }
}

/// Key of a subject's row of a block.
pub fn key(subject: &[u8; 16], block: u64) -> Vec<u8> {
    [prefix(subject).as_slice(), &(u64::MAX - block).to_be_bytes()].concat()
}

/// First bytes of a subject's rows.
pub fn prefix(subject: &[u8; 16]) -> Vec<u8> {
    [b"y".as_slice(), subject].concat()
}

/// The block of a row with this key.
pub fn block_in(key: &[u8]) -> Option<u64> {
    let (_, block) = key.strip_prefix(b"y")?.split_first_chunk::<16>()?;
    Some(u64::MAX - u64::from_be_bytes(block.try_into().ok()?))
}

/// Keys of the rows that name an entry.
pub fn keys_of(seq: u64, leaf: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let members = Entry::decode(leaf).map(|entry| entry.members).unwrap_or_default().into_iter();
    let subjects = members.map(|m| m.subject).filter(|subject| *subject != [0; 16]);
    subjects.map(move |subject| key(&subject, seq / BLOCK_ENTRIES))
}

/// What a row says, ascending; `None` if it is damaged.
pub fn decode(value: &[u8]) -> Option<Vec<Posting>> {
    let pairs = checked(value)?.strip_prefix(MAGIC.as_slice())?.chunks_exact(2);
    let whole = pairs.remainder().is_empty() && pairs.len() > 0;
    let posting = |pair: &[u8]| match pair {
        [place, back] => Some(Posting { place: *place, back: *back }),
        _ => None,
    };
    let all: Vec<Posting> = pairs.map(posting).collect::<Option<_>>()?;
    (whole && all.is_sorted_by(|a, b| a.place < b.place)).then_some(all)
}

/// The row that says how many blocks are indexed.
pub fn indexed_row(blocks: u64) -> Vec<u8> {
    with_sum([INDEXED_MAGIC.as_slice(), &blocks.to_be_bytes()].concat())
}

/// What it says; `None` if it is damaged.
pub fn indexed_in(value: &[u8]) -> Option<u64> {
    let blocks = checked(value)?.strip_prefix(INDEXED_MAGIC.as_slice())?;
    Some(u64::from_be_bytes(blocks.try_into().ok()?))
}

/// The rows of one block.
#[derive(Default)]
pub struct BlockIndex(BTreeMap<[u8; 16], Vec<Posting>>);

impl BlockIndex {
    /// Adds an entry that is in the row whose first one has the number `first`. Entries come in order.
    pub fn add(&mut self, (seq, first): (u64, u64), leaf: &[u8]) {
        let Ok(entry) = Entry::decode(leaf) else { return };
        let back = seq.checked_sub(first).and_then(|back| u8::try_from(back).ok());
        let place = u8::try_from(seq % BLOCK_ENTRIES).ok();
        let Some((place, back)) = place.zip(back).filter(|_| entry.seq == seq) else { return };
        for member in entry.members.iter().filter(|m| m.subject != [0; 16]) {
            let postings = self.0.entry(member.subject).or_default();
            if postings.last().is_none_or(|last| last.place != place) {
                postings.push(Posting { place, back });
            }
        }
    }

    /// Keys and values, as those of block number `block`.
    pub fn rows(self, block: u64) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
        self.0.into_iter().map(move |(subject, postings)| {
            let pairs = postings.iter().flat_map(|p| [p.place, p.back]);
            let value = MAGIC.iter().copied().chain(pairs).collect();
            (key(&subject, block), with_sum(value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Act, Kind, Member};
    use crate::clock::UnixMillis;

    fn entry(seq: u64, subjects: &[u8]) -> Vec<u8> {
        let member = |n: &u8| Member { subject: [*n; 16], record: [7; 16] };
        let members = subjects.iter().map(member).collect();
        let entry = Entry { members, ..Entry::new(Kind::Call, Act::GetRecord, UnixMillis(1)) };
        let mut bytes = entry.encode().remove(0);
        crate::audit::entry::set_seq(&mut bytes, seq);
        bytes
    }

    #[test]
    fn a_block_s_rows_say_for_each_subject_which_entries_name_it() {
        let start = 5 * BLOCK_ENTRIES;
        let mut index = BlockIndex::default();
        // One subject twice in an entry; one that did not open; an entry that is not what its row says.
        index.add((start, start - 3), &entry(start, &[1, 1, 2, 0]));
        index.add((start + 1, start + 1), &entry(start + 2, &[1]));
        index.add((start + 255, start + 200), &entry(start + 255, &[1]));
        index.add((start + 255, start + 200), b"no entry");
        let rows: Vec<_> = index.rows(5).collect();
        let told = |n: u8| {
            let (_, value) = rows.iter().find(|(k, _)| *k == key(&[n; 16], 5)).unwrap();
            decode(value).unwrap().into_iter().map(|p| p.of(5)).collect::<Vec<_>>()
        };
        assert_eq!(rows.len(), 2);
        assert_eq!(told(1), [(start, start - 3), (start + 255, start + 200)]);
        assert_eq!(told(2), [(start, start - 3)]);
        for (key, value) in &rows {
            assert_eq!(block_in(key), Some(5));
            for bit in 0..value.len() * 8 {
                let mut bad = value.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(decode(&bad), None);
            }
            assert!((0..value.len()).all(|len| decode(&value[..len]).is_none()));
        }
        let unsorted = with_sum([MAGIC.as_slice(), &[4, 0, 4, 0]].concat());
        assert_eq!((decode(&unsorted), decode(&with_sum(MAGIC.to_vec()))), (None, None));
    }

    #[test]
    fn later_blocks_come_first_and_the_count_of_blocks_is_no_subject_s_row() {
        let keys = [9, 8, 1, 0].map(|block| key(&[3; 16], block));
        assert!(keys.is_sorted());
        assert!(keys.iter().all(|k| k.starts_with(&prefix(&[3; 16]))));
        assert_eq!(block_in(INDEXED_KEY), None);
        assert_eq!(indexed_in(&indexed_row(77)), Some(77));
        assert_eq!(indexed_in(&indexed_row(77)[1..]), None);
    }
}
