//! Collects every distinct row that was ever on disk, from a history of writes or from files.
//!
//! A history is replayed into per-file images. A write can only complete rows that it overlaps, so after
//! each write just those are read back: the magics of a file are kept in an ordered set, the ones under
//! the written bytes are found anew, and a row counts if it reaches into the write. That finds a value
//! that was written in pieces, in any order, and costs time in proportion to the bytes written.

use crate::find::{Finder, Sightings};
use crate::format::{
    EntryRow, HEAD_LEN, ImportRow, MetaRow, NodeRow, ROW_LEN_MAX, RecordRow, Remembered,
    RequestRow, RowKind, row_at,
};
use memchr::memmem;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{self, Read};

const PAGE_LEN: usize = 65_536;
/// A single write longer than this means that the history is not one.
const WRITE_LEN_MAX: u32 = 1 << 30;
const CHUNK_LEN: usize = 1 << 20;

/// Distinct rows, sorted by what can be done with them.
#[derive(Default)]
pub struct Rows {
    seen: HashSet<[u8; 16]>,
    pub nodes: Vec<NodeRow>,
    pub records: Vec<RecordRow>,
    pub metas: Vec<MetaRow>,
    pub entries: Vec<EntryRow>,
    pub requests: Vec<RequestRow>,
    pub imports: Vec<ImportRow>,
    pub leaves: Vec<Box<[u8]>>,
    pub frontiers: Vec<Box<[u8]>>,
    pub anchors: Vec<Box<[u8]>>,
    /// Vault ids that stand in clear in headers and slots.
    pub vaults: BTreeSet<[u8; 16]>,
    pub counts: BTreeMap<RowKind, u64>,
}

impl Rows {
    /// Adds a row unless its very bytes are known.
    pub fn add(&mut self, kind: RowKind, raw: &[u8]) {
        let (mut id, digest) = ([0; 16], Sha256::digest(raw));
        id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        if !self.seen.insert(id) {
            return;
        }
        *self.counts.entry(kind).or_default() += 1;
        match kind {
            RowKind::Node => self.nodes.extend(NodeRow::parse(raw)),
            RowKind::Record => self.records.extend(RecordRow::parse(raw)),
            RowKind::Meta => self.metas.extend(MetaRow::parse(raw)),
            RowKind::Entry => self.entries.extend(EntryRow::parse(raw)),
            RowKind::Request => match Remembered::parse(raw) {
                Some(Remembered::Call(row)) => self.requests.push(row),
                Some(Remembered::Import(row)) => self.imports.push(row),
                None => {}
            },
            RowKind::Leaf => self.leaves.push(raw.into()),
            RowKind::Frontier => self.frontiers.push(raw.into()),
            RowKind::Anchor => {
                self.note_vault(raw.get(8..24));
                self.anchors.push(raw.into());
            }
            RowKind::Vault | RowKind::Journal => self.note_vault(raw.get(6..22)),
            _ => {}
        }
    }

    fn note_vault(&mut self, id: Option<&[u8]>) {
        self.vaults.extend(id.and_then(|v| <[u8; 16]>::try_from(v).ok()));
    }

    /// Adds every row that lies whole in `bytes`.
    pub fn add_all(&mut self, bytes: &[u8]) {
        for pos in magics(bytes) {
            let tail = bytes.get(pos..).unwrap_or_default();
            let head = tail.get(..HEAD_LEN).unwrap_or(tail);
            if let Some((kind, raw)) = row_at(head).and_then(|(k, n)| Some((k, tail.get(..n)?))) {
                self.add(kind, raw);
            }
        }
    }
}

/// Offsets at which `LT?1` stands.
fn magics(bytes: &[u8]) -> impl Iterator<Item = usize> + '_ {
    memmem::find_iter(bytes, b"LT").filter(|pos| bytes.get(pos + 3) == Some(&b'1'))
}

/// The bytes of one file as writes have left them. Holes read as zeros.
#[derive(Default)]
pub struct Image {
    pages: HashMap<u64, Box<[u8]>>,
    end: u64,
}

impl Image {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let within = (at % PAGE_LEN as u64) as usize;
            let (now, later) = rest.split_at(rest.len().min(PAGE_LEN - within));
            let page =
                self.pages.entry(at / PAGE_LEN as u64).or_insert_with(|| vec![0; PAGE_LEN].into());
            if let Some(to) = page.get_mut(within..within + now.len()) {
                to.copy_from_slice(now);
            }
            at += now.len() as u64;
            rest = later;
        }
        self.end = self.end.max(at);
    }

    /// Replaces `out` by the bytes of `from..to`, cut at the end of the file.
    fn read(&self, from: u64, to: u64, out: &mut Vec<u8>) {
        out.clear();
        let (mut at, to) = (from, to.min(self.end));
        while at < to {
            let within = (at % PAGE_LEN as u64) as usize;
            let n = (PAGE_LEN - within).min((to - at) as usize);
            match self.pages.get(&(at / PAGE_LEN as u64)).and_then(|p| p.get(within..within + n)) {
                Some(bytes) => out.extend_from_slice(bytes),
                None => out.resize(out.len() + n, 0),
            }
            at += n as u64;
        }
    }
}

/// Takes every window of raw bytes that a replay produces.
pub trait Watcher {
    /// Bytes before and after each write that belong to its window.
    fn margin(&self) -> usize;
    fn window(&mut self, source: &str, offset: u64, bytes: &[u8]);
}

/// Notes sightings of plaintext in clear.
pub struct ClearText<'a> {
    pub finder: &'a Finder,
    pub seen: Sightings,
}

impl Watcher for ClearText<'_> {
    fn margin(&self) -> usize {
        self.finder.margin()
    }

    fn window(&mut self, source: &str, offset: u64, bytes: &[u8]) {
        self.finder.search(source, offset, bytes, &mut self.seen);
    }
}

/// Counts of what a replay has read.
#[derive(Default, Clone, Copy)]
pub struct Totals {
    pub writes: u64,
    pub bytes: u64,
    /// Histories that end inside a write.
    pub truncated: u64,
}

#[derive(Default)]
struct FileState {
    name: String,
    image: Image,
    magics: BTreeSet<u64>,
}

/// Replays histories. Files keep their identity across histories, as if these were one.
#[derive(Default)]
pub struct Replay {
    files: HashMap<u32, FileState>,
    window: Vec<u8>,
    row: Vec<u8>,
    pub totals: Totals,
}

impl Replay {
    /// Reads one history: `file_id u32 | offset u64 | len u32 | bytes`, again and again.
    pub fn history(
        &mut self,
        input: &mut impl Read,
        mut rows: Option<&mut Rows>,
        watcher: &mut dyn Watcher,
    ) -> io::Result<()> {
        let mut bytes = Vec::new();
        loop {
            let mut head = Vec::with_capacity(16);
            if input.by_ref().take(16).read_to_end(&mut head)? == 0 {
                return Ok(());
            }
            let mut c = crate::encoding::Cursor(&head);
            let (Some(file), Some(offset), Some(len)) = (c.u32(), c.u64(), c.u32()) else {
                self.totals.truncated += 1;
                return Ok(());
            };
            if len > WRITE_LEN_MAX || offset > u64::MAX >> 1 {
                return Err(io::Error::other("history: write out of bounds"));
            }
            bytes.clear();
            let got = input.by_ref().take(u64::from(len)).read_to_end(&mut bytes)?;
            self.totals.truncated += u64::from(got < len as usize);
            self.totals.writes += 1;
            self.totals.bytes += got as u64;
            self.write(file, offset, &bytes, rows.as_deref_mut(), watcher);
        }
    }

    fn write(
        &mut self,
        id: u32,
        offset: u64,
        bytes: &[u8],
        rows: Option<&mut Rows>,
        watcher: &mut dyn Watcher,
    ) {
        let file = self
            .files
            .entry(id)
            .or_insert_with(|| FileState { name: format!("file {id}"), ..FileState::default() });
        let end = offset + bytes.len() as u64;
        file.image.write(offset, bytes);
        let margin = watcher.margin().max(3) as u64;
        let from = offset.saturating_sub(margin);
        file.image.read(from, end + margin, &mut self.window);
        watcher.window(&file.name, from, &self.window);
        let Some(rows) = rows else { return };

        let stale: Vec<u64> = file.magics.range(offset.saturating_sub(3)..end).copied().collect();
        stale.iter().for_each(|pos| {
            file.magics.remove(pos);
        });
        file.magics.extend(magics(&self.window).map(|pos| from + pos as u64));
        for pos in file.magics.range(offset.saturating_sub(ROW_LEN_MAX as u64)..end) {
            file.image.read(*pos, pos + HEAD_LEN as u64, &mut self.row);
            let Some((kind, len)) = row_at(&self.row) else {
                continue;
            };
            if pos + len as u64 > offset {
                file.image.read(*pos, pos + len as u64, &mut self.row);
                if self.row.len() == len {
                    rows.add(kind, &self.row);
                }
            }
        }
    }

    /// Reads a plain file as it is now.
    pub fn plain(
        &mut self,
        name: &str,
        input: &mut impl Read,
        mut rows: Option<&mut Rows>,
        watcher: &mut dyn Watcher,
    ) -> io::Result<()> {
        let keep = watcher.margin().max(ROW_LEN_MAX);
        let mut buffer: Vec<u8> = Vec::with_capacity(CHUNK_LEN + keep);
        let mut start = 0u64;
        loop {
            let got = input.by_ref().take(CHUNK_LEN as u64).read_to_end(&mut buffer)?;
            if got == 0 {
                return Ok(());
            }
            self.totals.bytes += got as u64;
            if let Some(rows) = rows.as_deref_mut() {
                rows.add_all(&buffer);
            }
            watcher.window(name, start, &buffer);
            let cut = buffer.len().saturating_sub(keep);
            buffer.drain(..cut);
            start += cut as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Deaf;
    impl Watcher for Deaf {
        fn margin(&self) -> usize {
            0
        }
        fn window(&mut self, _: &str, _: u64, _: &[u8]) {}
    }

    fn record(len: usize, fill: u8) -> Vec<u8> {
        let mut row = b"LTR1".to_vec();
        row.extend((len as u32).to_be_bytes());
        row.resize(len, fill);
        row
    }

    fn entry(offset: u64, bytes: &[u8]) -> Vec<u8> {
        let mut out = 7u32.to_be_bytes().to_vec();
        out.extend(offset.to_be_bytes());
        out.extend((bytes.len() as u32).to_be_bytes());
        out.extend(bytes);
        out
    }

    fn scan(history: &[u8]) -> (Rows, Totals) {
        let (mut rows, mut replay) = (Rows::default(), Replay::default());
        replay.history(&mut &history[..], Some(&mut rows), &mut Deaf).unwrap();
        (rows, replay.totals)
    }

    #[test]
    fn pieces_in_any_order_make_a_row() {
        let row = record(3_000, 9);
        for cut in [1, 2, 3, 4, 7, 8, 60, 100, 2_999] {
            let (a, b) = row.split_at(cut);
            let at = 65_536 - 50; // across a page of the image
            let forth = [entry(at, a), entry(at + cut as u64, b)].concat();
            let back = [entry(at + cut as u64, b), entry(at, a)].concat();
            assert_eq!(scan(&forth).0.records.len(), 1, "cut {cut}");
            assert_eq!(scan(&back).0.records.len(), 1, "cut {cut}, second part first");
        }
    }

    #[test]
    fn overwritten_and_repeated_rows() {
        let history = [
            entry(100, &record(200, 1)),
            entry(100, &record(200, 2)),
            entry(100, &[0; 200]),
            entry(5_000, &record(200, 1)),
        ]
        .concat();
        assert_eq!(scan(&history).0.records.len(), 2, "both generations, each once");
    }

    #[test]
    fn a_cut_history_keeps_what_it_has() {
        let mut history = [entry(0, &record(200, 1)), entry(300, &record(100, 1))].concat();
        history.truncate(history.len() - 1);
        let (rows, totals) = scan(&history);
        assert_eq!((rows.records.len(), totals.writes, totals.truncated), (1, 2, 1));
    }

    #[test]
    fn plain_files_are_read_across_chunks() {
        let mut bytes = vec![0; CHUNK_LEN - 1_000];
        bytes.extend(record(8_192, 3));
        bytes.extend(vec![0; CHUNK_LEN]);
        bytes.extend(record(500, 4));
        let mut rows = Rows::default();
        Replay::default().plain("f", &mut &bytes[..], Some(&mut rows), &mut Deaf).unwrap();
        assert_eq!(rows.records.len(), 2);
    }
}
