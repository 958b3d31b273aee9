//! Every byte ever written, for a reader that shares no code with the vault.
//!
//! Guarantees: every write of the log, in order, none left out, none merged; what recording found
//! on the disk counts. Layout of a history file: `file_id u32 | offset u64 | len u32 | bytes`,
//! big-endian, repeated.

use crate::event::{Event, FileId};
use std::io::{self, Write};

/// One write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region<'a> {
    pub file: FileId,
    pub offset: u64,
    pub bytes: &'a [u8],
}

pub struct History<'a>(std::slice::Iter<'a, Event>);

impl<'a> History<'a> {
    pub fn new(events: &'a [Event]) -> History<'a> {
        History(events.iter())
    }
}

impl<'a> Iterator for History<'a> {
    type Item = Region<'a>;

    fn next(&mut self) -> Option<Region<'a>> {
        self.0.find_map(region)
    }
}

fn region(event: &Event) -> Option<Region<'_>> {
    match event {
        Event::Write { file, offset, data, .. } => {
            Some(Region { file: *file, offset: *offset, bytes: data })
        }
        _ => None,
    }
}

/// Appends the event to a history file, if it is a write.
///
/// # Errors
/// The output refuses, or one write is longer than its length field.
pub fn write_region(event: &Event, out: &mut impl Write) -> io::Result<()> {
    let Some(region) = region(event) else {
        return Ok(());
    };
    let len = u32::try_from(region.bytes.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    out.write_all(&region.file.0.to_be_bytes())?;
    out.write_all(&region.offset.to_be_bytes())?;
    out.write_all(&len.to_be_bytes())?;
    out.write_all(region.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Mode;

    #[test]
    fn a_history_holds_every_write_in_order_and_nothing_else() {
        let file = FileId(258);
        let write = |offset, data: &[u8]| {
            let mode = Mode { base: offset == 0, ..Mode::default() };
            Event::Write { file, offset, mode, data: data.into() }
        };
        let unlink = Event::Unlink { path: "a".into() };
        let events = [write(0, b"one"), Event::Resize { file, size: 0 }, unlink, write(7, b"x")];
        let regions: Vec<_> = History::new(&events).map(|r| (r.offset, r.bytes)).collect();
        assert_eq!(regions, [(0, &b"one"[..]), (7, &b"x"[..])]);
        let mut out = Vec::new();
        for event in &events {
            write_region(event, &mut out).unwrap();
        }
        let first = b"\0\0\x01\x02\0\0\0\0\0\0\0\0\0\0\0\x03one";
        let second = b"\0\0\x01\x02\0\0\0\0\0\0\0\x07\0\0\0\x01x";
        assert_eq!(out, [&first[..], &second[..]].concat());
    }
}
