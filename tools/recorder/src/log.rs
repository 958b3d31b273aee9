//! Reads a log.
//!
//! Guarantees: a log whose last record is cut short is read up to there (`torn`); any other damage
//! is an error that names the byte offset; a [`FileId`] never means two files.

use crate::codec::{MAGIC, decode};
use crate::event::{Event, FileId, Ident};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Records above this are damage: the recorder splits what it copies at 1 MiB, and one call writes
/// at most 2 GiB.
const RECORD_BYTES_MAX: u32 = 0x8000_0000;

#[derive(Debug)]
pub enum LogError {
    Io(io::Error),
    /// The file does not begin as a log does.
    NotALog,
    /// The record at this byte offset is not one.
    Damaged(u64),
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Io(e) => write!(f, "the log cannot be read: {e}"),
            LogError::NotALog => write!(f, "the file is not a recorder's log"),
            LogError::Damaged(at) => write!(f, "the log is damaged at byte {at}"),
        }
    }
}

impl std::error::Error for LogError {}

impl From<io::Error> for LogError {
    fn from(e: io::Error) -> LogError {
        LogError::Io(e)
    }
}

/// A whole log in memory. The index of an event is its place in the global order.
#[derive(Clone, Debug, Default)]
pub struct Log {
    pub roots: Vec<PathBuf>,
    pub events: Vec<Event>,
    /// The last record was cut short and left out.
    pub torn: bool,
}

impl Log {
    /// # Errors
    /// Unreadable, not a log, or damaged before its last record.
    pub fn read(path: &Path) -> Result<Log, LogError> {
        let mut stream = Stream::open(path)?;
        let mut events = Vec::new();
        for event in &mut stream {
            events.push(event?);
        }
        Ok(Log { roots: stream.roots, events, torn: stream.torn })
    }

    /// Events after which no image can be trusted, as text: shared writable mappings and calls that
    /// the recorder cannot follow.
    pub fn blind_spots(&self) -> Vec<String> {
        let spot = |(i, event): (usize, &Event)| match event {
            Event::Mmap { file, .. } => Some(format!("event {i}: file {} is mapped", file.0)),
            Event::Unsupported { what } => Some(format!("event {i}: {what}")),
            _ => None,
        };
        self.events.iter().enumerate().filter_map(spot).collect()
    }
}

/// Reads events one by one, so that a log larger than memory can be walked.
pub struct Stream {
    input: BufReader<File>,
    roots: Vec<PathBuf>,
    identities: Identities,
    offset: u64,
    torn: bool,
    done: bool,
}

impl Stream {
    /// # Errors
    /// Unreadable or not a log.
    pub fn open(path: &Path) -> Result<Stream, LogError> {
        let mut input = BufReader::with_capacity(1 << 18, File::open(path)?);
        let (roots, offset) = read_header(&mut input)?;
        let identities = Identities::new(roots.len());
        Ok(Stream { input, roots, identities, offset, torn: false, done: false })
    }

    pub fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// Whether the end that was reached is a cut-off record.
    pub fn torn(&self) -> bool {
        self.torn
    }

    fn record(&mut self) -> Result<Option<Event>, LogError> {
        let mut head = [0; 4];
        match fill(&mut self.input, &mut head)? {
            0 => return Ok(None),
            4 => {}
            _ => return Ok(self.cut()),
        }
        let len = u32::from_be_bytes(head);
        if len > RECORD_BYTES_MAX {
            return Err(LogError::Damaged(self.offset));
        }
        let mut body = Vec::new();
        let got = (&mut self.input).take(u64::from(len)).read_to_end(&mut body)?;
        if got as u64 != u64::from(len) {
            return Ok(self.cut());
        }
        let event = decode(&body).ok_or(LogError::Damaged(self.offset))?;
        self.offset += 4 + u64::from(len);
        Ok(Some(self.identities.resolve(event)))
    }

    fn cut(&mut self) -> Option<Event> {
        self.torn = true;
        None
    }
}

impl Iterator for Stream {
    type Item = Result<Event, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.record().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

/// Fills as much of `buf` as there is.
fn fill(input: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while let Some(rest) = buf.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match input.read(rest)? {
            0 => break,
            n => got += n,
        }
    }
    Ok(got)
}

/// The bytes a log begins with.
pub fn header(roots: &[PathBuf]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.push(u8::try_from(roots.len()).unwrap_or(u8::MAX));
    for root in roots {
        let bytes = root.as_os_str().as_bytes();
        out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(bytes);
    }
    out
}

fn read_header(input: &mut impl Read) -> Result<(Vec<PathBuf>, u64), LogError> {
    let bad = |e: io::Error| match e.kind() {
        io::ErrorKind::UnexpectedEof => LogError::NotALog,
        _ => LogError::Io(e),
    };
    let mut magic = [0; MAGIC.len()];
    let mut count = [0; 1];
    input.read_exact(&mut magic).map_err(bad)?;
    input.read_exact(&mut count).map_err(bad)?;
    if &magic != MAGIC {
        return Err(LogError::NotALog);
    }
    let mut offset = MAGIC.len() as u64 + 1;
    let mut roots = Vec::new();
    for _ in 0..u8::from_be_bytes(count) {
        let mut len = [0; 2];
        input.read_exact(&mut len).map_err(bad)?;
        let mut path = vec![0; usize::from(u16::from_be_bytes(len))];
        input.read_exact(&mut path).map_err(bad)?;
        offset += 2 + path.len() as u64;
        roots.push(PathBuf::from(OsStr::from_bytes(&path)));
    }
    Ok((roots, offset))
}

/// Turns the kernel's reusable inode numbers into identities that are never reused.
pub struct Identities {
    known: HashMap<Ident, FileId>,
    next: u32,
    single_root: bool,
}

/// The recorded directory itself; with several, the directory above them.
pub const ROOT: FileId = FileId(0);

impl Identities {
    pub fn new(roots: usize) -> Identities {
        Identities { known: HashMap::new(), next: 1, single_root: roots <= 1 }
    }

    pub fn resolve(&mut self, event: Event<Ident>) -> Event {
        let unnamed = matches!(&event, Event::Open { created: true, .. });
        let directory = matches!(
            &event,
            Event::BaseDir { .. } | Event::Mkdir { .. } | Event::Open { created: false, .. }
        );
        event.map(|ident, born, path| {
            let is_root = self.single_root && directory && !unnamed;
            if is_root && path.as_os_str().is_empty() {
                self.known.insert(ident, ROOT);
                return ROOT;
            }
            match self.known.get(&ident) {
                Some(id) if !born => *id,
                _ => self.assign(ident),
            }
        })
    }

    fn assign(&mut self, ident: Ident) -> FileId {
        let id = FileId(self.next);
        self.next = self.next.saturating_add(1);
        self.known.insert(ident, id);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::encode;

    const A: Ident = Ident { dev: 1, ino: 10 };

    fn open(created: bool) -> Event<Ident> {
        Event::Open { file: A, path: "a".into(), flags: 0, created }
    }

    fn log_bytes(events: &[Event<Ident>]) -> Vec<u8> {
        let mut out = header(&[PathBuf::from("/data")]);
        for event in events {
            encode(event, &mut out);
        }
        out
    }

    fn read(name: &str, bytes: &[u8]) -> Result<Log, LogError> {
        let path = std::env::temp_dir().join(format!("lethe-log-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        let log = Log::read(&path);
        std::fs::remove_file(&path).unwrap();
        log
    }

    #[test]
    fn a_reused_inode_is_a_new_file_and_a_reopened_one_is_not() {
        let unlink = Event::Unlink { path: "a".into() };
        let events = [open(true), open(false), unlink, open(true)];
        let log = read("reuse", &log_bytes(&events)).unwrap();
        let ids: Vec<u32> = log
            .events
            .iter()
            .filter_map(|e| if let Event::Open { file, .. } = e { Some(file.0) } else { None })
            .collect();
        assert_eq!(ids, [1, 1, 2]);
        assert_eq!(log.roots, [PathBuf::from("/data")]);
    }

    #[test]
    fn a_torn_last_record_is_left_out_wherever_it_was_cut() {
        let whole = log_bytes(&[open(true), open(false)]);
        let first = log_bytes(&[open(true)]).len();
        assert!(!read("whole", &whole).unwrap().torn);
        for cut in first + 1..whole.len() {
            let log = read("torn", &whole[..cut]).unwrap();
            assert_eq!((log.events.len(), log.torn), (1, true), "cut at {cut}");
        }
    }

    #[test]
    fn damage_before_the_end_is_named() {
        let mut bytes = log_bytes(&[open(true), open(false)]);
        let first = log_bytes(&[]).len();
        bytes[first + 4] = 99;
        assert!(matches!(read("kind", &bytes), Err(LogError::Damaged(at)) if at == first as u64));
        assert!(matches!(read("magic", b"LETHREC9\0"), Err(LogError::NotALog)));
        assert!(matches!(read("short", b"LETH"), Err(LogError::NotALog)));
    }
}
