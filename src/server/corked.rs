//! A connection whose writes are held back until they are released, and leave as one TLS record then.
//!
//! HTTP/2 asks for a flush after each frame with data; each would be a record and a system call of its own, and one
//! more thing that wakes the peer.
//!
//! Guarantees: at most [`HELD_MAX`] bytes are held, whether the peer reads or not; nothing of them stays in memory when
//! they have been written; a shutdown writes them first. A peer that sends without end is not read without end: after
//! [`READS_MAX`] reads others have their turn.

use std::io;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use zeroize::Zeroize;

/// What fits into one TLS record.
const HELD_MAX: usize = 16 * 1024;
/// Reads of a turn.
const READS_MAX: u32 = 8;

/// Shared by who reads and writes, and who releases what is held.
pub struct Corked<T>(Arc<Mutex<Held<T>>>);

impl<T> Clone for Corked<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Held<T> {
    io: T,
    /// [`HELD_MAX`] of them, once there was something to hold.
    bytes: Vec<u8>,
    /// So many of them are held, and so many of those are written.
    held: usize,
    written: usize,
    /// Reads since there was nothing to read, or since others had their turn.
    reads: u32,
    /// Whether what the peer still says is not read any more.
    is_deaf: bool,
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl<T> Corked<T> {
    pub fn new(io: T) -> Self {
        let (bytes, is_deaf) = (Vec::new(), false);
        Self(Arc::new(Mutex::new(Held { io, bytes, held: 0, written: 0, reads: 0, is_deaf })))
    }

    /// From now on it is as if the peer had nothing more to say.
    pub fn stop_reading(&self) {
        self.lock().is_deaf = true;
    }

    fn lock(&self) -> MutexGuard<'_, Held<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: AsyncWrite + Unpin> Corked<T> {
    /// Writes what is held, and flushes it.
    pub fn poll_release(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let held = &mut *self.lock();
        ready!(held.poll_write_all(cx))?;
        Pin::new(&mut held.io).poll_flush(cx)
    }
}

impl<T: AsyncWrite + Unpin> Held<T> {
    fn poll_write_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) =
            self.bytes.get(self.written..self.held).filter(|rest| !rest.is_empty())
        {
            let count = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        if let Some(used) = self.bytes.get_mut(..self.held) {
            used.zeroize();
        }
        (self.held, self.written) = (0, 0);
        Poll::Ready(Ok(()))
    }

    /// Takes what fits.
    fn poll_hold<S: Deref<Target = [u8]>>(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[S],
    ) -> Poll<io::Result<usize>> {
        if self.held >= HELD_MAX {
            ready!(self.poll_write_all(cx))?;
        }
        // Once and for all: what a buffer leaves behind when it grows would have to be wiped as well.
        if self.bytes.is_empty() {
            self.bytes.resize(HELD_MAX, 0);
        }
        let before = self.held;
        for slice in slices {
            let room = self.bytes.get_mut(self.held..).unwrap_or_default();
            let count = slice.len().min(room.len());
            if let (Some(to), Some(from)) = (room.get_mut(..count), slice.get(..count)) {
                to.copy_from_slice(from);
            }
            self.held += count;
        }
        Poll::Ready(Ok(self.held - before))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Corked<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let held = &mut *self.lock();
        if held.is_deaf {
            return Poll::Ready(Ok(()));
        }
        held.reads += 1;
        if held.reads > READS_MAX {
            held.reads = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = Pin::new(&mut held.io).poll_read(cx, buf);
        if read.is_pending() {
            held.reads = 0;
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Corked<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.lock().poll_hold(cx, &[buf])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.lock().poll_hold(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Not yet: [`Corked::poll_release`].
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let held = &mut *self.lock();
        ready!(held.poll_write_all(cx))?;
        Pin::new(&mut held.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::IoSlice;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_is_written_leaves_when_it_is_released_and_nothing_of_it_stays() {
        let (own, mut peer) = tokio::io::duplex(1 << 16);
        let mut corked = Corked::new(own);
        corked.write_all(b"one ").await.unwrap();
        corked.flush().await.unwrap();
        let parts = [IoSlice::new(b"two "), IoSlice::new(b"three")];
        assert_eq!(corked.write_vectored(&parts).await.unwrap(), 9);
        let mut got = [0; 13];
        let nothing =
            tokio::time::timeout(std::time::Duration::from_millis(20), peer.read(&mut got));
        assert!(nothing.await.is_err());
        poll_fn(|cx| corked.poll_release(cx)).await.unwrap();
        assert_eq!(peer.read(&mut got).await.unwrap(), 13);
        assert_eq!(&got, b"one two three");
        let held = corked.lock();
        assert_eq!((held.held, held.written), (0, 0));
        assert_eq!(held.bytes, vec![0; HELD_MAX]);
    }

    #[tokio::test]
    async fn no_more_is_held_than_its_bound_and_nothing_is_lost() {
        let (own, mut peer) = tokio::io::duplex(1000);
        let mut corked = Corked::new(own);
        let sent: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        let first = corked.write(&sent).await.unwrap();
        assert_eq!(first, HELD_MAX);
        // The peer reads nothing: what is full stays full.
        let more = corked.write(&sent[first..]);
        let more = tokio::time::timeout(std::time::Duration::from_millis(20), more).await;
        assert!(more.is_err() && corked.lock().held == HELD_MAX);
        assert_eq!(corked.lock().bytes.len(), HELD_MAX);
        let reading = tokio::spawn(async move {
            let mut got = Vec::new();
            peer.read_to_end(&mut got).await.unwrap();
            got
        });
        corked.write_all(&sent[first..]).await.unwrap();
        corked.shutdown().await.unwrap();
        assert_eq!(corked.lock().held, 0);
        drop(corked);
        assert_eq!(reading.await.unwrap(), sent);
    }

    #[tokio::test]
    async fn a_connection_that_is_gone_is_said_to_be() {
        let (own, peer) = tokio::io::duplex(1000);
        let mut corked = Corked::new(own);
        drop(peer);
        corked.write_all(b"x").await.unwrap();
        assert!(poll_fn(|cx| corked.poll_release(cx)).await.is_err());
    }

    #[tokio::test]
    async fn what_a_peer_says_after_its_time_is_not_read() {
        let (own, mut peer) = tokio::io::duplex(1000);
        let mut corked = Corked::new(own);
        peer.write_all(b"late").await.unwrap();
        corked.stop_reading();
        assert_eq!(corked.read(&mut [0; 4]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_peer_that_sends_without_end_lets_others_have_their_turn() {
        let (own, mut peer) = tokio::io::duplex(1 << 16);
        let mut corked = Corked::new(own);
        peer.write_all(&[7; 20]).await.unwrap();
        let mut byte = [0; 1];
        let mut polls = 0;
        for _ in 0..20 {
            let mut reading = std::pin::pin!(corked.read_exact(&mut byte));
            poll_fn(|cx| {
                polls += 1;
                reading.as_mut().poll(cx)
            })
            .await
            .unwrap();
        }
        // Twice it was put off, and woken at once.
        assert_eq!(polls, 22);
    }
}
