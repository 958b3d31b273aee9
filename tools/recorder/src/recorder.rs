//! The bookkeeping of the preload library: which descriptors are recorded files, and what goes into
//! the log.
//!
//! Guarantees: one lock is held around each recorded call and the log's append, so the log's order
//! is the calls' order; it is not held during a sync, which is logged at its start and at its end
//! instead; a call that failed is not logged; a log that cannot be written stops the process rather
//! than lose an event. A descriptor's file is checked on every use, so one closed behind the
//! library's back is never mistaken.

use crate::codec::encode;
use crate::event::{Event, Ident, Mode, SyncKind};
use crate::fault::{Class, Effect, Injector, shortened};
use crate::interpose::{Stat, set_errno, stat};
use libc::c_int;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Contents found on the disk are copied into the log in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;

static RECORDER: OnceLock<Mutex<Recorder>> = OnceLock::new();

/// One bit per low descriptor: recorded? Everything else goes straight to the kernel.
static TRACKED: [AtomicU64; 1024] = [const { AtomicU64::new(0) }; 1024];

thread_local! {
    /// This thread is inside the recorder: its own calls are not recorded.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    /// The lock, held across a fork, so that the child never inherits it from a thread it does not
    /// have.
    static FORKING: RefCell<Option<MutexGuard<'static, Recorder>>> = const { RefCell::new(None) };
}

#[derive(Clone, Copy, Debug)]
pub struct Handle {
    pub ident: Ident,
    pub mode: Mode,
}

pub struct Recorder {
    pub roots: Vec<PathBuf>,
    pub log: Option<File>,
    pub injector: Option<Injector>,
    /// Gets a line for each injected fault.
    pub fired: Option<File>,
    pub handles: HashMap<c_int, Handle>,
    pub scratch: Vec<u8>,
    pub syncs: u64,
}

/// Where a path leads: below a recorded directory.
pub struct Place {
    pub absolute: PathBuf,
    /// As events hold it.
    pub relative: PathBuf,
}

pub fn install(recorder: Recorder) {
    for fd in recorder.handles.keys() {
        mark(*fd, true);
    }
    let _ = RECORDER.set(Mutex::new(recorder));
}

pub fn die(what: &str) -> ! {
    eprintln!("lethe-recorder: {what}");
    std::process::abort()
}

fn mark(fd: c_int, tracked: bool) {
    let Ok(fd) = usize::try_from(fd) else { return };
    let Some(word) = TRACKED.get(fd / 64) else {
        return;
    };
    if tracked {
        word.fetch_or(1 << (fd % 64), Ordering::AcqRel);
    } else {
        word.fetch_and(!(1 << (fd % 64)), Ordering::AcqRel);
    }
}

/// Whether the descriptor may be a recorded one; those above the table always may.
fn maybe_tracked(fd: c_int) -> bool {
    let Ok(fd) = usize::try_from(fd) else {
        return false;
    };
    TRACKED.get(fd / 64).is_none_or(|word| word.load(Ordering::Acquire) & (1 << (fd % 64)) != 0)
}

pub fn before_fork() {
    let guard = RECORDER.get().map(|r| r.lock().unwrap_or_else(PoisonError::into_inner));
    INSIDE.set(true);
    // A thread that is already being torn down lets go of the lock here: it forks unprotected.
    let _ = FORKING.try_with(|held| held.replace(guard));
}

pub fn after_fork() {
    let _ = FORKING.try_with(RefCell::take);
    INSIDE.set(false);
}

/// The recorder, locked, with this thread's own calls exempt. When it ends, `errno` is what the
/// call left.
pub struct Session {
    recorder: MutexGuard<'static, Recorder>,
    errno: Option<c_int>,
}

impl Drop for Session {
    fn drop(&mut self) {
        INSIDE.set(false);
        if let Some(errno) = self.errno {
            set_errno(errno);
        }
    }
}

impl std::ops::Deref for Session {
    type Target = Recorder;
    fn deref(&self) -> &Recorder {
        &self.recorder
    }
}

impl std::ops::DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Recorder {
        &mut self.recorder
    }
}

impl Session {
    /// `None`: not recording, or called by the recorder itself.
    pub fn enter() -> Option<Session> {
        if INSIDE.get() {
            return None;
        }
        let recorder = RECORDER.get()?;
        INSIDE.set(true);
        let recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Session { recorder, errno: None })
    }

    /// `None`: the descriptor is not a recorded file's.
    pub fn tracked(fd: c_int) -> Option<(Session, Handle, Stat)> {
        if !maybe_tracked(fd) {
            return None;
        }
        let mut session = Session::enter()?;
        let handle = *session.handles.get(&fd)?;
        match stat(fd) {
            Some(stat) if stat.ident == handle.ident => Some((session, handle, stat)),
            _ => {
                session.forget(fd);
                None
            }
        }
    }

    /// Notes the outcome of the real call: `true` if it succeeded.
    pub fn succeeded(&mut self, result: isize) -> bool {
        if result < 0 {
            self.errno = std::io::Error::last_os_error().raw_os_error();
        }
        result >= 0
    }

    /// Fails the call without making it.
    pub fn fail(&mut self, errno: c_int) -> c_int {
        self.errno = Some(errno);
        -1
    }
}

impl Recorder {
    pub fn append(&mut self, event: &Event<Ident>) {
        let Some(log) = &mut self.log else { return };
        self.scratch.clear();
        encode(event, &mut self.scratch);
        match log.write(&self.scratch) {
            Ok(n) if n == self.scratch.len() => {}
            _ => die("the log cannot be written"),
        }
        if self.scratch.capacity() > 2 * PIECE_BYTES {
            self.scratch = Vec::new();
        }
    }

    pub fn unsupported(&mut self, what: &str) {
        eprintln!("lethe-recorder: {what}: no image of this log can be trusted");
        self.append(&Event::Unsupported { what: what.to_owned() });
    }

    /// Counts the call; an effect means that it must fail or fall short.
    pub fn fault(&mut self, class: Class) -> Option<Effect> {
        let (effect, nth) = self.injector.as_mut()?.count(class)?;
        let errno = match effect {
            Effect::Errno(errno) => errno.unsigned_abs(),
            Effect::Short => 0,
        };
        self.append(&Event::Fault { class: class as u8, nth, errno });
        if let Some(mut file) = self.fired.as_ref() {
            let _ = file.write_all(format!("{class:?} {nth} {errno}\n").as_bytes());
        }
        Some(effect)
    }

    pub fn errno_fault(&mut self, class: Class) -> Option<c_int> {
        match self.fault(class)? {
            Effect::Errno(errno) => Some(errno),
            Effect::Short => None,
        }
    }

    /// How many of `total` bytes may be written, or the errno.
    pub fn write_limit(&mut self, total: usize, direct: bool) -> Result<usize, c_int> {
        match self.fault(Class::Write) {
            None => Ok(total),
            Some(Effect::Errno(errno)) => Err(errno),
            Some(Effect::Short) => Ok(shortened(total, direct)),
        }
    }

    pub fn track(&mut self, fd: c_int, handle: Handle) {
        self.handles.insert(fd, handle);
        mark(fd, true);
    }

    pub fn forget(&mut self, fd: c_int) -> Option<Handle> {
        mark(fd, false);
        self.handles.remove(&fd)
    }

    /// The path of an event, if the absolute one is below a recorded directory.
    pub fn relative(&self, absolute: &Path) -> Option<PathBuf> {
        self.roots.iter().enumerate().find_map(|(i, root)| {
            let rest = absolute.strip_prefix(root).ok()?;
            let numbered = self.roots.len() > 1;
            Some(if numbered { Path::new(&i.to_string()).join(rest) } else { rest.to_owned() })
        })
    }

    /// Follows every link but the last.
    pub fn resolve(&self, dirfd: c_int, path: &Path) -> Option<Place> {
        let full = match dirfd {
            libc::AT_FDCWD => path.to_owned(),
            _ if path.is_absolute() => path.to_owned(),
            fd => fs::read_link(format!("/proc/self/fd/{fd}")).ok()?.join(path),
        };
        let absolute = match (full.parent(), full.file_name()) {
            (Some(parent), Some(name)) => {
                let here = parent.as_os_str().is_empty();
                let parent = if here { Path::new(".") } else { parent };
                fs::canonicalize(parent).ok()?.join(name)
            }
            _ => fs::canonicalize(&full).ok()?,
        };
        Some(Place { relative: self.relative(&absolute)?, absolute })
    }

    /// A descriptor was opened; `before` is what the path named until then.
    pub fn opened(&mut self, fd: c_int, flags: c_int, place: Option<(&Place, Option<&Metadata>)>) {
        self.forget(fd);
        let Some(now) = stat(fd).filter(|s| s.is_dir || s.is_file) else {
            return;
        };
        let Ok(path) = fs::read_link(format!("/proc/self/fd/{fd}")) else {
            return;
        };
        let unnamed = flags & libc::O_TMPFILE == libc::O_TMPFILE;
        let relative = if unnamed { place.map(|_| PathBuf::new()) } else { self.relative(&path) };
        let Some(path) = relative else { return };
        let before = place.and_then(|(_, before)| before);
        let created =
            unnamed || (place.is_some() && before.is_none() && flags & libc::O_CREAT != 0);
        let mode = Mode {
            dsync: flags & libc::O_DSYNC != 0,
            direct: flags & libc::O_DIRECT != 0,
            append: flags & libc::O_APPEND != 0,
            base: false,
        };
        self.track(fd, Handle { ident: now.ident, mode });
        let file = now.ident;
        self.append(&Event::Open { file, path, flags: flags.unsigned_abs(), created });
        if flags & libc::O_TRUNC != 0 && before.is_some_and(|b| b.len() > 0) {
            self.append(&Event::Resize { file, size: 0 });
        }
    }

    /// A file came in from outside by a rename or a link: its bytes are news.
    pub fn adopt(&mut self, place: &Place) {
        match fs::symlink_metadata(&place.absolute) {
            Ok(meta) if meta.is_file() => {
                let (file, path) = (ident(&meta), place.relative.clone());
                self.append(&Event::Open { file, path, flags: 0, created: true });
                self.contents(file, &place.absolute, Mode::default());
            }
            _ => self.unsupported("something that is no plain file was moved into the directory"),
        }
    }

    /// Logs a file's bytes as writes.
    pub fn contents(&mut self, file: Ident, path: &Path, mode: Mode) {
        let Ok(bytes) = fs::read(path) else {
            return self.unsupported("a file that was already there cannot be read");
        };
        for (i, piece) in bytes.chunks(PIECE_BYTES).enumerate() {
            let offset = (i * PIECE_BYTES) as u64;
            self.append(&Event::Write { file, offset, mode, data: piece.into() });
        }
    }

    /// Logs the start of a sync; the answer names it at its end.
    pub fn sync_start(&mut self, file: Ident, kind: SyncKind) -> u64 {
        self.syncs += 1;
        let id = u64::from(std::process::id()) << 32 | (self.syncs & 0xffff_ffff);
        self.append(&Event::SyncStart { id, file, kind });
        id
    }

    /// Whether `syncfs` on this descriptor reaches the recorded files.
    pub fn same_device(&self, fd: c_int) -> Option<Ident> {
        let device = stat(fd)?.ident.dev;
        let root = self.roots.iter().filter_map(|root| fs::metadata(root).ok());
        root.map(|meta| ident(&meta)).find(|ident| ident.dev == device)
    }
}

pub fn ident(meta: &Metadata) -> Ident {
    Ident { dev: meta.dev(), ino: meta.ino() }
}
