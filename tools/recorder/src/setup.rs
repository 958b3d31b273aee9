//! Starts the recorder inside a process, from its environment.
//!
//! Guarantees: a setting that cannot be followed stops the process at once; what the directory
//! holds before the first recorded call is in the log; a process that continues a log of other
//! directories is refused.

use crate::event::{Event, Ident, Mode, SyncKind};
use crate::fault::Injector;
use crate::log::{Stream, header};
use crate::recorder::{Handle, Recorder, die, ident, install};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Directories, comma-separated.
pub const DIR: &str = "LETHE_REC_DIR";
pub const LOG: &str = "LETHE_REC_LOG";
pub const FAULT: &str = "LETHE_FAULT";
/// Gets a line for each fault that fired.
pub const FIRED: &str = "LETHE_FAULT_FIRED";

/// Reads the environment; without `LETHE_REC_DIR` nothing is recorded. `true`: recording.
pub fn start() -> bool {
    let Some(dirs) = std::env::var_os(DIR) else {
        return false;
    };
    let split = dirs.as_bytes().split(|b| *b == b',').filter(|d| !d.is_empty());
    let roots: Vec<PathBuf> = split
        .map(|dir| PathBuf::from(std::ffi::OsStr::from_bytes(dir)))
        .map(|dir| canonical(&dir).unwrap_or_else(|_| die("LETHE_REC_DIR: no such path")))
        .collect();
    let injector = std::env::var(FAULT).ok().map(|text| match text.parse() {
        Ok(fault) => Injector::new(fault),
        Err(e) => die(&e),
    });
    let append = |path: &Path| OpenOptions::new().append(true).read(true).create(true).open(path);
    let open = |name: &str| {
        let path = PathBuf::from(std::env::var_os(name)?);
        match (canonical(&path), append(&path)) {
            (Ok(path), Ok(_)) if roots.iter().any(|root| path.starts_with(root)) => {
                die(&format!("{name}: must lie outside the recorded directory"))
            }
            (Ok(path), Ok(file)) => Some((path, file)),
            _ => die(&format!("{name}: cannot be opened")),
        }
    };
    let log = open(LOG);
    let fired = open(FIRED).map(|(_, file)| file);
    let mut recorder = Recorder {
        roots,
        log: None,
        injector,
        fired,
        handles: HashMap::new(),
        scratch: Vec::new(),
        syncs: 0,
    };
    if let Some((path, file)) = log
        && begin_log(&mut recorder, &path, file).is_err()
    {
        die("LETHE_REC_LOG: cannot be begun or continued");
    }
    inherit(&mut recorder);
    install(recorder);
    true
}

/// The canonical path, of which the last parts need not exist yet.
fn canonical(path: &Path) -> io::Result<PathBuf> {
    match (fs::canonicalize(path), path.parent(), path.file_name()) {
        (Ok(path), _, _) => Ok(path),
        (Err(_), Some(parent), Some(name)) if parent.as_os_str().is_empty() => {
            Ok(fs::canonicalize(".")?.join(name))
        }
        (Err(_), Some(parent), Some(name)) => Ok(canonical(parent)?.join(name)),
        (Err(e), _, _) => Err(e),
    }
}

/// Writes the header and what is there, or checks that the log is about the same directories.
/// Every recording process holds the log's lock shared, so one that gets it alone knows that no
/// other is alive.
fn begin_log(recorder: &mut Recorder, path: &Path, mut file: File) -> io::Result<()> {
    let alone = file.try_lock().is_ok();
    if !alone {
        file.lock_shared()?; // Waits while another begins the log.
    }
    if file.metadata()?.len() > 0 {
        let mut known = Stream::open(path).map_err(io::Error::other)?;
        if known.roots() != recorder.roots {
            die("LETHE_REC_LOG: holds the record of other directories");
        }
        // Appending to a cut-off record would hide everything after it.
        if alone && (known.by_ref().any(|event| event.is_err()) || known.torn()) {
            die("LETHE_REC_LOG: its last process was killed while writing; begin a new log");
        }
        recorder.log = Some(file);
    } else {
        file.write_all(&header(&recorder.roots))?;
        recorder.log = Some(file);
        snapshot(recorder);
    }
    recorder.log.as_ref().map_or(Ok(()), File::lock_shared)
}

/// Logs what is there; it counts as synced.
fn snapshot(recorder: &mut Recorder) {
    let mut seen = HashSet::new();
    let mut last = Ident { dev: 0, ino: 0 };
    let mut todo = recorder.roots.clone();
    while let Some(dir) = todo.pop() {
        let (Ok(meta), Some(path)) = (fs::metadata(&dir), recorder.relative(&dir)) else {
            continue;
        };
        last = ident(&meta);
        recorder.append(&Event::BaseDir { file: last, path });
        let Ok(entries) = fs::read_dir(&dir) else {
            recorder.unsupported("a directory that was already there cannot be read");
            continue;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            let Ok(meta) = fs::symlink_metadata(&path) else {
                continue;
            };
            let Some(relative) = recorder.relative(&path) else {
                continue;
            };
            let file = ident(&meta);
            if meta.is_dir() {
                todo.push(path);
            } else if !meta.is_file() {
                recorder.unsupported("something that is no plain file is in the directory");
            } else if seen.insert(file) {
                recorder.append(&Event::BaseFile { file, path: relative });
                recorder.contents(file, &path, Mode { base: true, ..Mode::default() });
            } else {
                recorder.append(&Event::Link { file, path: relative });
            }
        }
    }
    let id = recorder.sync_start(last, SyncKind::All);
    recorder.append(&Event::SyncEnd { id, errno: 0 });
}

/// Takes over the descriptors that came with `exec`.
fn inherit(recorder: &mut Recorder) {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return;
    };
    for entry in entries.flatten() {
        let fd = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let target = fs::read_link(entry.path()).ok();
        let (Some(fd), Some(target)) = (fd, target) else {
            continue;
        };
        let Ok(meta) = fs::metadata(entry.path()) else {
            continue;
        };
        if recorder.relative(&target).is_none() || !(meta.is_file() || meta.is_dir()) {
            continue;
        }
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|f| i32::from_str_radix(f.trim(), 8).ok()).unwrap_or(0);
        let mode = Mode {
            dsync: flags & libc::O_DSYNC != 0,
            direct: flags & libc::O_DIRECT != 0,
            append: flags & libc::O_APPEND != 0,
            base: false,
        };
        recorder.track(fd, Handle { ident: ident(&meta), mode });
    }
}
