//! Known input and output for `tests/preload.rs`, run under the preload library. Links nothing of
//! the recorder. Arguments: what to do, the directory.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let (what, dir) = match args.as_slice() {
        [_, what, dir] => (what.as_str(), Path::new(dir)),
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    match what {
        "std" => standard(dir),
        "raw" => raw(dir),
        "names" => names(dir),
        "direct" => direct(dir),
        "threads" => threads(dir),
        "fork" => fork(dir),
        "continue" => fs::write(dir.join("second"), b"2"),
        "inherit" => {
            println!("inherited");
            Ok(())
        }
        "stdio" => {
            let out = File::create(dir.join("stdio"))?;
            Command::new("/bin/echo").arg("unseen").stdout(out).status().map(drop)
        }
        "mmap" => mapped(dir),
        "failing" => failing(dir),
        "fault" => fault(dir),
        "outside" => outside(dir),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// What Rust programs do.
fn standard(dir: &Path) -> io::Result<()> {
    let mut file = File::create(dir.join("a"))?;
    file.write_all(b"hello")?;
    file.write_all_at(b"POS", 10)?;
    let mut twin = file.try_clone()?;
    twin.seek(SeekFrom::Start(2))?;
    assert_eq!(twin.write_vectored(&[IoSlice::new(b"LL"), IoSlice::new(b"OO")])?, 4);
    drop(twin);
    file.set_len(6)?;
    file.sync_data()?;
    file.sync_all()?;
    drop(file);
    let mut more = OpenOptions::new().append(true).open(dir.join("a"))?;
    more.write_all(b"+end")?;
    drop(more);
    File::open(dir)?.sync_all()?;
    drop(File::create(dir.join("a"))?); // truncates
    fs::copy("/etc/hostname", dir.join("copy"))
        .or_else(|_| fs::copy("/proc/version", dir.join("copy")))?;
    Ok(())
}

/// What databases do through libc.
fn raw(dir: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(dir.join("raw"))?;
    let fd = file.as_raw_fd();
    let iov = |b: &[u8]| libc::iovec { iov_base: b.as_ptr() as *mut _, iov_len: b.len() };
    let list = [iov(b"ab"), iov(b"cd")];
    // SAFETY: the descriptor and the buffers live past each call.
    unsafe {
        assert_eq!(libc::posix_fallocate(fd, 0, 100), 0);
        assert_eq!(libc::fallocate(fd, libc::FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
        assert_eq!(libc::pwrite(fd, b"xyz".as_ptr().cast(), 3, 50), 3);
        assert_eq!(libc::pwritev(fd, list.as_ptr(), 2, 60), 4);
        assert_eq!(libc::pwritev2(fd, list.as_ptr(), 2, -1, libc::RWF_DSYNC), 4);
        assert_eq!(libc::sync_file_range(fd, 0, 0, 2), 0);
        let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        assert_eq!(libc::fallocate(fd, punch, 51, 1), 0);
        assert_eq!(libc::dup2(fd, 40), 40);
        assert_eq!(libc::write(40, b"!".as_ptr().cast(), 1), 1);
        assert_eq!(libc::close(40), 0);
        let path = CString::new(dir.join("raw").as_os_str().as_bytes())?;
        assert_eq!(libc::truncate(path.as_ptr(), 64), 0);
        assert_eq!(libc::syncfs(fd), 0);
    }
    Ok(())
}

fn names(dir: &Path) -> io::Result<()> {
    fs::create_dir(dir.join("sub"))?;
    fs::write(dir.join("sub/../tmp"), b"1")?;
    fs::rename(dir.join("tmp"), dir.join("sub/final"))?;
    let file = OpenOptions::new().write(true).open(dir.join("sub/final"))?;
    fs::rename(dir.join("sub"), dir.join("moved"))?;
    file.write_all_at(b"2", 0)?;
    fs::hard_link(dir.join("moved/final"), dir.join("twin"))?;
    fs::remove_file(dir.join("moved/final"))?;
    fs::remove_dir(dir.join("moved"))?;
    std::env::set_current_dir(dir)?;
    fs::write("relative", b"3")
}

fn direct(dir: &Path) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .custom_flags(libc::O_DIRECT | libc::O_DSYNC)
        .open(dir.join("anchor"))?;
    let memory = vec![7u8; 12288];
    let start = memory.as_ptr().align_offset(4096);
    file.write_all_at(&memory[start..start + 4096], 4096)
}

/// Each thread writes its own number everywhere, and syncs.
fn threads(dir: &Path) -> io::Result<()> {
    let file = File::create(dir.join("shared"))?;
    std::thread::scope(|scope| {
        for t in 0..4u8 {
            let file = &file;
            scope.spawn(move || {
                for i in 0..50 {
                    file.write_all_at(&[t + 1; 8], i * 8).unwrap();
                    if i % 10 == 0 {
                        file.sync_data().unwrap();
                    }
                }
            });
        }
    });
    Ok(())
}

/// A child with an inherited descriptor, and forks while other threads write.
fn fork(dir: &Path) -> io::Result<()> {
    let file = File::create(dir.join("out"))?;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| (0..2000).try_for_each(|i| file.write_all_at(b"w", i % 7)));
        for _ in 0..20 {
            let mut command = Command::new("true");
            // SAFETY: does nothing; its presence makes the standard library fork.
            unsafe { std::os::unix::process::CommandExt::pre_exec(&mut command, || Ok(())) };
            assert!(command.status()?.success());
        }
        writer.join().unwrap()
    })?;
    file.set_len(0)?;
    let me = std::env::current_exe()?;
    let mut child = Command::new(&me);
    assert!(child.arg("inherit").arg(dir).stdout(file.try_clone()?).status()?.success());
    assert!(Command::new(me).arg("continue").arg(dir).status()?.success());
    Ok(())
}

fn mapped(dir: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(dir.join("map"))?;
    file.set_len(4096)?;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping of an open file, never touched.
    let map = unsafe {
        libc::mmap(std::ptr::null_mut(), 4096, access, libc::MAP_SHARED, file.as_raw_fd(), 0)
    };
    assert_ne!(map, libc::MAP_FAILED);
    Ok(())
}

/// Nothing here has an effect.
fn failing(dir: &Path) -> io::Result<()> {
    assert!(File::open(dir.join("absent")).is_err());
    assert!(fs::remove_file(dir.join("absent")).is_err());
    assert!(fs::rename(dir.join("absent"), dir.join("b")).is_err());
    assert!(fs::create_dir(dir.join("no/way")).is_err());
    let file = File::open(dir)?;
    assert!((&file).write(b"x").is_err());
    assert!(file.set_len(1).is_err());
    Ok(())
}

/// Prints the outcome of each call.
fn fault(dir: &Path) -> io::Result<()> {
    let show = |name: &str, result: io::Result<usize>| match result {
        Ok(n) => println!("{name} {n}"),
        Err(e) => println!("{name} errno {}", e.raw_os_error().unwrap_or(-1)),
    };
    let file = match File::create(dir.join("f")) {
        Ok(file) => file,
        Err(e) => {
            show("open", Err(e));
            return Ok(());
        }
    };
    for i in 0..3 {
        show("write", file.write_at(b"0123456789", i * 10));
        show("sync", file.sync_data().map(|()| 0));
    }
    show("rename", fs::rename(dir.join("f"), dir.join("g")).map(|()| 0));
    show("outside", fs::write("/dev/null", b"x").map(|()| 0));
    Ok(())
}

/// Descriptors that the library does not see close, and files that come and go.
fn outside(dir: &Path) -> io::Result<()> {
    let aside = dir.with_extension("aside");
    fs::write(&aside, b"from outside")?;
    fs::rename(&aside, dir.join("in"))?;
    fs::rename(dir.join("in"), &aside)?;
    fs::remove_file(&aside)?;
    let file = File::create(dir.join("gone"))?;
    let fd = file.as_raw_fd();
    let other = File::options().write(true).open("/dev/null")?;
    // SAFETY: plain system calls; `fd` stays open throughout.
    unsafe {
        libc::syscall(libc::SYS_dup3, other.as_raw_fd(), fd, 0);
        assert_eq!(libc::write(fd, b"null".as_ptr().cast(), 4), 4);
    }
    Ok(())
}
