//! What is recorded of each kind of call. The real call comes in as a closure.
//!
//! Guarantees: the answer and `errno` are the real call's, unless a fault was injected.

use crate::event::{Event, Ident, Mode, SyncKind};
use crate::fault::Class;
use crate::interpose::position;
use crate::recorder::{Place, Session, ident};
use libc::{AT_FDCWD, c_int};
use std::fs;
use std::path::Path;

/// Where a write goes.
#[derive(Clone, Copy)]
pub enum At {
    Cursor,
    Offset(i64),
}

/// `real(n)` writes the first n bytes; `copy(n)` gives them.
pub fn write(
    fd: c_int,
    at: At,
    total: usize,
    dsync: bool,
    real: impl Fn(usize) -> isize,
    copy: impl Fn(usize) -> Vec<u8>,
) -> isize {
    let Some((mut session, handle, stat)) = Session::tracked(fd) else {
        return real(total);
    };
    let limit = match session.write_limit(total, handle.mode.direct) {
        Ok(limit) => limit,
        Err(errno) => return session.fail(errno) as isize,
    };
    let offset = match at {
        // Linux appends whatever offset pwrite gives.
        _ if handle.mode.append => stat.size,
        At::Offset(offset) => u64::try_from(offset).unwrap_or(0),
        At::Cursor => position(fd),
    };
    let n = real(limit);
    if session.succeeded(n) && n > 0 {
        let mode = Mode { dsync: handle.mode.dsync || dsync, ..handle.mode };
        let data = copy(n.unsigned_abs()).into();
        session.append(&Event::Write { file: handle.ident, offset, mode, data });
    }
    n
}

pub fn open(dirfd: c_int, path: &Path, flags: c_int, real: impl Fn() -> c_int) -> c_int {
    let Some(mut session) = Session::enter() else {
        return real();
    };
    let Some(place) = session.resolve(dirfd, path) else {
        // Not held: the open of a pipe may wait for its other end.
        drop(session);
        let fd = real();
        if fd >= 0
            && let Some(mut session) = Session::enter()
        {
            session.opened(fd, flags, None);
        }
        return fd;
    };
    if let Some(errno) = session.errno_fault(Class::Open) {
        return session.fail(errno);
    }
    let before = fs::metadata(&place.absolute).ok();
    let fd = real();
    if session.succeeded(fd as isize) {
        session.opened(fd, flags, Some((&place, before.as_ref())));
    }
    fd
}

pub fn close(fd: c_int, real: impl Fn() -> c_int) -> c_int {
    let Some((mut session, handle, _)) = Session::tracked(fd) else {
        return real();
    };
    session.forget(fd);
    let result = real();
    session.succeeded(result as isize);
    session.append(&Event::Close { file: handle.ident });
    result
}

/// `real` makes another descriptor of the file.
pub fn duplicate(fd: c_int, real: impl Fn() -> c_int) -> c_int {
    let source = Session::tracked(fd);
    match source {
        Some((mut session, handle, _)) => {
            let new = real();
            if session.succeeded(new as isize) && new != fd {
                session.track(new, handle);
            }
            new
        }
        None => {
            let new = real();
            // It may have closed a recorded one.
            if new >= 0
                && let Some((mut session, _, _)) = Session::tracked(new)
            {
                session.forget(new);
            }
            new
        }
    }
}

pub fn sync(fd: c_int, kind: SyncKind, real: impl Fn() -> c_int) -> c_int {
    match Session::tracked(fd) {
        Some((session, handle, _)) => run_sync(session, handle.ident, kind, real),
        None => real(),
    }
}

/// `fd`: a descriptor on the file system, or `None` for all of them.
pub fn sync_all(fd: Option<c_int>, real: impl Fn() -> c_int) -> c_int {
    let Some(session) = Session::enter() else {
        return real();
    };
    let reached = match fd {
        Some(fd) => session.same_device(fd),
        None => Some(Ident { dev: 0, ino: 0 }),
    };
    match reached {
        Some(ident) => run_sync(session, ident, SyncKind::All, real),
        None => {
            drop(session);
            real()
        }
    }
}

fn run_sync(mut session: Session, file: Ident, kind: SyncKind, real: impl Fn() -> c_int) -> c_int {
    if let Some(errno) = session.errno_fault(Class::Sync) {
        return session.fail(errno);
    }
    let id = session.sync_start(file, kind);
    drop(session); // Syncs run side by side.
    let result = real();
    let errno = match result {
        0.. => 0,
        _ => std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO),
    };
    if let Some(mut session) = Session::enter() {
        session.append(&Event::SyncEnd { id, errno: errno.unsigned_abs() });
        if result < 0 {
            session.fail(errno);
        }
    }
    result
}

pub fn resize(fd: c_int, size: i64, real: impl Fn() -> c_int) -> c_int {
    let Some((mut session, handle, _)) = Session::tracked(fd) else {
        return real();
    };
    if let Some(errno) = session.errno_fault(Class::Write) {
        return session.fail(errno);
    }
    let result = real();
    if session.succeeded(result as isize) {
        let size = u64::try_from(size).unwrap_or(0);
        session.append(&Event::Resize { file: handle.ident, size });
    }
    result
}

pub fn resize_path(path: &Path, size: i64, real: impl Fn() -> c_int) -> c_int {
    let Some(mut session) = Session::enter() else {
        return real();
    };
    let target = fs::canonicalize(path).ok();
    if target.and_then(|path| session.relative(&path)).is_none() {
        drop(session);
        return real();
    }
    if let Some(errno) = session.errno_fault(Class::Write) {
        return session.fail(errno);
    }
    let result = real();
    if session.succeeded(result as isize)
        && let Ok(meta) = fs::metadata(path)
    {
        let size = u64::try_from(size).unwrap_or(0);
        session.append(&Event::Resize { file: ident(&meta), size });
    }
    result
}

pub fn allocate(fd: c_int, how: c_int, offset: i64, len: i64, real: impl Fn() -> c_int) -> c_int {
    let Some((mut session, handle, stat)) = Session::tracked(fd) else {
        return real();
    };
    if let Some(errno) = session.errno_fault(Class::Write) {
        return session.fail(errno);
    }
    let result = real();
    if !session.succeeded(result as isize) {
        return result;
    }
    let file = handle.ident;
    let (offset, len) = (u64::try_from(offset).unwrap_or(0), u64::try_from(len).unwrap_or(0));
    let end = offset.saturating_add(len);
    if how & (libc::FALLOC_FL_COLLAPSE_RANGE | libc::FALLOC_FL_INSERT_RANGE) != 0 {
        session.unsupported("fallocate moved a range of a file");
    }
    if how & (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE) != 0 {
        session.append(&Event::Zero { file, offset, len });
    }
    if how & libc::FALLOC_FL_KEEP_SIZE == 0 && end > stat.size {
        session.append(&Event::Resize { file, size: end });
    }
    result
}

/// `None`: no place of ours; the session is given back by dropping it.
fn at_place(dirfd: c_int, path: &Path) -> Option<(Session, Place)> {
    let session = Session::enter()?;
    let place = session.resolve(dirfd, path)?;
    Some((session, place))
}

pub fn mkdir(dirfd: c_int, path: &Path, real: impl Fn() -> c_int) -> c_int {
    let Some((mut session, place)) = at_place(dirfd, path) else {
        return real();
    };
    if let Some(errno) = session.errno_fault(Class::Open) {
        return session.fail(errno);
    }
    let result = real();
    if session.succeeded(result as isize)
        && let Ok(meta) = fs::metadata(&place.absolute)
    {
        let (file, path) = (ident(&meta), place.relative);
        let root = session.roots.contains(&place.absolute);
        // A recorded directory itself counts as there.
        let event = if root { Event::BaseDir { file, path } } else { Event::Mkdir { file, path } };
        session.append(&event);
    }
    result
}

pub fn remove(dirfd: c_int, path: &Path, dir: bool, real: impl Fn() -> c_int) -> c_int {
    let Some((mut session, place)) = at_place(dirfd, path) else {
        return real();
    };
    if let Some(errno) = session.errno_fault(Class::Name) {
        return session.fail(errno);
    }
    let result = real();
    if session.succeeded(result as isize) {
        let path = place.relative;
        session.append(&if dir { Event::Rmdir { path } } else { Event::Unlink { path } });
    }
    result
}

pub fn rename(
    from: (c_int, &Path),
    to: (c_int, &Path),
    exchange: bool,
    real: impl Fn() -> c_int,
) -> c_int {
    let Some(mut session) = Session::enter() else {
        return real();
    };
    let (from, to) = (session.resolve(from.0, from.1), session.resolve(to.0, to.1));
    if from.is_none() && to.is_none() {
        drop(session);
        return real();
    }
    if let Some(errno) = session.errno_fault(Class::Name) {
        return session.fail(errno);
    }
    let result = real();
    if !session.succeeded(result as isize) {
        return result;
    }
    match (from, to) {
        (Some(from), Some(to)) => {
            let (from, to) = (from.relative, to.relative);
            session.append(&Event::Rename { from, to, exchange });
        }
        (Some(from), None) => {
            session.append(&Event::Unlink { path: from.relative });
            if exchange {
                session.unsupported("a file was exchanged with one outside the directory");
            }
        }
        (None, Some(to)) => session.adopt(&to),
        (None, None) => {}
    }
    result
}

/// `from` is `None` for a descriptor: `AT_EMPTY_PATH`.
pub fn link(from: Option<(c_int, &Path)>, to: (c_int, &Path), real: impl Fn() -> c_int) -> c_int {
    let Some((mut session, place)) = at_place(to.0, to.1) else {
        return real();
    };
    if let Some(errno) = session.errno_fault(Class::Name) {
        return session.fail(errno);
    }
    let known = match from {
        None => true,
        // How an unnamed file gets its name.
        Some((_, path)) if path.starts_with("/proc") => true,
        Some((dirfd, path)) => session.resolve(dirfd, path).is_some(),
    };
    let result = real();
    if session.succeeded(result as isize) {
        match fs::symlink_metadata(&place.absolute) {
            Ok(meta) if known => {
                let (file, path) = (ident(&meta), place.relative);
                session.append(&Event::Link { file, path });
            }
            _ => session.adopt(&place),
        }
    }
    result
}

pub fn symlink(to: (c_int, &Path), real: impl Fn() -> c_int) -> c_int {
    let Some((mut session, _)) = at_place(to.0, to.1) else {
        return real();
    };
    session.unsupported("a symbolic link was made in the directory");
    drop(session);
    real()
}

/// Called after a mapping succeeded that writes to its file.
pub fn mapped(fd: c_int, offset: i64, len: usize) {
    let Some((mut session, handle, _)) = Session::tracked(fd) else {
        return;
    };
    eprintln!("lethe-recorder: MMAP: a file is mapped for writing; no image can be trusted");
    let offset = u64::try_from(offset).unwrap_or(0);
    session.append(&Event::Mmap { file: handle.ident, offset, len: len as u64 });
}

/// In-kernel copies would go past the log; refused as by a file system that cannot, callers fall
/// back to writes.
pub fn refuses_copy(fd: c_int) -> bool {
    match Session::tracked(fd) {
        Some((mut session, _, _)) => session.fail(libc::EINVAL) < 0,
        None => false,
    }
}

pub const HERE: c_int = AT_FDCWD;
