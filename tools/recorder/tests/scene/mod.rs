//! A directory, a log, and children that are recorded.
#![allow(dead_code)] // Each test binary uses its part.

use lethe_recorder::{CrashImages, Event, Log, MetadataRule, Variant};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A directory to record, and a log beside it; both go at the end.
pub struct Scene {
    pub base: PathBuf,
    pub dir: PathBuf,
    pub log: PathBuf,
}

impl Scene {
    pub fn new(name: &str) -> Scene {
        let base = std::env::temp_dir().join(format!("lethe-rec-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        fs::create_dir_all(base.join("data")).unwrap();
        let base = fs::canonicalize(&base).unwrap();
        Scene { dir: base.join("data"), log: base.join("log"), base }
    }

    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("LD_PRELOAD", library()).env("LETHE_REC_DIR", &self.dir);
        command.env("LETHE_REC_LOG", &self.log);
        command
    }

    pub fn probe(&self, what: &str) -> Output {
        let out = self.command(&target().join("examples/probe")).arg(what).arg(&self.dir).output();
        let out = out.unwrap();
        assert!(out.status.success(), "{what}: {}", String::from_utf8_lossy(&out.stderr));
        out
    }

    pub fn log(&self) -> Log {
        let log = Log::read(&self.log).unwrap();
        assert_eq!(log.roots, std::slice::from_ref(&self.dir));
        log
    }

    /// The events after the snapshot, one line each, with the files numbered.
    pub fn lines(&self) -> Vec<String> {
        let mut syncs = HashMap::new();
        let events = self.log().events;
        let begin = events.iter().position(|e| matches!(e, Event::SyncEnd { .. })).unwrap() + 1;
        events[begin..].iter().map(|event| line(event, &mut syncs)).collect()
    }

    /// The rebuilt directory equals the real one.
    pub fn assert_complete(&self) {
        assert_eq!(self.differences(), Vec::<PathBuf>::new());
    }

    pub fn differences(&self) -> Vec<PathBuf> {
        let log = self.log();
        let mut images = CrashImages::new(&log, MetadataRule::Ext4Like);
        images.go_to(log.events.len()).unwrap();
        images.image(Variant::All).differences(&self.dir).unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.base);
    }
}

pub fn target() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_lethe-recorder")).parent().unwrap().to_owned()
}

pub fn library() -> PathBuf {
    // `cargo test` renews the one in deps.
    target().join("deps/liblethe_recorder.so")
}

pub fn line(event: &Event, syncs: &mut HashMap<u64, usize>) -> String {
    match event {
        Event::BaseDir { path, .. } => format!("basedir {}", path.display()),
        Event::BaseFile { file, path } => format!("base {} {}", file.0, path.display()),
        Event::Open { file, path, created, .. } => {
            format!("{} {} {}", if *created { "create" } else { "open" }, file.0, path.display())
        }
        Event::Mkdir { file, path } => format!("mkdir {} {}", file.0, path.display()),
        Event::Write { file, offset, mode, data } => {
            let text = String::from_utf8_lossy(&data[..data.len().min(12)]).into_owned();
            let mut out = format!("write {} {offset} {text}", file.0);
            for (flag, name) in
                [(mode.dsync, " dsync"), (mode.direct, " direct"), (mode.append, " append")]
            {
                out.push_str(if flag { name } else { "" });
            }
            out
        }
        Event::Resize { file, size } => format!("resize {} {size}", file.0),
        Event::Zero { file, offset, len } => format!("zero {} {offset} {len}", file.0),
        Event::SyncStart { id, file, kind } => {
            let n = syncs.len();
            syncs.insert(*id, n);
            format!("{kind:?} {} begins {n}", file.0)
        }
        Event::SyncEnd { id, errno } => format!("sync {} ends {errno}", syncs[id]),
        Event::Rename { from, to, .. } => format!("rename {} {}", from.display(), to.display()),
        Event::Link { file, path } => format!("link {} {}", file.0, path.display()),
        Event::Unlink { path } => format!("unlink {}", path.display()),
        Event::Rmdir { path } => format!("rmdir {}", path.display()),
        Event::Close { file } => format!("close {}", file.0),
        Event::Mmap { file, offset, len } => format!("mmap {} {offset} {len}", file.0),
        Event::Fault { class, nth, errno } => format!("fault {class} {nth} {errno}"),
        Event::Unsupported { what } => format!("unsupported {what}"),
    }
}
