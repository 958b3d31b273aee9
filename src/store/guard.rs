//! The disk guard: puts stop before the disk is full, erasure and recovery last longer.
//!
//! Guarantees: below the floor a put is refused before anything of it is written; what is vital passes, and when the
//! space is really going out the `reserve` file is given back to the file system for it. The reserve is allocated
//! blocks, not a hole, and is taken again when there is room for it above the floor.
//!
//! Free space that cannot be read counts as none.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::FallocateFlags;

use super::durable::{self, io_error};
use super::{StoreError, Urgency};
use crate::limits;

/// Bytes that this process may still write, as the file system says.
pub type FreeSpace = Box<dyn Fn() -> io::Result<u64> + Send + Sync>;

/// A reading older than this is taken again.
const READING_LIFE: Duration = Duration::from_millis(100);
/// So is one after which this much was written.
const READING_BYTES: u64 = 4 << 20;
/// What an engine may write for one byte of rows (sled was measured at 4 to 5.6).
const WRITE_AMPLIFICATION: u64 = 8;

#[derive(Default)]
struct State {
    free: u64,
    read: Option<Instant>,
    written_since: u64,
    reserve_held: bool,
    /// Puts are refused.
    full: bool,
}

/// Watches the free space of a directory's file system.
pub struct DiskGuard {
    space: FreeSpace,
    free_min: u64,
    reserve: PathBuf,
    reserve_bytes: u64,
    state: Mutex<State>,
}

impl DiskGuard {
    /// Watches `dir` and keeps the `reserve` file in it.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let watched = dir.to_path_buf();
        let space = move || {
            let fs = rustix::fs::statvfs(&watched)?;
            Ok(fs.f_bavail.saturating_mul(fs.f_frsize))
        };
        Self::with_source(dir, limits::DISK_FREE_MIN, limits::DISK_RESERVE, Box::new(space))
    }

    /// The same with another floor, reserve or source of the figure.
    pub fn with_source(
        dir: &Path,
        free_min: u64,
        reserve_bytes: u64,
        space: FreeSpace,
    ) -> Result<Self, StoreError> {
        durable::create_dir(dir)?;
        let reserve = dir.join("reserve");
        let held = std::fs::metadata(&reserve)
            .is_ok_and(|m| m.len() == reserve_bytes && m.blocks() >= reserve_bytes / 512);
        let state = Mutex::new(State { reserve_held: held, ..State::default() });
        let guard = Self { space, free_min, reserve, reserve_bytes, state };
        if !held {
            durable::remove(&guard.reserve)?;
            let free = guard.free(&mut guard.lock());
            if guard.has_room(free) {
                guard.take_back();
            }
        }
        Ok(guard)
    }

    /// Refuses puts below the floor.
    pub fn admit(&self, urgency: Urgency) -> Result<(), StoreError> {
        let mut state = match urgency {
            Urgency::Vital => return Ok(()),
            Urgency::Put | Urgency::Note => self.lock(),
        };
        let free = self.free(&mut state);
        if urgency == Urgency::Note {
            return if free < self.free_min / 2 { Err(StoreError::DiskFull) } else { Ok(()) };
        }
        let full = free < self.free_min;
        if full != state.full {
            state.full = full;
            if full {
                tracing::error!("the disk is almost full: puts are refused, erasures go on");
            } else {
                tracing::warn!("the disk has room again: puts are taken");
            }
        }
        if full { Err(StoreError::DiskFull) } else { Ok(()) }
    }

    /// Told by the committer what it is about to write; gives the reserve back, or takes it again.
    pub fn before_commit(&self, bytes: u64) {
        let mut state = self.lock();
        state.written_since = state.written_since.saturating_add(bytes);
        let free = self.free(&mut state);
        let needed =
            bytes.saturating_mul(WRITE_AMPLIFICATION).saturating_add(self.reserve_bytes / 2);
        if state.reserve_held && free < needed {
            self.give_back(&mut state);
        } else if !state.reserve_held && self.has_room(free) {
            drop(state);
            self.take_back();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn free(&self, state: &mut State) -> u64 {
        let fresh = state.read.is_some_and(|at| at.elapsed() < READING_LIFE);
        // Near the floor every reading counts.
        let calm = self.has_room(state.free);
        if !fresh || !calm || state.written_since >= READING_BYTES {
            state.free = (self.space)().unwrap_or(0);
            state.read = Some(Instant::now());
            state.written_since = 0;
        }
        state.free
    }

    fn give_back(&self, state: &mut State) {
        // If it cannot be removed the coming write fails and says so.
        state.reserve_held = durable::remove(&self.reserve).is_err();
        state.read = None;
    }

    /// Whether the reserve would leave more than the floor. Without that the vault runs without a reserve.
    fn has_room(&self, free: u64) -> bool {
        free >= self.free_min.saturating_add(self.reserve_bytes)
    }

    /// Only the committer does this, and nobody waits for the disk meanwhile.
    fn take_back(&self) {
        let held = self.allocate().is_ok();
        if !held {
            let _ = durable::remove(&self.reserve);
        }
        let mut state = self.lock();
        state.reserve_held = held;
        state.read = None;
    }

    fn allocate(&self) -> Result<(), StoreError> {
        let mut file = File::create(&self.reserve).map_err(io_error("creation of the reserve"))?;
        if rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, self.reserve_bytes).is_err() {
            fill(&mut file, self.reserve_bytes).map_err(io_error("filling of the reserve"))?;
        }
        file.sync_all().map_err(io_error("sync of the reserve"))?;
        match self.reserve.parent() {
            Some(dir) => durable::sync_dir(dir),
            None => Ok(()),
        }
    }
}

/// For file systems that cannot allocate ahead.
fn fill(file: &mut File, bytes: u64) -> io::Result<()> {
    let zeros = [0_u8; 64 << 10];
    let mut left = bytes;
    while let Some(part) = zeros.get(..usize::try_from(left).unwrap_or(usize::MAX).min(zeros.len()))
        && !part.is_empty()
    {
        file.write_all(part)?;
        left = left.saturating_sub(part.len() as u64);
    }
    Ok(())
}
