//! A TCP connection that can go on in another runtime than the one that accepted it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Empty only after a move that failed; then nothing can be read or written any more.
pub struct Movable(Option<TcpStream>);

impl From<TcpStream> for Movable {
    fn from(tcp: TcpStream) -> Self {
        Self(Some(tcp))
    }
}

impl Movable {
    /// From now on the runtime in which this is called tells when there is something to read or room to write.
    pub fn move_here(&mut self) -> io::Result<()> {
        let tcp = self.0.take().ok_or(io::ErrorKind::NotConnected)?;
        self.0 = Some(TcpStream::from_std(tcp.into_std()?)?);
        Ok(())
    }

    fn tcp(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        Ok(Pin::new(self.0.as_mut().ok_or(io::ErrorKind::NotConnected)?))
    }
}

impl AsyncRead for Movable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.tcp()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Movable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.tcp()?.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp()?.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.tcp()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// What came before the move is read after it, and what comes after the first runtime is gone too.
    #[test]
    fn a_connection_goes_on_in_another_runtime() {
        let runtime =
            || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (first, second, peers) = (runtime(), runtime(), runtime());
        let listener = first.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let addr = listener.local_addr().unwrap();
        let mut peer = peers.block_on(TcpStream::connect(addr)).unwrap();
        let mut own = Movable::from(first.block_on(listener.accept()).unwrap().0);
        peers.block_on(peer.write_all(b"before")).unwrap();
        let mut got = [0; 3];
        first.block_on(own.read_exact(&mut got)).unwrap();
        assert_eq!(&got, b"bef");
        let (moved, told) = std::sync::mpsc::channel();
        let late = std::thread::spawn(move || {
            told.recv().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
            peers.block_on(peer.write_all(b"after")).unwrap();
            let mut got = [0; 2];
            peers.block_on(peer.read_exact(&mut got)).unwrap();
            got
        });
        second.block_on(async { own.move_here() }).unwrap();
        drop((listener, first));
        second.block_on(async move {
            let mut got = [0; 8];
            own.read_exact(&mut got[..3]).await.unwrap();
            moved.send(()).unwrap();
            own.read_exact(&mut got[3..]).await.unwrap();
            assert_eq!(&got, b"oreafter");
            own.write_all(b"ok").await.unwrap();
        });
        assert_eq!(&late.join().unwrap(), b"ok");
    }
}
