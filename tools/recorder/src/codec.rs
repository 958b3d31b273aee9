//! The byte layout of a log.
//!
//! Guarantees: `decode(encode(e)) == e`; decoding never panics and never reads past its input.
//! A record is `len u32 | kind u8 | fields`, big-endian; byte strings are `len u32 | bytes`.

use crate::event::{Event, Ident, Mode, SyncKind};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The first bytes of every log; the digit is the format's version.
pub const MAGIC: &[u8; 8] = b"LETHREC1";

/// Appends one record to `out`.
pub fn encode(event: &Event<Ident>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    encode_body(event, out);
    let len = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(head) = out.get_mut(start..start + 4) {
        head.copy_from_slice(&len.to_be_bytes());
    }
}

fn encode_body(event: &Event<Ident>, out: &mut Vec<u8>) {
    match event {
        Event::BaseDir { file, path } => put(out, 1, &[file.dev, file.ino], &[bytes(path)]),
        Event::BaseFile { file, path } => put(out, 2, &[file.dev, file.ino], &[bytes(path)]),
        Event::Open { file, path, flags, created } => {
            let numbers = [file.dev, file.ino, u64::from(*flags), u64::from(*created)];
            put(out, 3, &numbers, &[bytes(path)]);
        }
        Event::Mkdir { file, path } => put(out, 4, &[file.dev, file.ino], &[bytes(path)]),
        Event::Write { file, offset, mode, data } => {
            let numbers = [file.dev, file.ino, *offset, u64::from(mode.bits())];
            put(out, 5, &numbers, &[data]);
        }
        Event::Resize { file, size } => put(out, 6, &[file.dev, file.ino, *size], &[]),
        Event::Zero { file, offset, len } => {
            put(out, 7, &[file.dev, file.ino, *offset, *len], &[]);
        }
        Event::SyncStart { id, file, kind } => {
            put(out, 8, &[*id, file.dev, file.ino, *kind as u64], &[]);
        }
        Event::SyncEnd { id, errno } => put(out, 9, &[*id, u64::from(*errno)], &[]),
        Event::Rename { from, to, exchange } => {
            put(out, 10, &[u64::from(*exchange)], &[bytes(from), bytes(to)]);
        }
        Event::Link { file, path } => put(out, 11, &[file.dev, file.ino], &[bytes(path)]),
        Event::Unlink { path } => put(out, 12, &[], &[bytes(path)]),
        Event::Rmdir { path } => put(out, 13, &[], &[bytes(path)]),
        Event::Close { file } => put(out, 14, &[file.dev, file.ino], &[]),
        Event::Mmap { file, offset, len } => {
            put(out, 15, &[file.dev, file.ino, *offset, *len], &[]);
        }
        Event::Fault { class, nth, errno } => {
            put(out, 16, &[u64::from(*class), *nth, u64::from(*errno)], &[]);
        }
        Event::Unsupported { what } => put(out, 17, &[], &[what.as_bytes()]),
    }
}

fn put(out: &mut Vec<u8>, kind: u8, numbers: &[u64], strings: &[&[u8]]) {
    out.push(kind);
    for number in numbers {
        out.extend_from_slice(&number.to_be_bytes());
    }
    for string in strings {
        out.extend_from_slice(&u32::try_from(string.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(string);
    }
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// Reads the fields of one record, in order.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    fn small(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    fn flag(&mut self) -> Option<bool> {
        match self.number()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn ident(&mut self) -> Option<Ident> {
        Some(Ident { dev: self.number()?, ino: self.number()? })
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let len = u32::from_be_bytes(self.take(4)?.try_into().ok()?);
        self.take(usize::try_from(len).ok()?)
    }

    fn path(&mut self) -> Option<PathBuf> {
        Some(PathBuf::from(OsStr::from_bytes(self.string()?)))
    }
}

/// Decodes one record's body (without its length). `None`: not a record of this format.
pub fn decode(body: &[u8]) -> Option<Event<Ident>> {
    let (kind, rest) = body.split_first()?;
    let mut f = Fields(rest);
    let event = match kind {
        1 => Event::BaseDir { file: f.ident()?, path: f.path()? },
        2 => Event::BaseFile { file: f.ident()?, path: f.path()? },
        3 => {
            let (file, flags, created) = (f.ident()?, f.small()?, f.flag()?);
            Event::Open { file, path: f.path()?, flags, created }
        }
        4 => Event::Mkdir { file: f.ident()?, path: f.path()? },
        5 => Event::Write {
            file: f.ident()?,
            offset: f.number()?,
            mode: Mode::from_bits(u8::try_from(f.number()?).ok()?),
            data: Arc::from(f.string()?),
        },
        6 => Event::Resize { file: f.ident()?, size: f.number()? },
        7 => Event::Zero { file: f.ident()?, offset: f.number()?, len: f.number()? },
        8 => Event::SyncStart { id: f.number()?, file: f.ident()?, kind: kind_of(f.number()?)? },
        9 => Event::SyncEnd { id: f.number()?, errno: f.small()? },
        10 => {
            let exchange = f.flag()?;
            Event::Rename { from: f.path()?, to: f.path()?, exchange }
        }
        11 => Event::Link { file: f.ident()?, path: f.path()? },
        12 => Event::Unlink { path: f.path()? },
        13 => Event::Rmdir { path: f.path()? },
        14 => Event::Close { file: f.ident()? },
        15 => Event::Mmap { file: f.ident()?, offset: f.number()?, len: f.number()? },
        16 => Event::Fault {
            class: u8::try_from(f.number()?).ok()?,
            nth: f.number()?,
            errno: f.small()?,
        },
        17 => Event::Unsupported { what: String::from_utf8_lossy(f.string()?).into_owned() },
        _ => return None,
    };
    f.0.is_empty().then_some(event)
}

fn kind_of(number: u64) -> Option<SyncKind> {
    [SyncKind::Fsync, SyncKind::Fdatasync, SyncKind::Range, SyncKind::All]
        .into_iter()
        .find(|kind| *kind as u64 == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Event<Ident>> {
        let (file, path) = (Ident { dev: 7, ino: u64::MAX }, PathBuf::from("a/b"));
        let mode = Mode { dsync: true, direct: false, append: true, base: true };
        vec![
            Event::BaseDir { file, path: path.clone() },
            Event::BaseFile { file, path: path.clone() },
            Event::Open { file, path: path.clone(), flags: 0o102, created: true },
            Event::Mkdir { file, path: path.clone() },
            Event::Write { file, offset: 5, mode, data: Arc::from(&b"xyz"[..]) },
            Event::Resize { file, size: 9 },
            Event::Zero { file, offset: 1, len: 2 },
            Event::SyncStart { id: 3, file, kind: SyncKind::All },
            Event::SyncEnd { id: 3, errno: 5 },
            Event::Rename { from: path.clone(), to: PathBuf::from("c"), exchange: true },
            Event::Link { file, path: path.clone() },
            Event::Unlink { path: path.clone() },
            Event::Rmdir { path },
            Event::Close { file },
            Event::Mmap { file, offset: 4, len: 8 },
            Event::Fault { class: 1, nth: 2, errno: 28 },
            Event::Unsupported { what: "x".into() },
        ]
    }

    #[test]
    fn every_event_survives_its_encoding() {
        for event in samples() {
            let mut out = Vec::new();
            encode(&event, &mut out);
            assert_eq!(u32::from_be_bytes(out[..4].try_into().unwrap()) as usize, out.len() - 4);
            assert_eq!(decode(&out[4..]).as_ref(), Some(&event));
        }
    }

    #[test]
    fn a_cut_or_padded_record_is_refused() {
        for event in samples() {
            let mut out = Vec::new();
            encode(&event, &mut out);
            for cut in 4..out.len() {
                assert_eq!(decode(&out[4..cut]), None, "{event:?} cut at {cut}");
            }
            out.push(0);
            assert_eq!(decode(&out[4..]), None, "{event:?} padded");
        }
    }
}
