//! Metrics and probes on a Unix socket: GET /metrics, /livez, /readyz in HTTP/1.1, and nothing else.
//!
//! Guarantees: only the daemon's user can connect (mode 0600 from the moment that the path exists); a socket that a
//! live process listens on is never replaced, one that a killed daemon left is; connections and their time are
//! bounded. A lock on `PATH.lock`, held for the socket's life, decides between two daemons that start at once.

use std::convert::Infallible;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::fs::{FlockOperation, OFlags, flock};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::exposition::View;
use super::{ServerError, probe};
use crate::limits;

/// Bytes of a request's head, which hyper holds in memory.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// How long the loop rests after an error of accept(2).
const BACK_OFF: Duration = Duration::from_millis(50);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketProblem {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("a path of a socket has at most {} bytes", limits::SOCKET_PATH_BYTES_MAX)]
    Long,
    #[error("is there and is no socket; name another path")]
    Other,
    #[error("another process listens there; stop it, or name another path")]
    InUse,
}

/// A socket that this process owns.
#[derive(Debug)]
pub struct Socket {
    listener: Option<UnixListener>,
    path: PathBuf,
    /// Given back last, so that nobody takes the path while it is removed.
    _lock: File,
}

impl Drop for Socket {
    fn drop(&mut self) {
        // What is left behind is replaced by the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

impl Socket {
    pub fn open(path: &Path) -> Result<Self, ServerError> {
        let problem = |problem| ServerError::Socket { path: path.display().to_string(), problem };
        Self::claim(path).map_err(problem)
    }

    fn claim(path: &Path) -> Result<Self, SocketProblem> {
        if path.as_os_str().len() > limits::SOCKET_PATH_BYTES_MAX {
            return Err(SocketProblem::Long);
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(beside(path, ".lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| SocketProblem::InUse)?;
        is_free(path)?;
        // Under another name until its mode is set: nobody can connect before.
        let fresh = beside(path, ".new");
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let listener = UnixListener::bind(&fresh)?;
        std::fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        std::fs::rename(&fresh, path)?;
        Ok(Self { listener: Some(listener), path: path.to_owned(), _lock: lock })
    }

    /// Answers until it is dropped.
    pub async fn serve(mut self, view: Arc<View>) -> Result<(), ServerError> {
        let Some(listener) = self.listener.take() else {
            return Ok(());
        };
        let problem = |source: io::Error| ServerError::Socket {
            path: self.path.display().to_string(),
            problem: source.into(),
        };
        let listener = tokio::net::UnixListener::from_std(listener).map_err(problem)?;
        let places = Arc::new(Semaphore::new(limits::PROBES_MAX));
        loop {
            // Never closed.
            let place = Arc::clone(&places).acquire_owned().await;
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "accept failed on the socket of metrics");
                    sleep(BACK_OFF).await;
                    continue;
                }
            };
            let view = Arc::clone(&view);
            tokio::spawn(async move {
                let service = service_fn(|request| answer(Arc::clone(&view), request));
                let serving = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(limits::PROBE_TIME_MAX)
                    .max_buf_size(HEAD_BYTES_MAX)
                    .keep_alive(false)
                    .serve_connection(TokioIo::new(stream), service);
                // Who is slow or talks nonsense is closed; there is nobody to tell.
                let _ = timeout(limits::PROBE_TIME_MAX, serving).await;
                drop(place);
            });
        }
    }
}

/// Nothing is at `path`, or a socket that nobody listens on.
fn is_free(path: &Path) -> Result<(), SocketProblem> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
        Ok(meta) if !meta.file_type().is_socket() => return Err(SocketProblem::Other),
        Ok(_) => {}
    }
    if probe::is_live(path)? { Err(SocketProblem::InUse) } else { Ok(()) }
}

async fn answer(
    view: Arc<View>,
    request: Request<Incoming>,
) -> Result<Response<String>, Infallible> {
    let reply = |status: StatusCode, text: String| {
        let mut response = Response::new(text);
        *response.status_mut() = status;
        let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        Ok(response)
    };
    if request.method() != Method::GET {
        return reply(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
    }
    match request.uri().path() {
        "/livez" => reply(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => match view.ready.unready() {
            None => reply(StatusCode::OK, "ok\n".to_owned()),
            Some(why) => reply(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        },
        "/metrics" => {
            // A file system that hangs must hold up no thread that serves.
            match tokio::task::spawn_blocking(move || view.text()).await {
                Ok(text) => reply(StatusCode::OK, text),
                Err(_) => {
                    reply(StatusCode::INTERNAL_SERVER_ERROR, "no metrics; see the log\n".to_owned())
                }
            }
        }
        _ => reply(StatusCode::NOT_FOUND, "there are /metrics, /livez, /readyz\n".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn refused(path: &Path) -> SocketProblem {
        Socket::claim(path).err().unwrap()
    }

    #[test]
    fn the_socket_is_its_users_alone_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let socket = Socket::claim(&path).unwrap();
        let meta = std::fs::symlink_metadata(&path).unwrap();
        assert!(meta.file_type().is_socket());
        assert_eq!(meta.mode() & 0o777, 0o600);
        assert!(probe::is_live(&path).unwrap());
        drop(socket);
        assert!(!path.exists());
        assert!(Socket::claim(&path).is_ok());
    }

    #[test]
    fn what_a_killed_daemon_left_is_replaced_and_what_lives_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        // A socket that nobody listens on any more, also under the name for one that is not ready.
        drop(UnixListener::bind(&path).unwrap());
        drop(UnixListener::bind(beside(&path, ".new")).unwrap());
        let ours = Socket::claim(&path).unwrap();
        let inode = || std::fs::symlink_metadata(&path).unwrap().ino();
        let before = inode();
        assert!(matches!(refused(&path), SocketProblem::InUse), "the lock says so");
        assert_eq!(inode(), before);
        drop(ours);
        // Another program's, which knows nothing of the lock.
        let other = UnixListener::bind(&path).unwrap();
        let before = inode();
        assert!(matches!(refused(&path), SocketProblem::InUse), "it answers");
        assert_eq!(inode(), before);
        drop(other);
        assert!(Socket::claim(&path).is_ok());
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(refused(&path), SocketProblem::Other));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        let link = dir.path().join("l");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(refused(&link), SocketProblem::Other));
        let long = dir.path().join("x".repeat(limits::SOCKET_PATH_BYTES_MAX));
        assert!(matches!(refused(&long), SocketProblem::Long));
    }
}
