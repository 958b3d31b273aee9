//! The preload library under a real child process: the log is compared with what the child is known
//! to do.

mod scene;

use lethe_recorder::{CrashImages, Event, Image, MetadataRule, SyncKind, Variant};
use scene::Scene;
use std::fs;
use std::path::{Path, PathBuf};

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
