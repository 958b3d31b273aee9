//! Answers that their caller has not taken yet, and how many bytes of them one identity may leave lying here.
//!
//! A caller who opens no window, or does not read his socket, leaves every answer in the daemon's memory: a few hundred
//! streams of a few MiB each on every connection. So bytes of an answer are counted from when they are encoded until
//! HTTP/2 has written or dropped them, which is when the last handle on them goes.
//!
//! Guarantees: of one identity at most `limits::UNTAKEN_BYTES_MAX` wait at once; what is beyond is answered with
//! RESOURCE_EXHAUSTED, or ends its stream with it, and is freed.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Response};

use crate::limits;

/// What waits of one identity, in bytes.
#[derive(Clone, Debug, Default)]
pub struct Untaken(Arc<AtomicU64>);

/// Bytes that wait, and their share of [`Untaken`].
struct Counted {
    bytes: Bytes,
    of: Untaken,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.of.0.fetch_sub(self.bytes.len() as u64, Ordering::AcqRel);
    }
}

impl Untaken {
    fn count(&self, bytes: Bytes) -> Result<Bytes, Status> {
        // What is small costs no more than its stream, of which there is a bound.
        if bytes.len() < limits::UNTAKEN_COUNTED_MIN {
            return Ok(bytes);
        }
        let more = bytes.len() as u64;
        let fits = |n: u64| n.checked_add(more).filter(|n| *n <= limits::UNTAKEN_BYTES_MAX);
        match self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits) {
            Ok(_) => Ok(Bytes::from_owner(Counted { bytes, of: self.clone() })),
            Err(_) => Err(Status::resource_exhausted("this identity does not take its answers")),
        }
    }

    fn count_frame(&self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Status> {
        match frame.into_data() {
            Ok(bytes) => self.count(bytes).map(Frame::data),
            Err(trailers) => Ok(trailers),
        }
    }

    /// The reply, its bytes counted. What can be encoded at once is: until then its memory would be counted nowhere.
    pub async fn watch(self, reply: Response<Body>) -> Response<Body> {
        let (parts, mut body) = reply.into_parts();
        if body.is_end_stream() {
            return Response::from_parts(parts, body);
        }
        let begun = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx)));
        let first = match begun.await {
            Poll::Pending => None,
            Poll::Ready(None) => return Response::from_parts(parts, Body::empty()),
            Poll::Ready(Some(Err(status))) => Some(Err(status)),
            Poll::Ready(Some(Ok(frame))) => match self.count_frame(frame) {
                Ok(frame) => Some(Ok(frame)),
                Err(status) => return status.into_http(),
            },
        };
        Response::from_parts(parts, Body::new(Answer { first, body, untaken: self }))
    }
}

/// A body whose data is counted.
struct Answer {
    first: Option<Result<Frame<Bytes>, Status>>,
    body: Body,
    untaken: Untaken,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => match this.untaken.count_frame(frame) {
                Ok(frame) => Poll::Ready(Some(Ok(frame))),
                Err(status) => {
                    this.body = Body::empty();
                    let mut trailers = HeaderMap::new();
                    let ended =
                        status.add_header(&mut trailers).map(|()| Frame::trailers(trailers));
                    Poll::Ready(Some(ended))
                }
            },
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_until_the_last_handle_on_them_goes() {
        let untaken = Untaken::default();
        let waits = || untaken.0.load(Ordering::SeqCst);
        let most = usize::try_from(limits::UNTAKEN_BYTES_MAX).unwrap();
        let half = Bytes::from(vec![7; most / 2]);
        let (one, two) =
            (untaken.count(half.clone()).unwrap(), untaken.count(half.clone()).unwrap());
        assert_eq!(one, half);
        assert_eq!(waits(), limits::UNTAKEN_BYTES_MAX);
        let over = untaken.count(Bytes::from(vec![7; limits::UNTAKEN_COUNTED_MIN]));
        assert_eq!(over.unwrap_err().code(), tonic::Code::ResourceExhausted);
        assert!(untaken.count(Bytes::from_static(b"small")).is_ok());
        let part = one.slice(..10);
        drop(one);
        assert_eq!(waits(), limits::UNTAKEN_BYTES_MAX, "a part of it is still there");
        drop(part);
        assert_eq!(waits(), limits::UNTAKEN_BYTES_MAX / 2);
        drop(two);
        assert_eq!(waits(), 0);
    }

    /// Sends a piece at each poll.
    struct Pieces(usize);

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            self.0 += 1;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![7; PIECE])))))
        }
    }

    const PIECE: usize = 1 << 20;

    #[tokio::test]
    async fn a_stream_beyond_the_bound_ends_with_a_status_and_a_call_is_refused() {
        let untaken = Untaken::default();
        let stream = || untaken.clone().watch(Response::new(Body::new(Pieces(0))));
        let mut body = stream().await.into_body();
        let (mut kept, mut trailers) = (Vec::new(), None);
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
        {
            match frame.unwrap().into_data() {
                Ok(piece) => kept.push(piece),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        assert_eq!((kept.len() * PIECE) as u64, limits::UNTAKEN_BYTES_MAX);
        let status = Status::from_header_map(&trailers.unwrap()).unwrap();
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        let refused = stream().await;
        let status = Status::from_header_map(refused.headers()).unwrap();
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        drop(kept);
        assert!(
            Status::from_header_map(stream().await.headers()).is_none(),
            "what was taken is free"
        );
    }
}
