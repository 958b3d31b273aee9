//! The preload library under a real child process: the log is compared with what the child is known to do.

use lethe_recorder::{CrashImages, Event, Image, Log, MetadataRule, SyncKind, Variant};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A directory to record, and a log beside it; both go at the end.
struct Scene {
    base: PathBuf,
    dir: PathBuf,
    log: PathBuf,
}

impl Scene {
    fn new(name: &str) -> Scene {
        let base = std::env::temp_dir().join(format!("lethe-rec-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        fs::create_dir_all(base.join("data")).unwrap();
        let base = fs::canonicalize(&base).unwrap();
        Scene { dir: base.join("data"), log: base.join("log"), base }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("LD_PRELOAD", library()).env("LETHE_REC_DIR", &self.dir);
        command.env("LETHE_REC_LOG", &self.log);
        command
    }

    fn probe(&self, what: &str) -> Output {
        let out = self.command(&target().join("examples/probe")).arg(what).arg(&self.dir).output();
        let out = out.unwrap();
        assert!(out.status.success(), "{what}: {}", String::from_utf8_lossy(&out.stderr));
        out
    }

    fn log(&self) -> Log {
        let log = Log::read(&self.log).unwrap();
        assert_eq!(log.roots, [self.dir.clone()]);
        log
    }

    /// The events after the snapshot, one line each, with the files numbered.
    fn lines(&self) -> Vec<String> {
        let mut syncs = HashMap::new();
        let events = self.log().events;
        let begin = events.iter().position(|e| matches!(e, Event::SyncEnd { .. })).unwrap() + 1;
        events[begin..].iter().map(|event| line(event, &mut syncs)).collect()
    }

    /// The rebuilt directory equals the real one.
    fn assert_complete(&self) {
        assert_eq!(self.differences(), Vec::<PathBuf>::new());
    }

    fn differences(&self) -> Vec<PathBuf> {
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

fn target() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_lethe-recorder")).parent().unwrap().to_owned()
}

fn library() -> PathBuf {
    // `cargo test` renews the one in deps.
    target().join("deps/liblethe_recorder.so")
}

fn line(event: &Event, syncs: &mut HashMap<u64, usize>) -> String {
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

#[test]
fn the_standard_librarys_calls_are_recorded_exactly() {
    let scene = Scene::new("std");
    scene.probe("std");
    let lines = scene.lines();
    let expected = [
        "create 1 a",
        "write 1 0 hello",
        "write 1 10 POS",
        "write 1 2 LLOO",
        "close 1",
        "resize 1 6",
        "Fdatasync 1 begins 0",
        "sync 0 ends 0",
        "Fsync 1 begins 1",
        "sync 1 ends 0",
        "close 1",
        "open 1 a",
        "write 1 6 +end append",
        "close 1",
        "open 0 ",
        "Fsync 0 begins 2",
        "sync 2 ends 0",
        "close 0",
        "open 1 a",
        "resize 1 0",
        "close 1",
        "create 2 copy",
    ];
    assert_eq!(lines[..expected.len()], expected);
    assert!(lines[expected.len()].starts_with("write 2 0 "), "{lines:?}");
    scene.assert_complete();
}

#[test]
fn the_c_librarys_other_calls_are_recorded_exactly() {
    let scene = Scene::new("raw");
    scene.probe("raw");
    let expected = [
        "create 1 raw",
        "resize 1 100",
        "write 1 50 xyz",
        "write 1 60 abcd",
        "write 1 0 abcd dsync",
        "Range 1 begins 0",
        "sync 0 ends 0",
        "zero 1 51 1",
        "write 1 4 !",
        "close 1",
        "resize 1 64",
        "All 0 begins 1",
        "sync 1 ends 0",
        "close 1",
    ];
    assert_eq!(scene.lines(), expected);
    scene.assert_complete();
}

#[test]
fn names_and_identities_are_followed() {
    let scene = Scene::new("names");
    scene.probe("names");
    let expected = [
        "mkdir 1 sub",
        "create 2 tmp",
        "write 2 0 1",
        "close 2",
        "rename tmp sub/final",
        "open 2 sub/final",
        "rename sub moved",
        "write 2 0 2",
        "link 2 twin",
        "unlink moved/final",
        "rmdir moved",
        "create 3 relative",
        "write 3 0 3",
        "close 3",
        "close 2",
    ];
    let mut lines = scene.lines();
    assert_eq!(lines.pop(), Some("close 2".to_owned()));
    assert_eq!(lines, expected[..expected.len() - 1]);
    scene.assert_complete();
}

#[test]
fn a_direct_durable_write_is_durable_in_every_image() {
    let scene = Scene::new("direct");
    scene.probe("direct");
    let lines = scene.lines();
    assert_eq!(lines[0], "create 1 anchor");
    assert!(lines[1].starts_with("write 1 4096 ") && lines[1].ends_with(" dsync direct"));
    let log = scene.log();
    let mut images = CrashImages::new(&log, MetadataRule::Ext4Like);
    images.go_to(log.events.len()).unwrap();
    assert_eq!(images.image(Variant::None), images.image(Variant::All));
    assert_eq!(images.image(Variant::None).nodes.len(), 1);
    scene.assert_complete();
}

#[test]
fn threads_are_logged_in_the_order_that_the_file_shows() {
    let scene = Scene::new("threads");
    scene.probe("threads");
    let log = scene.log();
    let writes = log.events.iter().filter(|e| matches!(e, Event::Write { .. })).count();
    let of = |e: &&Event| matches!(e, Event::SyncStart { kind: SyncKind::Fdatasync, .. });
    assert_eq!((writes, log.events.iter().filter(of).count()), (200, 20));
    scene.assert_complete();
}

#[test]
fn forks_and_children_go_on_with_the_same_log() {
    let scene = Scene::new("fork");
    scene.probe("fork");
    scene.assert_complete();
    let lines = scene.lines();
    assert!(lines.contains(&"write 1 0 inherited\n".to_owned()), "an inherited descriptor");
    assert!(lines.contains(&"create 2 second".to_owned()), "a child of the child");
}

#[test]
fn what_was_there_before_is_in_the_log_and_durable() {
    let scene = Scene::new("base");
    fs::create_dir(scene.dir.join("d")).unwrap();
    fs::write(scene.dir.join("d/old"), vec![9; 3 << 19]).unwrap();
    fs::hard_link(scene.dir.join("d/old"), scene.dir.join("twin")).unwrap();
    scene.probe("continue");
    scene.probe("continue");
    let log = scene.log();
    let base = |e: &&Event| matches!(e, Event::BaseFile { .. });
    assert_eq!(log.events.iter().filter(base).count(), 1, "only the first process looks around");
    let mut images = CrashImages::new(&log, MetadataRule::Strict);
    images.go_to(log.events.len()).unwrap();
    let names: Vec<PathBuf> = images.image(Variant::None).nodes.into_keys().collect();
    assert_eq!(names, ["d", "d/old", "twin"].map(PathBuf::from));
    scene.assert_complete();
}

#[test]
fn failed_calls_leave_no_trace() {
    let scene = Scene::new("failing");
    scene.probe("failing");
    assert_eq!(scene.lines(), ["open 0 ", "close 0"]);
}

#[test]
fn files_from_outside_and_descriptors_closed_unseen() {
    let scene = Scene::new("outside");
    scene.probe("outside");
    let expected = ["create 1 in", "write 1 0 from outside", "unlink in", "create 2 gone"];
    assert_eq!(scene.lines(), expected);
    scene.assert_complete();
}

/// C's buffered output calls the kernel from inside libc, past every preload library.
#[test]
fn a_write_past_the_library_is_found_by_comparing() {
    let scene = Scene::new("stdio");
    scene.probe("stdio");
    assert_eq!(scene.differences(), [PathBuf::from("stdio")]);
}

#[test]
fn a_shared_mapping_is_loud() {
    let scene = Scene::new("mmap");
    let out = scene.probe("mmap");
    assert!(String::from_utf8_lossy(&out.stderr).contains("MMAP"));
    assert_eq!(scene.log().blind_spots().len(), 1);
    assert!(scene.lines().contains(&"mmap 1 0 4096".to_owned()));
}

/// The child is this test binary, which has the library's other half linked in.
#[test]
fn an_executable_that_links_the_reader_is_recorded_once() {
    let scene = Scene::new("linked");
    let mut command = scene.command(&std::env::current_exe().unwrap());
    command.args(["child_of_the_test_above", "--exact", "--ignored"]).env("PROBE_DIR", &scene.dir);
    assert!(command.output().unwrap().status.success());
    let expected =
        ["create 1 linked", "write 1 0 x", "Fsync 1 begins 0", "sync 0 ends 0", "close 1"];
    assert_eq!(scene.lines(), expected);
}

#[test]
#[ignore = "run by an_executable_that_links_the_reader_is_recorded_once"]
fn child_of_the_test_above() {
    let Some(dir) = std::env::var_os("PROBE_DIR") else {
        return;
    };
    let _ = Image::default();
    let mut file = fs::File::create(Path::new(&dir).join("linked")).unwrap();
    std::io::Write::write_all(&mut file, b"x").unwrap();
    file.sync_all().unwrap();
}

#[test]
fn faults_hit_the_nth_call_and_only_files_below_the_directory() {
    let ok =
        ["write 10", "sync 0", "write 10", "sync 0", "write 10", "sync 0", "rename 0", "outside 0"];
    let cases: &[(&str, &[(usize, &str)])] = &[
        ("write:2:ENOSPC", &[(2, "write errno 28")]),
        ("write:2:EIO:sticky", &[(2, "write errno 5"), (4, "write errno 5")]),
        ("write:1:short", &[(0, "write 5")]),
        ("sync:3:EIO", &[(5, "sync errno 5")]),
        ("any:8:EIO", &[(6, "rename errno 5")]),
        ("write:9:EIO", &[]),
    ];
    for (fault, changes) in cases {
        let mut expected: Vec<&str> = ok.to_vec();
        for (i, text) in *changes {
            expected[*i] = text;
        }
        for logged in [true, false] {
            let scene = Scene::new("fault");
            let fired = scene.base.join("fired");
            let mut command = scene.command(&target().join("examples/probe"));
            command.arg("fault").arg(&scene.dir).env("LETHE_FAULT", fault);
            command.env("LETHE_FAULT_FIRED", &fired);
            if !logged {
                command.env_remove("LETHE_REC_LOG");
            }
            let out = String::from_utf8(command.output().unwrap().stdout).unwrap();
            assert_eq!(out.lines().collect::<Vec<_>>(), expected, "{fault}, logged: {logged}");
            let lines = fs::read_to_string(&fired).unwrap().lines().count();
            assert_eq!(lines, changes.len(), "{fault}");
            if logged {
                let faults = scene.lines().iter().filter(|l| l.starts_with("fault ")).count();
                assert_eq!(faults, changes.len());
                scene.assert_complete();
            } else {
                assert!(!scene.log.exists());
            }
        }
    }
    let scene = Scene::new("fault-open");
    let mut command = scene.command(&target().join("examples/probe"));
    command.arg("fault").arg(&scene.dir).env("LETHE_FAULT", "open:1:EMFILE");
    assert_eq!(command.output().unwrap().stdout, b"open errno 24\n");
    assert!(!scene.dir.join("f").exists());
}

#[test]
fn wrong_settings_stop_the_process() {
    let scene = Scene::new("settings");
    let inside = scene.dir.join("log");
    let cases = [("LETHE_FAULT", Path::new("write:0:EIO")), ("LETHE_REC_LOG", &inside)];
    for (name, value) in cases {
        let mut command = scene.command(&target().join("examples/probe"));
        let out = command.arg("continue").arg(&scene.dir).env(name, value).output().unwrap();
        assert!(!out.status.success(), "{name}");
        assert!(!scene.dir.join("second").exists(), "{name}");
        let _ = fs::remove_file(&inside);
    }
}

#[test]
fn the_command_line_records_rebuilds_and_exports() {
    let scene = Scene::new("cli");
    let tool = Path::new(env!("CARGO_BIN_EXE_lethe-recorder"));
    let cli = |args: &[&Path]| Command::new(tool).args(args).output().unwrap();
    scene.probe("names");
    let out = scene.base.join("image");
    let at = scene.log().events.len().to_string();
    let image = [
        Path::new("image"),
        &scene.log,
        "--at".as_ref(),
        at.as_ref(),
        "--variant".as_ref(),
        "all".as_ref(),
        "--out".as_ref(),
        &out,
    ];
    assert!(cli(&image).status.success());
    let read = |dir: &Path| -> BTreeMap<PathBuf, Vec<u8>> {
        let files = fs::read_dir(dir).unwrap().map(|e| e.unwrap());
        files.map(|e| (e.file_name().into(), fs::read(e.path()).unwrap())).collect()
    };
    assert_eq!(read(&out), read(&scene.dir));
    assert!(!cli(&image).status.success(), "a directory that is not empty is left alone");
    assert!(cli(&["check".as_ref(), &scene.log, "--dir".as_ref(), &out]).status.success());
    fs::write(out.join("twin"), b"9").unwrap();
    assert!(!cli(&["check".as_ref(), &scene.log, "--dir".as_ref(), &out]).status.success());
    let history = scene.base.join("history");
    let export = ["history".as_ref(), scene.log.as_path(), "--out".as_ref(), &history];
    assert!(cli(&export).status.success());
    assert_eq!(fs::read(&history).unwrap().len(), 3 * 17, "three writes of one byte");
    assert!(cli(&["info".as_ref(), &scene.log]).status.success());
}
