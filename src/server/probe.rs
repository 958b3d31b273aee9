//! `lethed probe`: asks a daemon's socket, for probes that run a program.
//!
//! Guarantees: the answer comes within `limits::PROBE_TIME_MAX`, also from a daemon that hangs; what is read is
//! bounded.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use crate::limits;

/// What a daemon answered.
#[derive(Debug)]
pub struct Answer {
    /// Status 200.
    pub good: bool,
    pub text: String,
}

/// Asks for `path`.
pub fn ask(socket: &Path, path: &str) -> io::Result<Answer> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: lethed\r\nConnection: close\r\n\r\n");
    within(socket, move |mut stream| {
        stream.write_all(request.as_bytes())?;
        let mut text = String::new();
        stream.take(limits::PROBE_BYTES_MAX).read_to_string(&mut text)?;
        let (head, body) =
            text.split_once("\r\n\r\n").ok_or_else(|| io::Error::from(ErrorKind::InvalidData))?;
        Ok(Answer { good: head.starts_with("HTTP/1.1 200 "), text: body.to_owned() })
    })
}

/// Whether anybody listens there. Who does not accept in time listens all the same.
pub fn is_live(socket: &Path) -> io::Result<bool> {
    match within(socket, |_| Ok(())) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::TimedOut => Ok(true),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(false),
        Err(error) => Err(error),
    }
}

/// connect(2) on a Unix socket waits for as long as the other side's queue is full, and takes no time limit: a thread
/// waits in the place of the caller.
fn within<T: Send + 'static>(
    socket: &Path,
    work: impl FnOnce(UnixStream) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (socket, (done, outcome)): (PathBuf, _) = (socket.to_owned(), mpsc::sync_channel(1));
    std::thread::Builder::new().spawn(move || {
        // Nobody waits any more if the time was up.
        let _ = done.send(UnixStream::connect(socket).and_then(work));
    })?;
    outcome.recv_timeout(limits::PROBE_TIME_MAX).unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_daemon_that_hangs_is_told_in_time_and_is_taken_for_alive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        assert_eq!(ask(&path, "/livez").unwrap_err().kind(), ErrorKind::NotFound);
        let listener = UnixListener::bind(&path).unwrap();
        let began = Instant::now();
        assert_eq!(ask(&path, "/livez").unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(began.elapsed() < 2 * limits::PROBE_TIME_MAX);
        assert!(is_live(&path).unwrap());
        drop(listener);
        assert!(!is_live(&path).unwrap());
    }
}
