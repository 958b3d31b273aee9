//! Connections that end otherwise than in order, and what is left of them.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use lethe::server::DoorLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::service::Routes;

use crate::frames::{
    DATA, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, SETTINGS, field, frame, head, nth,
};
use crate::peer::{Verdict, in_time, knock};
use crate::stage::{Running, health};

const GET: &str = "/lethe.v1.RecordService/GetRecord";
/// Of a frame that answers one.
const ACK: u8 = 1;

async fn enter(door: &Running) -> TlsStream<TcpStream> {
    let (verdict, tls) = knock(door.addr, &door.client(Some(door.caller(|_| {})))).await;
    assert_eq!(verdict, Verdict::Served);
    let mut tls = tls.unwrap();
    tls.write_all(PREFACE).await.unwrap();
    tls.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    tls
}

/// Answers that are not taken keep the daemon from reading on, and so from noticing an end of what it reads.
#[tokio::test]
async fn who_takes_no_answers_is_cut_off_as_well() {
    let (age, deadline) = (Duration::from_secs(3), Duration::from_millis(100));
    let limits = DoorLimits { age, deadline, ..DoorLimits::default() };
    let door = Running::start_with(limits, health()).await;
    let mut tls = enter(&door).await;
    // Pings until no more is taken.
    let pings = frame(PING, 0, 0, b"answer!!").repeat(1_000);
    while let Ok(taken) = timeout(Duration::from_millis(500), tls.write_all(&pings)).await {
        taken.unwrap();
    }
    let open = &door.metrics.connections_open;
    assert_eq!(open.value(), 1, "ended before it was full");
    in_time(async {
        while open.value() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Counts who has a part of it.
#[derive(Clone)]
struct Counted {
    _part: Arc<()>,
}

impl tonic::server::NamedService for Counted {
    const NAME: &'static str = "lethe.v1.RecordService";
}

impl tower::Service<Request<Body>> for Counted {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        let own = self.clone();
        Box::pin(async move {
            let _own = own;
            Ok(Status::not_found("").into_http())
        })
    }
}

/// Calls that were taken in the very turn in which their connection ended.
#[tokio::test]
async fn calls_that_have_not_begun_go_with_their_connection() {
    let count = Arc::new(());
    let routes = Routes::new(Counted { _part: Arc::clone(&count) });
    let door = Running::start_with(DoorLimits::default(), routes).await;
    let before = Arc::strong_count(&count);
    // Some calls, more than a turn reads, and then what is an error (data of no stream).
    let calls = (0..20).flat_map(|n| frame(HEADERS, END_HEADERS | END_STREAM, nth(n), &head(GET)));
    let mut said: Vec<u8> = calls.collect();
    said.extend(frame(PING, ACK, 0, b"unasked!").repeat(8_000));
    said.extend(frame(DATA, 0, 0, b"x"));
    for n in 0..40 {
        let mut tls = enter(&door).await;
        // The daemon may have hung up by then.
        let _ = tls.write_all(&said).await;
        if n % 2 == 0 {
            let _ = in_time(tls.read_to_end(&mut Vec::new())).await;
        } else {
            tls.get_ref().0.set_zero_linger().unwrap();
        }
    }
    in_time(async {
        while door.metrics.connections_open.value() > 0 || Arc::strong_count(&count) > before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// gRPC says "no such method" with HTTP's 200, by which a CONNECT is answered with a tunnel.
#[tokio::test]
async fn nobody_gets_a_tunnel() {
    let door = Running::start_with(DoorLimits::default(), health()).await;
    let mut tls = enter(&door).await;
    let block = [field(":method", "CONNECT"), field(":authority", "lethed")].concat();
    tls.write_all(&frame(HEADERS, END_HEADERS, 1, &block)).await.unwrap();
    let block = in_time(async {
        // The first byte of all was read with the knock.
        let mut from = 1;
        loop {
            let mut top = [0; 9];
            tls.read_exact(&mut top[from..]).await.unwrap();
            from = 0;
            let len = u32::from_be_bytes([0, top[0], top[1], top[2]]);
            let mut payload = vec![0; usize::try_from(len).unwrap()];
            tls.read_exact(&mut payload).await.unwrap();
            if top[3] == HEADERS {
                assert_eq!(top[4] & END_STREAM, END_STREAM);
                return payload;
            }
        }
    })
    .await;
    // `:status` by its entry 8, and "405" in three octets of Huffman's code (RFC 7541, appendices A and B).
    assert_eq!(block[..5], [0x48, 0x83, 0x68, 0x0d, 0xff]);
}
