//! Rows of an index over the log: which entries name a subject (docs/FORMAT.md §9.6).
//!
//! Invariants: a row says what it covers, whole entries from one place of its span to another, so that what is missing
//! is told from what is not there; it holds numbers and four bytes of pseudonyms, which are in those entries too; its
//! sum is over its key as well, so that it counts in its own place alone. Of one partition the later rows come first.

use super::book::MEMBERS_MAX;
use super::entry::Entry;
use super::spans::{LEVEL_MAX, Span};
use crate::limits::ROW_BYTES_MAX;
use crate::store::sum::{checked, with_sum};

/// Key of the row that says how many blocks are indexed.
pub const INDEXED_KEY: &[u8] = b"y";
const MAGIC: &[u8; 4] = b"LTY3";
const INDEXED_MAGIC: &[u8; 4] = b"LTY4";
const POSTING_BYTES: usize = 8;
/// Postings of a row: what is left of it beside magic, end and sum.
const ROW_POSTINGS: usize = (ROW_BYTES_MAX - 12) / POSTING_BYTES;
// A row covers whole entries, so those of one entry must fit one.
const _: () = assert!(MEMBERS_MAX < ROW_POSTINGS);

/// That an entry may be about a subject. In the order of places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Posting {
    /// How far the entry is behind the first one of the span.
    pub place: u32,
    /// The first bytes of the subject's pseudonym. Others may have them too: the entry itself tells.
    pub fingerprint: u32,
    /// How many entries before it are in the same row of the log.
    pub back: u8,
}

impl Posting {
    /// Number of the entry, and of the first one in its row.
    pub fn of(self, span: Span) -> (u64, u64) {
        let seq = span.start().saturating_add(self.place.into());
        (seq, seq.saturating_sub(self.back.into()))
    }

    fn bytes(self) -> [u8; POSTING_BYTES] {
        (u64::from(self.fingerprint) << 32 | u64::from(self.place) << 8 | u64::from(self.back))
            .to_be_bytes()
    }

    fn from_bytes(bytes: [u8; POSTING_BYTES]) -> Self {
        let [a, b, c, d, e, f, g, back] = bytes;
        let place = u32::from_be_bytes([0, e, f, g]);
        Self { place, fingerprint: u32::from_be_bytes([a, b, c, d]), back }
    }
}

/// What stands for a pseudonym in the index.
pub fn fingerprint(subject: &[u8; 16]) -> u32 {
    let [a, b, c, d, ..] = *subject;
    u32::from_be_bytes([a, b, c, d])
}

/// The partition of a level that a fingerprint is in: its first bits.
pub fn partition(level: u8, fingerprint: u32) -> u16 {
    // Twelve bits at most.
    (u64::from(fingerprint) >> (32 - 4 * level.min(LEVEL_MAX))) as u16
}

/// The postings of an entry that is in the row whose first one has the number `first`; none if it is not what its row
/// says.
pub fn postings_of(span: Span, (seq, first): (u64, u64), leaf: &[u8]) -> Vec<Posting> {
    let Ok(entry) = Entry::decode(leaf) else { return Vec::new() };
    let back = seq.checked_sub(first).and_then(|back| u8::try_from(back).ok());
    let Some(back) = back.filter(|_| entry.seq == seq) else { return Vec::new() };
    let place = span.place_of(seq);
    let members = entry.members.iter().map(|m| &m.subject).filter(|subject| **subject != [0; 16]);
    let posting = |subject| Posting { place, fingerprint: fingerprint(subject), back };
    let mut all: Vec<Posting> = members.map(posting).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// First bytes of the keys of a level.
pub fn level_key(level: u8) -> Vec<u8> {
    [b"y".as_slice(), &[level]].concat()
}

/// First bytes of the keys of a span.
pub fn span_key(span: Span) -> Vec<u8> {
    [b"y".as_slice(), &[span.level], &span.number.to_be_bytes()].concat()
}

/// Key of the row of a partition that covers places from `from` on.
pub fn key(span: Span, partition: u16, from: u32) -> Vec<u8> {
    [span_key(span).as_slice(), &partition.to_be_bytes(), &(!from).to_be_bytes()].concat()
}

/// Span, partition and first place that the row with this key is of.
pub fn place_in(key: &[u8]) -> Option<(Span, u16, u32)> {
    let (level, rest) = key.strip_prefix(b"y")?.split_first()?;
    let (number, rest) = rest.split_first_chunk()?;
    let (partition, from) = rest.split_first_chunk()?;
    let from = !u32::from_be_bytes(from.try_into().ok()?);
    let span = Span { level: *level, number: u64::from_be_bytes(*number) };
    Some((span, u16::from_be_bytes(*partition), from)).filter(|_| span.level <= LEVEL_MAX)
}

/// What a row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedRow {
    pub span: Span,
    pub partition: u16,
    /// It has all postings of its partition from this place on,
    pub from: u32,
    /// and before this one.
    pub until: u32,
    /// In ascending order.
    pub postings: Vec<Posting>,
}

impl NamedRow {
    /// Key and value.
    pub fn encode(&self) -> (Vec<u8>, Vec<u8>) {
        let key = key(self.span, self.partition, self.from);
        let mut row = [key.as_slice(), MAGIC, &self.until.to_be_bytes()].concat();
        row.extend(self.postings.iter().flat_map(|posting| posting.bytes()));
        let value = with_sum(row).split_off(key.len());
        (key, value)
    }

    /// `None` if the row is damaged, or not in its place.
    pub fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let (span, partition, from) = place_in(key)?;
        let row = [key, value].concat();
        let rest = checked(&row)?.strip_prefix(key)?.strip_prefix(MAGIC.as_slice())?;
        let (until, rest) = rest.split_first_chunk()?;
        let until = u32::from_be_bytes(*until);
        let (postings, rest) = rest.as_chunks();
        let postings: Vec<Posting> = postings.iter().copied().map(Posting::from_bytes).collect();
        let sorted =
            postings.is_sorted_by(|a, b| (a.place, a.fingerprint) < (b.place, b.fingerprint));
        let fits = |p: &Posting| {
            (from..until).contains(&p.place)
                && self::partition(span.level, p.fingerprint) == partition
        };
        let whole = rest.is_empty() && sorted && from < until && until <= span.width();
        (whole && postings.iter().all(fits)).then_some(Self {
            span,
            partition,
            from,
            until,
            postings,
        })
    }
}

/// Rows of one partition, filled from the last posting to the first.
pub struct Filling {
    span: Span,
    partition: u16,
    /// What is from here on is in rows that are full.
    until: u32,
    /// In descending order.
    held: Vec<Posting>,
}

impl Filling {
    pub fn new(span: Span, partition: u16) -> Self {
        Self { span, partition, until: span.width(), held: Vec::new() }
    }

    /// Adds a posting that is before all others. If that fills a row, here it is.
    pub fn push(&mut self, posting: Posting) -> Option<NamedRow> {
        let last = self.held.last().filter(|_| self.held.len() >= ROW_POSTINGS);
        // An entry's postings stay together.
        let from = last.map(|last| last.place + u32::from(last.place == posting.place));
        let full = from.map(|from| {
            let of_row = self.held.partition_point(|p| p.place >= from);
            let rest = self.held.split_off(of_row);
            self.row(from, rest)
        });
        self.held.push(posting);
        full
    }

    /// The row of what is left.
    pub fn end(mut self) -> NamedRow {
        self.row(0, Vec::new())
    }

    fn row(&mut self, from: u32, rest: Vec<Posting>) -> NamedRow {
        let until = std::mem::replace(&mut self.until, from);
        let mut postings = std::mem::replace(&mut self.held, rest);
        postings.reverse();
        NamedRow { span: self.span, partition: self.partition, from, until, postings }
    }
}

/// The row that says how many blocks are indexed.
pub fn indexed_row(blocks: u64) -> Vec<u8> {
    with_sum([INDEXED_MAGIC.as_slice(), &blocks.to_be_bytes()].concat())
}

/// What it says; `None` if it is damaged, or of an index of another form.
pub fn indexed_in(value: &[u8]) -> Option<u64> {
    let blocks = checked(value)?.strip_prefix(INDEXED_MAGIC.as_slice())?;
    Some(u64::from_be_bytes(blocks.try_into().ok()?))
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

    fn posting(place: u32, fingerprint: u32) -> Posting {
        Posting { place, fingerprint, back: 3 }
    }

    #[test]
    fn an_entry_has_a_posting_for_each_subject_that_it_names() {
        let span = Span { level: 1, number: 5 };
        let seq = span.start() + 300;
        // One subject twice; one that did not open; an entry that is not what its row says.
        let all = postings_of(span, (seq, seq - 3), &entry(seq, &[2, 1, 1, 0]));
        assert_eq!(all, [posting(300, 0x0101_0101), posting(300, 0x0202_0202)]);
        assert_eq!(all[0].of(span), (seq, seq - 3));
        assert_eq!(postings_of(span, (seq, seq), &entry(seq + 1, &[1])), []);
        assert_eq!(postings_of(span, (seq, seq - 256), &entry(seq, &[1])), []);
        assert_eq!(postings_of(span, (seq, seq), b"no entry"), []);
    }

    #[test]
    fn a_partition_is_the_first_bits_of_a_fingerprint() {
        let subject = [0xab, 0xcd, 0xef, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9];
        let of = |level| partition(level, fingerprint(&subject));
        assert_eq!([of(0), of(1), of(2), of(3)], [0, 0xa, 0xab, 0xabc]);
        assert!((0..=3).all(|level| u32::from(of(level)) < 1 << (4 * level)));
    }

    #[test]
    fn a_row_counts_whole_and_in_its_own_place_alone() {
        for (level, partition) in [(0, 0), (1, 7), (2, 0x7f), (3, 0x7ff)] {
            let span = Span { level, number: 9 };
            let postings =
                vec![posting(4, 0x7ff0_0001), posting(4, 0x7ff0_0002), posting(90, 0x7ff0_0001)];
            for postings in [postings, Vec::new()] {
                let row = NamedRow { span, partition, from: 4, until: 200, postings };
                let (key, value) = row.encode();
                assert_eq!(place_in(&key), Some((span, partition, 4)));
                assert_eq!(NamedRow::decode(&key, &value), Some(row));
                for bit in 0..(key.len() + value.len()) * 8 {
                    let mut bad = [key.as_slice(), &value].concat();
                    bad[bit / 8] ^= 1 << (bit % 8);
                    let (key, value) = bad.split_at(key.len());
                    assert_eq!(NamedRow::decode(key, value), None, "bit {bit}");
                }
                let cut = |len| NamedRow::decode(&key, &value[..len]);
                assert!((0..value.len()).all(|len| cut(len).is_none()));
            }
        }
    }

    #[test]
    fn a_row_that_contradicts_itself_is_damaged() {
        let span = Span { level: 1, number: 9 };
        let row = |from, until, postings| NamedRow { span, partition: 7, from, until, postings };
        let ok = |row: &NamedRow| {
            let (key, value) = row.encode();
            NamedRow::decode(&key, &value).is_some()
        };
        let one = posting(50, 0x7000_0000);
        assert!(ok(&row(0, 4_096, vec![one])), "control");
        let bad = [
            row(51, 4_096, vec![one]),
            row(0, 50, vec![one]),
            row(0, 4_097, vec![one]),
            row(9, 9, vec![]),
            row(0, 4_096, vec![one, one]),
            row(0, 4_096, vec![one, Posting { back: 4, ..one }]),
            row(0, 4_096, vec![one, posting(49, 0x7000_0000)]),
            row(0, 4_096, vec![posting(50, 0x8000_0000)]),
            NamedRow { span: Span { level: 4, number: 9 }, ..row(0, 4_096, vec![]) },
        ];
        assert!(bad.iter().all(|row| !ok(row)));
    }

    #[test]
    fn full_rows_cover_a_span_without_a_gap_and_part_no_entry() {
        let span = Span { level: 2, number: 1 };
        // Entries with 240 members; one with few; many entries with one.
        let members = |place| match place {
            40_000.. => 1,
            30_000..40_000 => 0,
            20_000 => 3,
            _ if place % 100 == 0 => MEMBERS_MAX as u32,
            _ => 0,
        };
        let of = |place| (0..members(place)).map(move |n| posting(place, 0x1200_0000 + n));
        let all: Vec<Posting> = (0..span.width()).flat_map(of).collect();
        let (mut filling, mut rows) = (Filling::new(span, 0x12), Vec::new());
        for posting in all.iter().rev() {
            rows.extend(filling.push(*posting));
        }
        rows.push(filling.end());
        let mut until = span.width();
        for row in &rows {
            let (key, value) = row.encode();
            assert!(value.len() <= ROW_BYTES_MAX);
            assert_eq!(NamedRow::decode(&key, &value).as_ref(), Some(row));
            assert_eq!(row.until, until);
            until = row.from;
        }
        assert_eq!(until, 0);
        assert!(rows.len() > 50 && rows.is_sorted_by_key(|row| row.encode().0));
        let told: Vec<Posting> = rows.into_iter().rev().flat_map(|row| row.postings).collect();
        assert_eq!(told, all);
        let empty = Filling::new(span, 3).end();
        assert_eq!((empty.from, empty.until, empty.postings.len()), (0, span.width(), 0));
    }

    #[test]
    fn the_count_of_blocks_is_no_subject_s_row_and_fits_its_form_alone() {
        assert_eq!(place_in(INDEXED_KEY), None);
        let row = indexed_row(77);
        assert_eq!(indexed_in(&row), Some(77));
        for bit in 0..row.len() * 8 {
            let mut bad = row.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(indexed_in(&bad), None);
        }
        assert!((0..row.len()).all(|len| indexed_in(&row[..len]).is_none()));
        let old = with_sum([b"LTY2".as_slice(), &77_u64.to_be_bytes()].concat());
        assert_eq!(indexed_in(&old), None);
        // So are the rows of that index: pseudonym and block.
        assert_eq!(place_in(&[b"y".as_slice(), &[1; 24]].concat()), None);
    }
}
