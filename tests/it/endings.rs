//! Connections that end otherwise than in order, and what is left of them.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use lethe::server::DoorLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::service::Routes;

use crate::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, PING, frame, head, nth};
use crate::peer::in_time;
use crate::stage::{Running, health};
use crate::strange::enter;

const GET: &str = "/lethe.v1.RecordService/GetRecord";
/// Of a frame that answers one.
const ACK: u8 = 1;

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
