//! The C symbols that stand before libc's. The only file with `unsafe`.
//!
//! Guarantees: every real call is made by number, straight to the kernel, so nothing here can call
//! itself; a copy that was linked into an executable along with the library's other half records
//! nothing and passes every call on, so that exactly one copy records.

use crate::calls::{self, At, HERE};
use crate::event::{Ident, SyncKind};
use crate::recorder::{after_fork, before_fork};
use libc::{c_char, c_int, c_long, c_uint, c_ulong, c_void, iovec, mode_t, off_t, size_t, ssize_t};
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering};

/// What the recorder asks about a descriptor.
pub struct Stat {
    pub ident: Ident,
    pub size: u64,
    pub is_dir: bool,
    pub is_file: bool,
}

pub fn stat(fd: c_int) -> Option<Stat> {
    // SAFETY: all zeros is a valid `stat`, a plain struct of integers.
    let mut raw: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `raw` is a writable `stat` that outlives the call; a bad descriptor only gives an
    // error.
    if unsafe { libc::fstat(fd, &raw mut raw) } != 0 {
        return None;
    }
    Some(Stat {
        ident: Ident { dev: raw.st_dev, ino: raw.st_ino },
        size: u64::try_from(raw.st_size).unwrap_or(0),
        is_dir: raw.st_mode & libc::S_IFMT == libc::S_IFDIR,
        is_file: raw.st_mode & libc::S_IFMT == libc::S_IFREG,
    })
}

/// The descriptor's cursor.
pub fn position(fd: c_int) -> u64 {
    // SAFETY: takes no pointer; a bad descriptor only gives an error.
    u64::try_from(unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) }).unwrap_or(0)
}

pub fn set_errno(errno: c_int) {
    // SAFETY: libc gives a valid pointer to this thread's own errno.
    unsafe { *libc::__errno_location() = errno }
}

/// Runs when the library is loaded, before `main`.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

extern "C" fn start() {
    if !in_executable() && crate::setup::start() {
        // SAFETY: the three handlers are functions of this library, which is never unloaded:
        // preloaded ones are not.
        unsafe { libc::pthread_atfork(Some(prepare), Some(release), Some(release)) };
    }
}

extern "C" fn prepare() {
    before_fork();
}

extern "C" fn release() {
    after_fork();
}

/// Whether this copy is part of the executable rather than of the preload library.
fn in_executable() -> bool {
    static ANSWER: AtomicU8 = AtomicU8::new(0);
    match ANSWER.load(Ordering::Relaxed) {
        1 => return false,
        2 => return true,
        _ => {}
    }
    // SAFETY: takes no pointer.
    let entry = unsafe { libc::getauxval(libc::AT_ENTRY) };
    let answer = image_of(entry as *const c_void) == image_of(start as *const c_void);
    ANSWER.store(1 + u8::from(answer), Ordering::Relaxed);
    answer
}

/// The start of the loaded image that holds the address.
fn image_of(address: *const c_void) -> *mut c_void {
    // SAFETY: all zeros is a valid `Dl_info`, a plain struct of pointers.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is writable and outlives the call; any address may be asked about.
    unsafe { libc::dladdr(address, &raw mut info) };
    info.dli_fbase
}

/// The next definition of a symbol, looked up once.
fn next(slot: &AtomicPtr<c_void>, name: &CStr) -> *mut c_void {
    let known = slot.load(Ordering::Acquire);
    if !known.is_null() {
        return known;
    }
    // SAFETY: `name` ends in a zero byte.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    slot.store(found, Ordering::Release);
    found
}

/// Defines the C functions. libc's variadic ones (`open`, `fcntl`) are defined with the one more
/// argument that they may have: an absent one is an arbitrary register, which goes to the kernel
/// unread.
macro_rules! interpose {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $ret:ty $body:block)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($arg: $type),*) -> $ret {
            if in_executable() {
                static NEXT: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
                let name = CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes());
                let found = next(&NEXT, name.unwrap_or(c""));
                if !found.is_null() {
                    // SAFETY: the next symbol of this name is libc's or the preload library's; both
                    // have this type.
                    let found: unsafe extern "C" fn($($type),*) -> $ret =
                        unsafe { std::mem::transmute(found) };
                    // SAFETY: the caller's own arguments, under the caller's own promise.
                    return unsafe { found($($arg),*) };
                }
            }
            // SAFETY: the body hands the caller's arguments on to the kernel, and reads through its
            // pointers only what the C contract lets this function read: paths up to their zero
            // byte, and as many bytes as were written.
            unsafe { $body }
        }
    )*};
}

/// # Safety
/// As the system call's contract says.
unsafe fn kernel(number: c_long, args: [c_long; 6]) -> c_long {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the caller's promise.
    unsafe { libc::syscall(number, a, b, c, d, e, f) }
}

/// A system call with its arguments as they come.
macro_rules! sys {
    ($number:ident $(, $arg:expr)*) => {{
        let mut args: [c_long; 6] = [0; 6];
        for (slot, arg) in args.iter_mut().zip([$($arg as c_long),*]) {
            *slot = arg;
        }
        kernel(libc::$number, args)
    }};
}

/// # Safety
/// Null, or a C string that outlives the call in which the path is used.
unsafe fn path<'a>(text: *const c_char) -> &'a Path {
    if text.is_null() {
        return Path::new("");
    }
    // SAFETY: not null; the caller's promise.
    Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(text) }.to_bytes()))
}

/// # Safety
/// `n` readable bytes.
unsafe fn copied(buf: *const c_void, n: usize) -> Vec<u8> {
    // SAFETY: the kernel has just read these n bytes; the caller's promise.
    unsafe { std::slice::from_raw_parts(buf.cast::<u8>(), n) }.to_vec()
}

/// # Safety
/// `count` valid vectors.
unsafe fn vectors<'a>(iov: *const iovec, count: c_int) -> &'a [iovec] {
    match usize::try_from(count) {
        // SAFETY: not null; the caller's promise.
        Ok(count) if !iov.is_null() => unsafe { std::slice::from_raw_parts(iov, count) },
        _ => &[],
    }
}

/// The first `n` bytes' vectors.
fn first(iov: &[iovec], n: usize) -> Vec<iovec> {
    let mut left = n;
    let cut = |v: &iovec| {
        let len = v.iov_len.min(left);
        left -= len;
        iovec { iov_base: v.iov_base, iov_len: len }
    };
    iov.iter().map(cut).collect()
}

/// # Safety
/// As `pwritev2`; a `number` of a call with these arguments.
unsafe fn write_vectors(
    number: c_long,
    fd: c_int,
    (iov, count): (*const iovec, c_int),
    at: At,
    flags: c_int,
) -> ssize_t {
    let offset = if let At::Offset(offset) = at { offset } else { -1 };
    // SAFETY: the caller's promise.
    let all = unsafe { vectors(iov, count) };
    let total = all.iter().fold(0, |sum: usize, v| sum.saturating_add(v.iov_len));
    let real = |n: usize| {
        let short = first(all, n);
        let list = if n == total { iov } else { short.as_ptr() };
        let args = [fd.into(), list as c_long, count.into(), offset, 0, flags.into()];
        // SAFETY: the caller's vectors, or shorter ones over the same memory.
        unsafe { kernel(number, args) as ssize_t }
    };
    let copy = |n: usize| {
        // SAFETY: the kernel has just read these bytes of the caller's vectors.
        let parts = first(all, n).into_iter().map(|v| unsafe { copied(v.iov_base, v.iov_len) });
        parts.flatten().collect()
    };
    let dsync = flags & (libc::RWF_DSYNC | libc::RWF_SYNC) != 0;
    calls::write(fd, at, total, dsync, real, copy)
}

macro_rules! opens {
    ($($at:ident, $here:ident, $create:ident;)*) => {interpose! {$(
        fn $at(dirfd: c_int, name: *const c_char, flags: c_int, mode: mode_t) -> c_int {
            let real = || sys!(SYS_openat, dirfd, name, flags, mode) as c_int;
            calls::open(dirfd, path(name), flags, real)
        }
        fn $here(name: *const c_char, flags: c_int, mode: mode_t) -> c_int {
            let real = || sys!(SYS_openat, HERE, name, flags, mode) as c_int;
            calls::open(HERE, path(name), flags, real)
        }
        fn $create(name: *const c_char, mode: mode_t) -> c_int {
            let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
            let real = || sys!(SYS_openat, HERE, name, flags, mode) as c_int;
            calls::open(HERE, path(name), flags, real)
        }
    )*}};
}
opens! { openat, open, creat; openat64, open64, creat64; }

macro_rules! positioned {
    (
        $($write:ident, $vector:ident, $flagged:ident, $size:ident, $path_size:ident;)*
    ) => {interpose! {$(
        fn $write(fd: c_int, buf: *const c_void, n: size_t, at: off_t) -> ssize_t {
            let real = |n: usize| sys!(SYS_pwrite64, fd, buf, n, at) as ssize_t;
            calls::write(fd, At::Offset(at), n, false, real, |n| copied(buf, n))
        }
        fn $vector(fd: c_int, iov: *const iovec, count: c_int, at: off_t) -> ssize_t {
            write_vectors(libc::SYS_pwritev, fd, (iov, count), At::Offset(at), 0)
        }
        fn $flagged(
            fd: c_int, iov: *const iovec, count: c_int, at: off_t, flags: c_int
        ) -> ssize_t {
            let at = if at == -1 { At::Cursor } else { At::Offset(at) };
            write_vectors(libc::SYS_pwritev2, fd, (iov, count), at, flags)
        }
        fn $size(fd: c_int, size: off_t) -> c_int {
            calls::resize(fd, size, || sys!(SYS_ftruncate, fd, size) as c_int)
        }
        fn $path_size(name: *const c_char, size: off_t) -> c_int {
            calls::resize_path(path(name), size, || sys!(SYS_truncate, name, size) as c_int)
        }
    )*}};
}
positioned! {
    pwrite, pwritev, pwritev2, ftruncate, truncate;
    pwrite64, pwritev64, pwritev64v2, ftruncate64, truncate64;
}

macro_rules! ranges {
    ($($allocate:ident, $posix:ident, $map:ident, $send:ident, $control:ident;)*) => {interpose! {$(
        fn $allocate(fd: c_int, how: c_int, at: off_t, len: off_t) -> c_int {
            calls::allocate(fd, how, at, len, || sys!(SYS_fallocate, fd, how, at, len) as c_int)
        }
        fn $posix(fd: c_int, at: off_t, len: off_t) -> c_int {
            let real = || sys!(SYS_fallocate, fd, 0, at, len) as c_int;
            match calls::allocate(fd, 0, at, len, real) {
                0.. => 0, // This one returns the error instead of setting errno.
                _ => *libc::__errno_location(),
            }
        }
        fn $map(
            at: *mut c_void, len: size_t, access: c_int, flags: c_int, fd: c_int, offset: off_t
        ) -> *mut c_void {
            let mapped = sys!(SYS_mmap, at, len, access, flags, fd, offset) as *mut c_void;
            let shared = matches!(flags & 0xf, libc::MAP_SHARED | libc::MAP_SHARED_VALIDATE);
            if mapped != libc::MAP_FAILED && shared && access & libc::PROT_WRITE != 0 {
                calls::mapped(fd, offset, len);
            }
            mapped
        }
        fn $send(out: c_int, from: c_int, at: *mut off_t, n: size_t) -> ssize_t {
            if calls::refuses_copy(out) {
                return -1;
            }
            sys!(SYS_sendfile, out, from, at, n) as ssize_t
        }
        fn $control(fd: c_int, command: c_int, arg: c_ulong) -> c_int {
            let real = || sys!(SYS_fcntl, fd, command, arg) as c_int;
            match command {
                libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => calls::duplicate(fd, real),
                _ => real(),
            }
        }
    )*}};
}
ranges! {
    fallocate, posix_fallocate, mmap, sendfile, fcntl;
    fallocate64, posix_fallocate64, mmap64, sendfile64, fcntl64;
}

interpose! {
    fn write(fd: c_int, buf: *const c_void, n: size_t) -> ssize_t {
        let real = |n: usize| sys!(SYS_write, fd, buf, n) as ssize_t;
        calls::write(fd, At::Cursor, n, false, real, |n| copied(buf, n))
    }
    fn writev(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t {
        write_vectors(libc::SYS_writev, fd, (iov, count), At::Cursor, 0)
    }
    fn close(fd: c_int) -> c_int {
        calls::close(fd, || sys!(SYS_close, fd) as c_int)
    }
    fn dup(fd: c_int) -> c_int {
        calls::duplicate(fd, || sys!(SYS_dup, fd) as c_int)
    }
    fn dup2(fd: c_int, new: c_int) -> c_int {
        if fd == new {
            // The kernel's dup3 refuses what dup2 allows.
            return if sys!(SYS_fcntl, fd, libc::F_GETFD) < 0 { -1 } else { new };
        }
        calls::duplicate(fd, || sys!(SYS_dup3, fd, new, 0) as c_int)
    }
    fn dup3(fd: c_int, new: c_int, flags: c_int) -> c_int {
        calls::duplicate(fd, || sys!(SYS_dup3, fd, new, flags) as c_int)
    }
    fn fsync(fd: c_int) -> c_int {
        calls::sync(fd, SyncKind::Fsync, || sys!(SYS_fsync, fd) as c_int)
    }
    fn fdatasync(fd: c_int) -> c_int {
        calls::sync(fd, SyncKind::Fdatasync, || sys!(SYS_fdatasync, fd) as c_int)
    }
    fn sync_file_range(fd: c_int, at: off_t, len: off_t, flags: c_uint) -> c_int {
        let real = || sys!(SYS_sync_file_range, fd, at, len, flags) as c_int;
        calls::sync(fd, SyncKind::Range, real)
    }
    fn syncfs(fd: c_int) -> c_int {
        calls::sync_all(Some(fd), || sys!(SYS_syncfs, fd) as c_int)
    }
    fn sync() -> () {
        calls::sync_all(None, || sys!(SYS_sync, 0) as c_int);
    }
    fn rename(from: *const c_char, to: *const c_char) -> c_int {
        let real = || sys!(SYS_renameat2, HERE, from, HERE, to, 0) as c_int;
        calls::rename((HERE, path(from)), (HERE, path(to)), false, real)
    }
    fn renameat(a: c_int, from: *const c_char, b: c_int, to: *const c_char) -> c_int {
        let real = || sys!(SYS_renameat2, a, from, b, to, 0) as c_int;
        calls::rename((a, path(from)), (b, path(to)), false, real)
    }
    fn renameat2(
        a: c_int, from: *const c_char, b: c_int, to: *const c_char, flags: c_uint
    ) -> c_int {
        let real = || sys!(SYS_renameat2, a, from, b, to, flags) as c_int;
        let exchange = flags & libc::RENAME_EXCHANGE != 0;
        calls::rename((a, path(from)), (b, path(to)), exchange, real)
    }
    fn unlink(name: *const c_char) -> c_int {
        calls::remove(HERE, path(name), false, || sys!(SYS_unlinkat, HERE, name, 0) as c_int)
    }
    fn unlinkat(dirfd: c_int, name: *const c_char, flags: c_int) -> c_int {
        let real = || sys!(SYS_unlinkat, dirfd, name, flags) as c_int;
        calls::remove(dirfd, path(name), flags & libc::AT_REMOVEDIR != 0, real)
    }
    fn rmdir(name: *const c_char) -> c_int {
        let real = || sys!(SYS_unlinkat, HERE, name, libc::AT_REMOVEDIR) as c_int;
        calls::remove(HERE, path(name), true, real)
    }
    fn mkdir(name: *const c_char, mode: mode_t) -> c_int {
        calls::mkdir(HERE, path(name), || sys!(SYS_mkdirat, HERE, name, mode) as c_int)
    }
    fn mkdirat(dirfd: c_int, name: *const c_char, mode: mode_t) -> c_int {
        calls::mkdir(dirfd, path(name), || sys!(SYS_mkdirat, dirfd, name, mode) as c_int)
    }
    fn link(from: *const c_char, to: *const c_char) -> c_int {
        let real = || sys!(SYS_linkat, HERE, from, HERE, to, 0) as c_int;
        calls::link(Some((HERE, path(from))), (HERE, path(to)), real)
    }
    fn linkat(
        a: c_int, from: *const c_char, b: c_int, to: *const c_char, flags: c_int
    ) -> c_int {
        let real = || sys!(SYS_linkat, a, from, b, to, flags) as c_int;
        let source = (flags & libc::AT_EMPTY_PATH == 0).then(|| (a, path(from)));
        calls::link(source, (b, path(to)), real)
    }
    fn symlink(target: *const c_char, name: *const c_char) -> c_int {
        calls::symlink((HERE, path(name)), || sys!(SYS_symlinkat, target, HERE, name) as c_int)
    }
    fn symlinkat(target: *const c_char, dirfd: c_int, name: *const c_char) -> c_int {
        let real = || sys!(SYS_symlinkat, target, dirfd, name) as c_int;
        calls::symlink((dirfd, path(name)), real)
    }
    fn copy_file_range(
        from: c_int, a: *mut off_t, to: c_int, b: *mut off_t, n: size_t, flags: c_uint
    ) -> ssize_t {
        if calls::refuses_copy(to) {
            return -1;
        }
        sys!(SYS_copy_file_range, from, a, to, b, n, flags) as ssize_t
    }
    fn splice(
        from: c_int, a: *mut off_t, to: c_int, b: *mut off_t, n: size_t, flags: c_uint
    ) -> ssize_t {
        if calls::refuses_copy(to) {
            return -1;
        }
        sys!(SYS_splice, from, a, to, b, n, flags) as ssize_t
    }
}
