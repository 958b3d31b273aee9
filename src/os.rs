//! What needs the operating system by unsafe calls, all in this one file: locked memory and extent flags; and how long
//! the machine has run.
//!
//! Invariants: a [`LockedBytes`] lives in pages that are locked into memory and left out of core dumps, and is zeroed
//! when dropped; the arena is bounded and is never unmapped.
#![allow(unsafe_code)]

use std::fs::File;
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::io::Errno;
use rustix::ioctl::{Updater, ioctl};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous};
use zeroize::Zeroize;

/// Milliseconds since the machine was started, time asleep included. Nobody can set them.
pub fn uptime_millis() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec.saturating_mul(1_000).saturating_add(now.tv_nsec / 1_000_000)
}

/// Tells one start of the machine from every other; `None` where the kernel does not say.
pub fn boot_id() -> Option<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    uuid::Uuid::parse_str(text.trim()).ok().map(uuid::Uuid::into_bytes)
}

/// Bytes of one cell: the size of every key.
pub const CELL: usize = 32;
/// Bytes that are locked.
pub const ARENA_BYTES: usize = 64 * 1024;
const CELLS: usize = ARENA_BYTES / CELL;

/// Locked memory is not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    #[error("cannot lock {ARENA_BYTES} bytes of memory ({0}); raise RLIMIT_MEMLOCK")]
    Refused(Errno),
    #[error("all {CELLS} cells of locked memory are in use")]
    Full,
}

struct Arena {
    base: *mut u8,
    free: Mutex<Vec<u16>>,
}

// SAFETY: `base` points to memory that is never unmapped; a cell is reached only through the one `LockedBytes` that
// took its number from `free`, which a mutex guards.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

fn arena() -> Result<&'static Arena, LockError> {
    static ARENA: OnceLock<Result<Arena, LockError>> = OnceLock::new();
    ARENA
        .get_or_init(|| {
            let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
            // SAFETY: a fresh anonymous mapping at an address of the kernel's choice overlaps nothing.
            let base = unsafe { mmap_anonymous(std::ptr::null_mut(), ARENA_BYTES, prot, flags) }
                .map_err(LockError::Refused)?;
            // SAFETY: the range is exactly the mapping made above.
            unsafe { mlock(base, ARENA_BYTES) }.map_err(LockError::Refused)?;
            // SAFETY: as above; the advice changes no contents.
            unsafe { madvise(base, ARENA_BYTES, Advice::LinuxDontDump) }
                .map_err(LockError::Refused)?;
            let free = (0..CELLS).rev().filter_map(|n| u16::try_from(n).ok()).collect();
            Ok(Arena { base: base.cast(), free: Mutex::new(free) })
        })
        .as_ref()
        .map_err(|e| *e)
}

/// 32 bytes of locked memory, zeroed when dropped.
pub struct LockedBytes {
    arena: &'static Arena,
    cell: u16,
}

impl LockedBytes {
    /// Makes a cell and lets `fill` write it in place.
    pub fn new(fill: impl FnOnce(&mut [u8; CELL])) -> Result<Self, LockError> {
        let arena = arena()?;
        let cell = arena
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .ok_or(LockError::Full)?;
        let mut new = Self { arena, cell };
        fill(new.bytes_mut());
        Ok(new)
    }

    /// The secret. Grep for this name to find every place that sees one.
    pub fn expose(&self) -> &[u8; CELL] {
        // SAFETY: the cell lies inside the mapping, is aligned for bytes, and this value is its only owner.
        unsafe { &*self.arena.base.add(usize::from(self.cell) * CELL).cast() }
    }

    fn bytes_mut(&mut self) -> &mut [u8; CELL] {
        // SAFETY: as in `expose`; `&mut self` makes the borrow exclusive.
        unsafe { &mut *self.arena.base.add(usize::from(self.cell) * CELL).cast() }
    }
}

impl Drop for LockedBytes {
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
        self.arena.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.cell);
    }
}

const FIEMAP_EXTENTS: usize = 8;
const FIEMAP_EXTENT_SHARED: u32 = 0x2000;
const FIEMAP_FLAG_SYNC: u32 = 1;
/// `_IOWR('f', 11, struct fiemap)`, whose fixed part has 32 bytes.
const FS_IOC_FIEMAP: rustix::ioctl::Opcode = 0xC020_660B;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

#[repr(C)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped_extents: u32,
    extent_count: u32,
    reserved: u32,
    extents: [Extent; FIEMAP_EXTENTS],
}

/// Whether a block of the file is shared with another file or snapshot (a reflink). `Err` where the file system cannot
/// tell.
pub fn has_shared_extents(file: &File) -> Result<bool, Errno> {
    let mut map = Fiemap {
        start: 0,
        length: u64::MAX,
        flags: FIEMAP_FLAG_SYNC,
        mapped_extents: 0,
        extent_count: FIEMAP_EXTENTS as u32,
        reserved: 0,
        extents: [Extent::default(); FIEMAP_EXTENTS],
    };
    // SAFETY: FS_IOC_FIEMAP reads and writes a `struct fiemap` followed by `extent_count` extents, which is this
    // layout.
    unsafe { ioctl(file, Updater::<FS_IOC_FIEMAP, Fiemap>::new(&mut map)) }?;
    let mapped = usize::try_from(map.mapped_extents).unwrap_or(FIEMAP_EXTENTS).min(FIEMAP_EXTENTS);
    Ok(map.extents.iter().take(mapped).any(|e| e.flags & FIEMAP_EXTENT_SHARED != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_zero_again_after_its_owner_is_gone() {
        let a = LockedBytes::new(|b| b.fill(0xaa)).unwrap();
        assert_eq!(a.expose(), &[0xaa; CELL]);
        let at: *const [u8; CELL] = a.expose();
        drop(a);
        // SAFETY: the arena is never unmapped, and no other test writes this pattern.
        assert_ne!(unsafe { *at }, [0xaa; CELL]);
    }

    #[test]
    fn the_arena_is_left_out_of_core_dumps_and_locked() {
        let cell = LockedBytes::new(|b| b.fill(1)).unwrap();
        let at = cell.expose().as_ptr() as usize;
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut ours = false;
        for line in maps.lines() {
            if let Some((range, _)) = line.split_once(' ')
                && let Some((from, to)) = range.split_once('-')
                && let (Ok(from), Ok(to)) =
                    (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16))
            {
                ours = (from..to).contains(&at);
            } else if ours && line.starts_with("VmFlags:") {
                assert!(line.contains(" lo") && line.contains(" dd"), "{line}");
                return;
            }
        }
        panic!("no mapping holds the arena");
    }

    #[test]
    fn an_ordinary_file_shares_no_extent() {
        let file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut &file, &[1; 8192]).unwrap();
        assert!(matches!(has_shared_extents(&file), Ok(false) | Err(Errno::OPNOTSUPP)));
    }
}
