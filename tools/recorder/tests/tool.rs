//! Faults, settings and the command line, in real child processes.

mod scene;

use lethe_recorder::setup::{FAULT, FIRED, LOG};
use scene::{Scene, target};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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
            command.arg("fault").arg(&scene.dir).env(FAULT, fault);
            command.env(FIRED, &fired);
            if !logged {
                command.env_remove(LOG);
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
    command.arg("fault").arg(&scene.dir).env(FAULT, "open:1:EMFILE");
    assert_eq!(command.output().unwrap().stdout, b"open errno 24\n");
    assert!(!scene.dir.join("f").exists());
}

#[test]
fn wrong_settings_stop_the_process() {
    let scene = Scene::new("settings");
    let inside = scene.dir.join("log");
    let cases = [(FAULT, Path::new("write:0:EIO")), (LOG, &inside)];
    for (name, value) in cases {
        let mut command = scene.command(&target().join("examples/probe"));
        let out = command.arg("continue").arg(&scene.dir).env(name, value).output().unwrap();
        assert!(!out.status.success(), "{name}");
        assert!(!scene.dir.join("second").exists(), "{name}");
        let _ = fs::remove_file(&inside);
    }
}

/// A process killed in the middle of an append would otherwise hide all that the next one logs.
#[test]
fn a_log_that_cannot_be_continued_is_refused() {
    let scene = Scene::new("continued");
    scene.probe("continue");
    let whole = fs::read(&scene.log).unwrap();
    let start = || {
        let mut command = scene.command(&target().join("examples/probe"));
        command.arg("continue").arg(&scene.dir).output().unwrap().status.success()
    };
    fs::write(&scene.log, &whole[..whole.len() - 3]).unwrap();
    assert!(!start(), "cut off");
    let at = whole.windows(5).position(|w| w == b"/data").unwrap();
    fs::write(&scene.log, [&whole[..at], b"/atad", &whole[at + 5..]].concat()).unwrap();
    assert!(!start(), "another directory");
    fs::write(&scene.log, &whole).unwrap();
    assert!(start());
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
