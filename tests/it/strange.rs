//! Calls that no library would make, frame by frame.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use lethe::server::DoorLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};

use crate::frames::{
    END_HEADERS, END_STREAM, HEADERS, PREFACE, RST_STREAM, SETTINGS, field, frame, nth, whole,
};
use crate::peer::{CHECK, Verdict, in_time, knock};
use crate::stage::{Running, health};

/// A connection that has said its preface, and read the first byte of the answer.
pub async fn enter(door: &Running) -> TlsStream<TcpStream> {
    let (verdict, tls) = knock(door.addr, &door.client(Some(door.caller(|_| {})))).await;
    assert_eq!(verdict, Verdict::Served);
    let mut tls = tls.unwrap();
    tls.write_all(PREFACE).await.unwrap();
    tls.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    tls
}

/// Kind, flags and payload of the first frame of each of the first `count` streams.
async fn answers(tls: &mut TlsStream<TcpStream>, count: u32) -> Vec<(u8, u8, Vec<u8>)> {
    let mut answers = vec![None; count.try_into().unwrap()];
    let mut from = 1;
    in_time(async {
        while answers.iter().any(Option::is_none) {
            let mut top = [0; 9];
            tls.read_exact(&mut top[from..]).await.unwrap();
            from = 0;
            let len = u32::from_be_bytes([0, top[0], top[1], top[2]]);
            let mut payload = vec![0; usize::try_from(len).unwrap()];
            tls.read_exact(&mut payload).await.unwrap();
            let stream = u32::from_be_bytes(top[5..].try_into().unwrap());
            if let Some(nth) = stream.checked_sub(1) {
                answers[nth as usize / 2].get_or_insert((top[3], top[4], payload));
            }
        }
    })
    .await;
    answers.into_iter().flatten().collect()
}

/// gRPC says "no such method" with HTTP's 200, by which a CONNECT is answered with a tunnel.
#[tokio::test]
async fn nobody_gets_a_tunnel() {
    let door = Running::start_with(DoorLimits::default(), health()).await;
    let mut tls = enter(&door).await;
    let block = [field(":method", "CONNECT"), field(":authority", "lethed")].concat();
    tls.write_all(&frame(HEADERS, END_HEADERS, nth(0), &block)).await.unwrap();
    let (kind, flags, block) = answers(&mut tls, 1).await.remove(0);
    assert_eq!((kind, flags & END_STREAM), (HEADERS, END_STREAM));
    // `:status` by its entry 8, and "405" in three octets of Huffman's code (RFC 7541, appendices A and B).
    assert_eq!(block[..5], [0x48, 0x83, 0x68, 0x0d, 0xff]);
}

/// Notes each call that comes past the gate.
#[derive(Clone, Default)]
struct Noting(Arc<Mutex<Vec<String>>>);

impl tower::Service<Request<Body>> for Noting {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.lock().unwrap().push(request.uri().path().to_owned());
        ready(Ok(Status::ok("").into_http()))
    }
}

/// What compares rights by one spelling of a path and serves by another gives away what it guards.
#[tokio::test]
async fn a_path_spelled_in_another_way_reaches_nobody() {
    let noting = Noting::default();
    let door = Running::start_with(DoorLimits::default(), noting.clone()).await;
    let mut tls = enter(&door).await;
    let bare = CHECK.trim_start_matches('/');
    let escaped = CHECK.replace("Check", "%43heck");
    let spellings = [
        bare.to_owned(),
        format!("/{CHECK}"),
        format!("{CHECK}/"),
        format!("/.{CHECK}"),
        format!("/x/..{CHECK}"),
        format!("https://lethed{CHECK}"),
        format!("lethed{CHECK}"),
        CHECK.replace("Health/", "Health//"),
        CHECK.to_lowercase(),
        escaped,
        format!("{CHECK} "),
        format!("{CHECK}\0"),
        format!("{CHECK};x=1"),
        "*".to_owned(),
        "/".to_owned(),
        String::new(),
        // What is no part of the path is seen by nobody, neither at the gate nor behind it.
        format!("{CHECK}#/x"),
        format!("{CHECK}?/x"),
        CHECK.to_owned(),
    ];
    for (n, path) in (0..).zip(&spellings) {
        tls.write_all(&whole(n, path, &[])).await.unwrap();
    }
    let answers = answers(&mut tls, spellings.len().try_into().unwrap()).await;
    for ((kind, flags, _), path) in answers.iter().zip(&spellings) {
        let is_answer = (*kind, flags & END_STREAM) == (HEADERS, END_STREAM);
        assert!(is_answer || *kind == RST_STREAM, "{path:?}");
        assert!(!is_answer || path.starts_with('/') || path == "*", "{path:?}: no path at all");
    }
    assert_eq!(*noting.0.lock().unwrap(), [CHECK; 3]);
}
