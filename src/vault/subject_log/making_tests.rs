//! The index made over a log that is only thought of: spans of every level, faults and crashes at any step, pruning.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::making::{Maker, piece_below};
use super::*;
use crate::audit::named::{NamedRow, fingerprint, partition, place_in};
use crate::audit::spans::Span;
use crate::audit::{Act, Entry, Kind, Member};
use crate::clock::UnixMillis;
use crate::store::faulty::{Fault, Faulty, Plan};
use crate::store::{Engine, Memory, Row};

/// A log in which each entry names some of a number of subjects.
struct Log {
    subjects: u64,
    members: u64,
    /// Nobody may ask for what is before this.
    minimum: u64,
    /// Entries that were asked for.
    read: Cell<u64>,
}

fn mixed(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

fn pseudonym(subject: u64) -> [u8; 16] {
    let half = mixed(subject + 1).to_be_bytes();
    [half, half].concat().try_into().unwrap()
}

impl Log {
    fn new(subjects: u64, members: u64) -> Self {
        Self { subjects, members, minimum: 0, read: Cell::new(0) }
    }

    /// Every third entry is about the first subject, the one of which there is most.
    fn named(&self, seq: u64) -> impl Iterator<Item = u64> {
        let subjects = self.subjects;
        let some = (0..self.members).map(move |n| 1 + mixed(seq * 1_000 + n) % (subjects - 1));
        some.chain(seq.is_multiple_of(3).then_some(0))
    }

    fn each(
        &self,
        start: u64,
        end: u64,
        each: &mut dyn FnMut(u64, u64, &[u8]),
    ) -> Result<(), VaultError> {
        assert!(start >= self.minimum, "what was pruned is not asked for");
        self.read.set(self.read.get() + end - start);
        for seq in start..end {
            let of = |n| Member { subject: pseudonym(n), record: [7; 16] };
            let members = self.named(seq).map(of).collect();
            let entry = Entry::new(Kind::Call, Act::GetRecord, UnixMillis(1));
            let entry = Entry { seq, members, ..entry };
            each(seq, seq - seq % 7, &entry.encode()[0]);
        }
        Ok(())
    }

    /// Which entries name a subject.
    fn about(&self, subject: u64, from: u64, until: u64) -> Vec<u64> {
        (from..until).filter(|seq| self.named(*seq).any(|n| n == subject)).collect()
    }
}

fn open(rows: &Arc<Memory>, plan: &Arc<Plan>) -> Store {
    Store::open(Arc::new(Faulty::new(rows.clone(), plan.clone())), None, None).unwrap()
}

fn counted(store: &Store) -> u64 {
    store.get(INDEXED_KEY).unwrap().as_deref().and_then(indexed_in).unwrap_or(0)
}

/// Brings the index on to so many blocks, as a start does. How many pieces could not be read.
fn index(store: &Store, log: &Log, full: u64) -> Result<u64, VaultError> {
    let entries = |start, end, each: &mut dyn FnMut(u64, u64, &[u8])| log.each(start, end, each);
    let mut maker = Maker::new((store, Urgency::Note), &entries, log.minimum, &|| false);
    let mut done = counted(store).max(log.minimum / BLOCK_ENTRIES);
    maker.sweep(done)?;
    while done < full {
        done = maker.go_on(done, full)?;
        maker.sweep(done)?;
    }
    Ok(maker.unread)
}

fn prune(store: &Store, log: &mut Log, minimum: u64) {
    log.minimum = minimum;
    let entries = |start, end, each: &mut dyn FnMut(u64, u64, &[u8])| log.each(start, end, each);
    let mut maker = Maker::new((store, Urgency::Vital), &entries, log.minimum, &|| false);
    maker.sweep(counted(store)).unwrap();
    maker.cut(counted(store)).unwrap();
}

fn rows_of(rows: &Memory) -> Vec<Row> {
    rows.scan(b"y", b"z", usize::MAX).unwrap()
}

fn copy(rows: &Memory) -> Arc<Memory> {
    let copy = Arc::new(Memory::new());
    let all = rows.scan(&[], &[255], usize::MAX).unwrap().into_iter();
    copy.commit(&all.map(|r| (r.key, Some(r.value))).collect::<Vec<_>>()).unwrap();
    copy
}

/// What the index says of a subject, how many rows were read for it, and how many pieces were not there.
fn told(store: &Store, subject: u64, least: u64) -> (Vec<u64>, u64, u64) {
    let fingerprint = fingerprint(&pseudonym(subject));
    let blocks = counted(store);
    let (mut found, mut read, mut unread) = (Vec::new(), 0, 0);
    let mut end = blocks * BLOCK_ENTRIES;
    while end > least {
        let span = Span::holding(end - 1, blocks).unwrap();
        let part = partition(span.level, fingerprint);
        let piece = piece_below(store, span, part, span.place_of(end)).unwrap();
        read += 1;
        unread += u64::from(piece.postings.is_none());
        let postings = piece.postings.unwrap_or_default().into_iter().rev();
        for (seq, first) in postings.filter(|p| p.fingerprint == fingerprint).map(|p| p.of(span)) {
            assert_eq!(first, seq - seq % 7);
            found.push(seq);
        }
        end = span.start() + u64::from(piece.from);
    }
    found.reverse();
    (found, read, unread)
}

/// Compares some subjects with what looking through the log finds; the rows that were read for one at most.
fn check(store: &Store, log: &Log) -> u64 {
    let end = counted(store) * BLOCK_ENTRIES;
    let mut most = 0;
    for subject in [0, 1, 2, log.subjects / 2, log.subjects - 1] {
        let (mut found, read, unread) = told(store, subject, log.minimum);
        found.retain(|seq| *seq >= log.minimum);
        assert_eq!(found, log.about(subject, log.minimum, end));
        assert!(!found.is_empty(), "control");
        assert_eq!(unread, 0);
        most = if subject > 0 { most.max(read) } else { most };
    }
    most
}

#[test]
fn spans_of_every_level_say_what_the_log_says() {
    let (log, rows, plan) = (Log::new(40_000, 1), Arc::new(Memory::new()), Plan::new(Vec::new()));
    let store = open(&rows, &plan);
    let blocks = 4_096 + 2 * 256 + 3 * 16 + 5;
    assert_eq!(index(&store, &log, blocks).unwrap(), 0);
    assert_eq!(log.read.get(), blocks * BLOCK_ENTRIES, "each entry is read once");
    let most = check(&store, &log);
    // One row for each span: but those of the subject that has a third of all.
    assert!(most <= 11 + 2, "{most}");
    let found: Vec<NamedRow> =
        rows_of(&rows).iter().filter_map(|r| NamedRow::decode(&r.key, &r.value)).collect();
    assert_eq!(found.len() + 1, rows_of(&rows).len());
    let partitions: BTreeSet<_> = found.iter().map(|r| (r.span, r.partition)).collect();
    assert_eq!(partitions.len(), 4_096 + 2 * 256 + 3 * 16 + 5, "those without postings too");
    let sizes = found.iter().filter(|r| r.from == 0 && r.until == r.span.width());
    let sizes: Vec<usize> = sizes.map(|r| r.postings.len()).collect();
    assert!(
        sizes.len() > 4_500 && sizes.iter().all(|n| *n < 1_000),
        "of a size, whatever the level"
    );
    println!("{} entries: {} rows, {} commits", blocks * 256, found.len(), plan.writes());
}

#[test]
fn entries_with_as_many_members_as_there_can_be_are_told_as_well() {
    let (log, rows) = (Log::new(3_000, 239), Arc::new(Memory::new()));
    let store = open(&rows, &Plan::new(Vec::new()));
    for blocks in [1, 15, 16, 17, 33] {
        index(&store, &log, blocks).unwrap();
        check(&store, &log);
    }
    assert!(rows_of(&rows).iter().all(|r| r.value.len() <= crate::limits::ROW_BYTES_MAX));
}

/// Of every write, those between the batches of a merge, of its count and of what it replaced as well.
#[test]
fn a_crash_at_any_write_leaves_the_old_index_or_the_new_one() {
    let (log, base) = (Log::new(2_000, 7), Arc::new(Memory::new()));
    index(&open(&base, &Plan::new(Vec::new())), &log, 255).unwrap();
    let whole = copy(&base);
    index(&open(&whole, &Plan::new(Vec::new())), &log, 257).unwrap();
    let (mut seen, mut nth) = (BTreeMap::new(), 0);
    loop {
        nth += 1;
        let mut fired = false;
        for reported in [false, true] {
            let (rows, io) = (copy(&base), StoreError::Io("planned".into()));
            let fault =
                if reported { Fault::WriteThenFail(nth, io) } else { Fault::Write(nth, io) };
            let plan = Plan::new(vec![fault]);
            fired |= index(&open(&rows, &plan), &log, 257).is_err();
            plan.clear();
            let store = open(&rows, &plan);
            *seen.entry(counted(&store)).or_insert(0) += 1;
            check(&store, &log);
            assert_eq!(index(&store, &log, 257).unwrap(), 0);
            assert!(rows_of(&rows) == rows_of(&whole), "{nth}: as if nothing had been");
        }
        if !fired {
            break;
        }
    }
    println!("{nth} writes; counted after a crash: {seen:?}");
    assert!(seen[&255] >= 6 && seen[&256] >= 2, "{seen:?}");
}

#[test]
fn what_is_broken_off_is_made_good() {
    let (log, base) = (Log::new(500, 2), Arc::new(Memory::new()));
    index(&open(&base, &Plan::new(Vec::new())), &log, 250).unwrap();
    let mut outcomes = BTreeSet::new();
    for full in [255, 256] {
        let whole = copy(&base);
        index(&open(&whole, &Plan::new(Vec::new())), &log, full).unwrap();
        for calls in 0..30 {
            let rows = copy(&base);
            let store = open(&rows, &Plan::new(Vec::new()));
            let left = Cell::new(calls);
            let enough = || left.replace(left.get().max(1) - 1) == 0;
            let entries =
                |start, end, each: &mut dyn FnMut(u64, u64, &[u8])| log.each(start, end, each);
            let mut maker = Maker::new((&store, Urgency::Note), &entries, 0, &enough);
            let done = maker.go_on(250, full).unwrap();
            assert_eq!(done, counted(&store).max(250));
            outcomes.insert(done);
            check(&store, &log);
            index(&store, &log, full).unwrap();
            assert!(rows_of(&rows) == rows_of(&whole), "{calls}");
        }
    }
    assert!(outcomes.into_iter().eq(250..=256));
}

#[test]
fn what_cannot_be_read_of_the_narrower_spans_is_taken_from_the_log() {
    let (log, base) = (Log::new(2_000, 3), Arc::new(Memory::new()));
    index(&open(&base, &Plan::new(Vec::new())), &log, 255).unwrap();
    let whole = copy(&base);
    index(&open(&whole, &Plan::new(Vec::new())), &log, 256).unwrap();
    let kept: Vec<Row> = rows_of(&base).into_iter().filter(|r| r.key.len() > 1).collect();
    // Where a partition has several rows, the later ones: those before them are there.
    let is_later = |row: &Row| place_in(&row.key).is_some_and(|(_, _, from)| from > 0);
    assert!(kept.iter().filter(|row| is_later(row)).count() > 10, "control");
    for (n, row) in kept.iter().enumerate().filter(|(n, row)| n % 14 == 0 || is_later(row)) {
        let mut bad = row.value.clone();
        let at = n % bad.len();
        bad[at] ^= 1 << (n % 8);
        let other = kept[(n + 1) % kept.len()].value.clone();
        for value in [None, Some(bad), Some(other)] {
            let rows = copy(&base);
            rows.commit(&[(row.key.clone(), value)]).unwrap();
            let store = open(&rows, &Plan::new(Vec::new()));
            log.read.set(0);
            assert!(index(&store, &log, 256).unwrap() > 0);
            assert!(rows_of(&rows) == rows_of(&whole), "row {n}");
            assert!(log.read.get() <= 256 + 2 * 4_096, "no more than what is missing");
        }
    }
    // Without any row of a span, and without any at all.
    for keep in [1, 0] {
        let rows = copy(&base);
        let gone = |r: &&Row| place_in(&r.key).is_some_and(|(s, ..)| keep == 0 || s.number == 3);
        let gone: Vec<_> = kept.iter().filter(gone).map(|r| (r.key.clone(), None)).collect();
        rows.commit(&gone).unwrap();
        assert!(index(&open(&rows, &Plan::new(Vec::new())), &log, 256).unwrap() > 0);
        assert!(rows_of(&rows) == rows_of(&whole));
    }
}

#[test]
fn nothing_of_pruned_entries_is_left_and_all_of_the_others() {
    let (mut log, base) = (Log::new(800, 5), Arc::new(Memory::new()));
    let blocks = 256 + 2 * 16 + 5;
    index(&open(&base, &Plan::new(Vec::new())), &log, blocks).unwrap();
    let all = |rows: &Memory| -> BTreeSet<(u64, u32)> {
        let found = rows_of(rows).into_iter().filter(|r| r.key.len() > 1);
        let found = found.map(|r| NamedRow::decode(&r.key, &r.value).unwrap());
        let seqs = found.flat_map(|row| {
            let span = row.span;
            row.postings.into_iter().map(move |p| (p.of(span).0, p.fingerprint))
        });
        seqs.collect()
    };
    let before = all(&base);
    // Within each level, between two spans, and all of it.
    for block in [0, 1, 100, 255, 256, 257, 271, 272, 280, 288, 290, 293] {
        let minimum = block * BLOCK_ENTRIES;
        let rows = copy(&base);
        let store = open(&rows, &Plan::new(Vec::new()));
        prune(&store, &mut log, minimum);
        let left = all(&rows);
        assert_eq!(left, before.iter().filter(|(seq, _)| *seq >= minimum).copied().collect());
        let spans: BTreeSet<Span> =
            rows_of(&rows).iter().filter_map(|r| place_in(&r.key)).map(|(s, ..)| s).collect();
        assert!(spans.iter().all(|span| span.end() > minimum), "{block}: {spans:?}");
        if block < blocks - 1 {
            check(&store, &log);
        }
        // It goes on without what is gone, and spans are made of what is left of others.
        for more in [300, 304, 512, 530] {
            assert_eq!(
                index(&store, &log, more).unwrap(),
                0,
                "{block}: what is gone is not missed"
            );
            check(&store, &log);
            assert!(all(&rows).iter().all(|(seq, _)| *seq >= minimum));
            let live = |span: &Span| Span::live(span.level, more).contains(&span.number);
            let found = rows_of(&rows);
            assert!(found.iter().filter_map(|r| place_in(&r.key)).all(|(s, ..)| live(&s)));
        }
        log.minimum = 0;
    }
}

#[test]
fn rows_that_cannot_be_read_are_pruned_too() {
    let (mut log, rows) = (Log::new(800, 5), Arc::new(Memory::new()));
    let store = open(&rows, &Plan::new(Vec::new()));
    index(&store, &log, 32).unwrap();
    let span = Span { level: 1, number: 0 };
    let of_span = |r: &Row| place_in(&r.key).is_some_and(|(s, part, _)| s == span && part == 4);
    let all = rows_of(&rows).iter().filter(|r| of_span(r)).count();
    let row = rows_of(&rows).into_iter().find(of_span).unwrap();
    assert!(all > 1, "control");
    rows.commit(&[(row.key.clone(), Some([row.value, vec![0]].concat()))]).unwrap();
    prune(&store, &mut log, 700);
    assert_eq!(rows.get(&row.key).unwrap(), None);
    assert_eq!(rows_of(&rows).iter().filter(|r| of_span(r)).count(), all - 1);
}

/// What a step left that was not finished, and was pruned since.
#[test]
fn strays_of_pruned_entries_go_as_well() {
    let (mut log, rows) = (Log::new(800, 5), Arc::new(Memory::new()));
    index(&open(&rows, &Plan::new(Vec::new())), &log, 15).unwrap();
    let plan = Plan::new(Vec::new());
    let strays = copy(&rows);
    index(&open(&strays, &plan), &log, 16).unwrap();
    let level = |r: &&Row| place_in(&r.key).is_some_and(|(s, ..)| s.level == 1);
    let made: Vec<_> = rows_of(&strays)
        .iter()
        .filter(level)
        .map(|r| (r.key.clone(), Some(r.value.clone())))
        .collect();
    assert!(made.len() >= 16);
    rows.commit(&made).unwrap();
    let store = open(&rows, &plan);
    assert_eq!(counted(&store), 15, "control");
    prune(&store, &mut log, 5 * BLOCK_ENTRIES);
    assert_eq!(rows_of(&rows).iter().filter(level).count(), 0);
    index(&store, &log, 16).unwrap();
    check(&store, &log);
}
