//! The events of a log.
//!
//! Guarantees: one type for what the recorder writes (the kernel's identities) and what the reader
//! gives (its own), so that neither can say what the other cannot.

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the kernel calls a file: `(device, inode)`. Reused after the last link is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ident {
    pub dev: u64,
    pub ino: u64,
}

/// A file or directory of one log: never reused, the same across renames and process restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncKind {
    Fsync,
    Fdatasync,
    /// `sync_file_range`: asks for writeback, promises nothing.
    Range,
    /// `syncfs` and `sync`: every file.
    All,
}

/// How a write was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode {
    /// `O_DSYNC`, `O_SYNC` or `RWF_DSYNC`: on disk when it returned.
    pub dsync: bool,
    pub direct: bool,
    pub append: bool,
    /// Contents found when recording began: on disk.
    pub base: bool,
}

impl Mode {
    pub(crate) fn bits(self) -> u8 {
        u8::from(self.dsync)
            | u8::from(self.direct) << 1
            | u8::from(self.append) << 2
            | u8::from(self.base) << 3
    }

    pub(crate) fn from_bits(bits: u8) -> Mode {
        Mode {
            dsync: bits & 1 != 0,
            direct: bits & 2 != 0,
            append: bits & 4 != 0,
            base: bits & 8 != 0,
        }
    }
}

/// One thing that happened. Paths are relative to the recorded directory (empty: the directory
/// itself); where several directories are recorded, the first component is the number of the
/// directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<F = FileId> {
    /// There when recording began.
    BaseDir {
        file: F,
        path: PathBuf,
    },
    /// There when recording began; its contents follow as `Write` with `base`.
    BaseFile {
        file: F,
        path: PathBuf,
    },
    /// `flags` as given to `open`. An empty path with `created`: `O_TMPFILE`.
    Open {
        file: F,
        path: PathBuf,
        flags: u32,
        created: bool,
    },
    Mkdir {
        file: F,
        path: PathBuf,
    },
    Write {
        file: F,
        offset: u64,
        mode: Mode,
        data: Arc<[u8]>,
    },
    /// The file's length is now `size`.
    Resize {
        file: F,
        size: u64,
    },
    /// The range now reads as zeros; the length is unchanged.
    Zero {
        file: F,
        offset: u64,
        len: u64,
    },
    /// Covers what was logged before it, once its `SyncEnd` says `errno == 0`.
    SyncStart {
        id: u64,
        file: F,
        kind: SyncKind,
    },
    SyncEnd {
        id: u64,
        errno: u32,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
        exchange: bool,
    },
    Link {
        file: F,
        path: PathBuf,
    },
    Unlink {
        path: PathBuf,
    },
    Rmdir {
        path: PathBuf,
    },
    Close {
        file: F,
    },
    /// A shared writable mapping: writes through it are NOT in the log, so no image of this log can
    /// be trusted.
    Mmap {
        file: F,
        offset: u64,
        len: u64,
    },
    /// An injected fault fired; `errno` 0 means a short write.
    Fault {
        class: u8,
        nth: u64,
        errno: u32,
    },
    /// Something the recorder cannot follow happened: no image of this log can be trusted.
    Unsupported {
        what: String,
    },
}

impl<F> Event<F> {
    /// The same event about another kind of identity. `born` tells that the event starts a new
    /// file.
    pub fn map<G>(self, mut id: impl FnMut(F, bool, &Path) -> G) -> Event<G> {
        let none = Path::new("");
        match self {
            Event::BaseDir { file, path } => Event::BaseDir { file: id(file, true, &path), path },
            Event::BaseFile { file, path } => Event::BaseFile { file: id(file, true, &path), path },
            Event::Open { file, path, flags, created } => {
                Event::Open { file: id(file, created, &path), path, flags, created }
            }
            Event::Mkdir { file, path } => Event::Mkdir { file: id(file, true, &path), path },
            Event::Write { file, offset, mode, data } => {
                Event::Write { file: id(file, false, none), offset, mode, data }
            }
            Event::Resize { file, size } => Event::Resize { file: id(file, false, none), size },
            Event::Zero { file, offset, len } => {
                Event::Zero { file: id(file, false, none), offset, len }
            }
            Event::SyncStart { id: sync, file, kind } => {
                Event::SyncStart { id: sync, file: id(file, false, none), kind }
            }
            Event::SyncEnd { id, errno } => Event::SyncEnd { id, errno },
            Event::Rename { from, to, exchange } => Event::Rename { from, to, exchange },
            Event::Link { file, path } => Event::Link { file: id(file, false, &path), path },
            Event::Unlink { path } => Event::Unlink { path },
            Event::Rmdir { path } => Event::Rmdir { path },
            Event::Close { file } => Event::Close { file: id(file, false, none) },
            Event::Mmap { file, offset, len } => {
                Event::Mmap { file: id(file, false, none), offset, len }
            }
            Event::Fault { class, nth, errno } => Event::Fault { class, nth, errno },
            Event::Unsupported { what } => Event::Unsupported { what },
        }
    }
}
