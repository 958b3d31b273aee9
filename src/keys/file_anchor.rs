//! The anchor as a file of two slots, rewritten in place (ERASURE §3).
//!
//! Invariants: the file is written whole once, then never renamed, truncated or extended; a write is `O_DSYNC`, and
//! `O_DIRECT` where the file system takes it; a medium that may keep old blocks is told, never guessed away.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, fstatfs};

use super::anchor::{Anchor, AnchorError, SLOT_BYTES};
use crate::class::Medium;
use crate::os::has_shared_extents;

const FILE_BYTES: u64 = 2 * SLOT_BYTES as u64;

/// File systems that overwrite blocks in place, by their statfs magic.
const OVERWRITES: [(i64, &str); 3] =
    [(0xEF53, "ext4"), (0x5846_5342, "XFS"), (0x0102_1994, "tmpfs")];
/// File systems that are known to keep old blocks, for the message.
const KEEPS: [(i64, &str); 7] = [
    (0x9123_683E, "btrfs"),
    (0x2FC1_2FC1, "ZFS"),
    (0x794C_7630, "overlayfs"),
    (0x6969, "NFS"),
    (0xF2F5_2010, "F2FS"),
    (0x6573_5546, "FUSE"),
    (0xCA45_1A4E, "bcachefs"),
];

/// Two slots in a file.
#[derive(Debug)]
pub struct FileAnchor {
    path: PathBuf,
    file: File,
    medium: Medium,
    why: String,
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> AnchorError {
    move |e| AnchorError::Io(what, e.to_string())
}

fn open(path: &Path, create: bool) -> io::Result<File> {
    let flags = OFlags::DSYNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let with = |extra: OFlags| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(create)
            .mode(0o600)
            .custom_flags((flags | extra).bits() as i32)
            .open(path)
    };
    match with(OFlags::DIRECT) {
        // A file system without direct I/O refuses the flag; create_new may have left the file behind.
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
            if create && path.exists() {
                std::fs::remove_file(path)?;
            }
            with(OFlags::empty())
        }
        other => other,
    }
}

impl FileAnchor {
    /// Makes the file, with both slots zero, and syncs it and its directory.
    pub fn create(path: &Path) -> Result<Self, AnchorError> {
        let file = open(path, true).map_err(io_error("created"))?;
        for slot in [0, 1] {
            write_slot(&file, slot, &[0; SLOT_BYTES]).map_err(io_error("created"))?;
        }
        file.sync_all().map_err(io_error("synced"))?;
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|d| d.sync_all()).map_err(io_error("synced"))?;
        Self::judged(path, file)
    }

    /// Opens an existing anchor file.
    pub fn open(path: &Path) -> Result<Self, AnchorError> {
        let file = open(path, false).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => AnchorError::Missing(path.display().to_string()),
            _ => io_error("opened")(e),
        })?;
        let meta = file.metadata().map_err(io_error("read"))?;
        if !meta.is_file() || meta.len() != FILE_BYTES {
            return Err(AnchorError::Truncated(meta.len()));
        }
        Self::judged(path, file)
    }

    /// Takes the medium for one that may keep old blocks, whatever it is. Only tests call this.
    #[doc(hidden)]
    pub fn distrust(&mut self) {
        self.medium = Medium::MayKeepOldBlocks;
        self.why = "a medium that a test distrusts".to_owned();
    }

    fn judged(path: &Path, file: File) -> Result<Self, AnchorError> {
        let (medium, why) = judge(&file).map_err(io_error("judged"))?;
        Ok(Self { path: path.to_owned(), file, medium, why })
    }
}

/// What an anchor at `path` could claim, and why; nothing is written. Of a folder: what one in it could.
pub fn medium_of(path: &Path) -> io::Result<(Medium, String)> {
    judge(&File::open(path)?)
}

/// Whether overwriting a block of this file destroys what was there, and why.
fn judge(file: &File) -> io::Result<(Medium, String)> {
    let magic = fstatfs(file)?.f_type as i64;
    let Some((_, name)) = OVERWRITES.iter().find(|(m, _)| *m == magic) else {
        let name =
            KEEPS.iter().find(|(m, _)| *m == magic).map_or("an unknown file system", |k| k.1);
        return Ok((Medium::MayKeepOldBlocks, name.to_owned()));
    };
    let device = file.metadata()?.dev();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    if journals_data(&mounts, device) {
        return Ok((Medium::MayKeepOldBlocks, format!("{name} with data=journal")));
    }
    match has_shared_extents(file) {
        Ok(true) => Ok((Medium::MayKeepOldBlocks, format!("{name} with shared extents"))),
        Err(_) if *name == "XFS" => {
            Ok((Medium::MayKeepOldBlocks, "XFS that cannot tell shared extents".to_owned()))
        }
        Ok(false) | Err(_) => Ok((Medium::InPlaceFile, (*name).to_owned())),
    }
}

/// Whether the mount of `device` writes data through its journal (old slots would survive there).
fn journals_data(mountinfo: &str, device: u64) -> bool {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let id = format!("{major}:{minor}");
    mountinfo
        .lines()
        .filter(|line| line.split(' ').nth(2) == Some(id.as_str()))
        .any(|line| line.split([' ', ',']).any(|option| option == "data=journal"))
}

/// Writes one aligned block (direct I/O wants its memory aligned too).
fn write_slot(file: &File, slot: u8, image: &[u8]) -> io::Result<()> {
    let mut buffer = vec![0; 2 * SLOT_BYTES];
    let start = buffer.as_ptr().align_offset(SLOT_BYTES);
    let aligned = buffer
        .get_mut(start..start + SLOT_BYTES)
        .filter(|_| image.len() == SLOT_BYTES)
        .ok_or(io::ErrorKind::InvalidInput)?;
    aligned.copy_from_slice(image);
    file.write_all_at(aligned, u64::from(slot) * SLOT_BYTES as u64)
}

impl Anchor for FileAnchor {
    fn load(&mut self) -> Result<[Vec<u8>; 2], AnchorError> {
        // Read past the page cache's alignment rules with a plain handle: what was written is synced.
        let plain = File::open(&self.path).map_err(io_error("read"))?;
        let mut both = [vec![0; SLOT_BYTES], vec![0; SLOT_BYTES]];
        for (image, at) in both.iter_mut().zip([0, SLOT_BYTES as u64]) {
            plain.read_exact_at(image, at).map_err(io_error("read"))?;
        }
        Ok(both)
    }

    fn write(&mut self, slot: u8, image: &[u8]) -> Result<(), AnchorError> {
        write_slot(&self.file, slot, image).map_err(io_error("written"))
    }

    fn medium(&self) -> Medium {
        self.medium
    }

    fn describe(&self) -> String {
        format!("file {} on {}", self.path.display(), self.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_overwritten_where_it_lies() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("anchor");
        let mut anchor = FileAnchor::create(&path).unwrap();
        let inode = std::fs::metadata(&path).unwrap().ino();
        anchor.write(1, &[5; SLOT_BYTES]).unwrap();
        assert_eq!(anchor.load().unwrap(), [vec![0; SLOT_BYTES], vec![5; SLOT_BYTES]]);
        let meta = std::fs::metadata(&path).unwrap();
        assert_eq!((meta.ino(), meta.len(), meta.mode() & 0o777), (inode, FILE_BYTES, 0o600));
        assert!(anchor.write(0, &[1; 10]).is_err());
        assert!(FileAnchor::create(&path).is_err(), "an anchor is never made over another");
    }

    #[test]
    fn a_short_file_a_link_and_nothing_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("anchor");
        assert!(matches!(FileAnchor::open(&path), Err(AnchorError::Missing(_))));
        std::fs::write(&path, [0; 100]).unwrap();
        assert_eq!(FileAnchor::open(&path).err(), Some(AnchorError::Truncated(100)));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(FileAnchor::open(&link), Err(AnchorError::Io(..))));
    }

    #[test]
    fn data_journalling_is_seen_for_the_right_device_only() {
        let info = "30 1 254:0 / / rw - ext4 /dev/vda rw,data=journal\n\
                    31 1 8:1 / /b rw - ext4 /dev/sda1 rw,discard";
        assert!(journals_data(info, rustix::fs::makedev(254, 0)));
        assert!(!journals_data(info, rustix::fs::makedev(8, 1)));
        assert!(!journals_data(info, rustix::fs::makedev(9, 9)));
    }

    #[test]
    fn proc_is_no_place_for_an_anchor() {
        let (medium, why) = judge(&File::open("/proc/self/stat").unwrap()).unwrap();
        assert_eq!(medium, Medium::MayKeepOldBlocks);
        assert_eq!(why, "an unknown file system");
    }
}
