//! What every call passes before a service sees it.
//!
//! Guarantees: a service is reached only with the [`Principal`] of a certificate that counts at this moment (valid,
//! trusted, not revoked) in the request's extensions, within its identity's rate of calls, by a POST on a path that
//! `authz::RPCS` lists, uncompressed, and is dropped at its deadline. Nothing of a refused call's body is read.
//! Verdicts, in this order: UNAUTHENTICATED, RESOURCE_EXHAUSTED (with the time to wait), UNIMPLEMENTED,
//! INVALID_ARGUMENT (a deadline that cannot be read), DEADLINE_EXCEEDED.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tonic::body::Body;
use tonic::codegen::http::header::ALLOW;
use tonic::codegen::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use tower::Service;

use super::deadline;
use super::guest::{Guest, Unwelcome};
use super::trust::Trust;
use crate::authz::{self, Principal};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::proto::code_name;
use crate::rpc::permit::{Caller, Standing};
use crate::rpc::status::undecodable;
use crate::rpc::witness::Witness;

/// What the gate needs to know.
pub struct GateLayer {
    pub trust: Arc<Trust>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    pub witness: Arc<dyn Witness>,
    pub deadline_max: Duration,
}

impl GateLayer {
    pub fn before<S>(self, inner: S) -> Gate<S> {
        Gate { inner, gate: Arc::new(self) }
    }
}

#[derive(Clone)]
pub struct Gate<S> {
    inner: S,
    gate: Arc<GateLayer>,
}

type Reply = Result<Response<Body>, Infallible>;

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Reply> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let (began, gate) = (Instant::now(), Arc::clone(&self.gate));
        let method = authz::listed(request.uri().path()).unwrap_or(UNLISTED);
        let (guest, time) = match gate.examine(&request, method, began) {
            Ok(passed) => passed,
            Err(status) => {
                let guest = request.extensions().get::<Guest>();
                gate.ended(guest.map(Guest::principal), method, status.code(), began);
                let mut reply = status.into_http();
                // Not even in passing is this said with a 200, by which a CONNECT would become a tunnel.
                if request.method() != Method::POST {
                    *reply.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
                    reply.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
                }
                return Box::pin(std::future::ready(Ok(reply)));
            }
        };
        let untaken = guest.untaken();
        let principal = guest.principal().clone();
        let standing = Box::new(Stay { guest, gate: Arc::clone(&gate) });
        let caller = Caller::new(principal, method, standing);
        request.extensions_mut().insert(caller.clone());
        let call = self.inner.call(request);
        Box::pin(async move {
            let served = async {
                let reply: Response<Body> = call.await?;
                if gate.witness.holds_up()
                    && !is_failure(&reply)
                    && let Err(status) = gate.witness.settled().await
                {
                    return Ok(status.into_http());
                }
                Reply::Ok(reply)
            };
            let reply = tokio::time::timeout(time, served).await.unwrap_or_else(|_| {
                Ok(Status::deadline_exceeded("the call took too long").into_http())
            })?;
            let mut reply = untaken.watch(reply).await;
            let status = Status::from_header_map(reply.headers()).map(undecodable);
            if let Some(Err(status)) = &status {
                reply = status.clone().into_http();
            }
            let code = match &status {
                None => Code::Ok,
                Some(Ok(status) | Err(status)) => status.code(),
            };
            gate.ended(Some(caller.principal()), method, code, began);
            Ok(reply)
        })
    }
}

/// What a call that lasts asks whether it may go on.
struct Stay {
    guest: Guest,
    gate: Arc<GateLayer>,
}

impl Standing for Stay {
    fn holds(&self) -> bool {
        self.guest.stays(&self.gate.trust, self.gate.clock.now())
    }
}

impl GateLayer {
    fn examine(
        &self,
        request: &Request<Body>,
        method: &str,
        began: Instant,
    ) -> Result<(Guest, Duration), Status> {
        let guest = request
            .extensions()
            .get::<Guest>()
            .ok_or_else(|| Status::unauthenticated("no client certificate"))?;
        guest
            .admit(&self.trust, self.clock.now(), began)
            .map_err(|unwelcome| self.refusal(unwelcome))?;
        if method == UNLISTED {
            return Err(Status::unimplemented("no such method"));
        }
        if request.method() != Method::POST {
            return Err(Status::unimplemented("a call is a POST"));
        }
        if is_compressed(request.headers()) {
            return Err(Status::unimplemented("compression is not supported"));
        }
        let time = deadline::of(request.headers(), self.deadline_max)?;
        Ok((guest.clone(), time))
    }

    /// How a call ended. A stream is told of when it begins.
    fn ended(
        &self,
        principal: Option<&Principal>,
        method: &'static str,
        code: Code,
        began: Instant,
    ) {
        let (name, took) = (code_name(code), began.elapsed());
        self.metrics.calls.add((method, name), took);
        tracing::debug!(method, code = name, micros = took.as_micros(), "call");
        match code {
            Code::PermissionDenied => self.metrics.calls_denied.one(),
            Code::Internal | Code::Unknown | Code::DataLoss | Code::Unavailable => {
                self.metrics.calls_failed.one();
            }
            _ => {}
        }
        if let Some(principal) = principal.filter(|_| code != Code::Ok) {
            self.witness.refused(principal, method, code);
        }
    }

    fn refusal(&self, unwelcome: Unwelcome) -> Status {
        let counter = match unwelcome {
            Unwelcome::Expired | Unwelcome::Distrusted => &self.metrics.calls_unauthenticated,
            Unwelcome::TooMany(_) => &self.metrics.calls_limited,
        };
        counter.one();
        match unwelcome {
            Unwelcome::Expired => Status::unauthenticated("the client certificate has expired"),
            Unwelcome::Distrusted => {
                Status::unauthenticated("the client certificate is revoked or not trusted any more")
            }
            Unwelcome::TooMany(wait) => Status::with_error_details(
                Code::ResourceExhausted,
                "this identity makes too many calls",
                ErrorDetails::with_retry_info(Some(wait)),
            ),
        }
    }
}

/// Whether a reply says at once that the call failed.
fn is_failure(reply: &Response<Body>) -> bool {
    reply.headers().get("grpc-status").is_some_and(|status| status != "0")
}

/// What all paths share that the table lacks.
const UNLISTED: &str = "unlisted";

/// The header that says how messages are compressed.
static ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// Compressed secrets beside chosen text leak through their length (CRIME).
fn is_compressed(headers: &HeaderMap) -> bool {
    headers.get_all(&ENCODING).iter().any(|encoding| encoding != "identity")
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::identity::Peer;
    use super::super::quota::Quotas;
    use super::super::{DoorLimits, TlsFiles};
    use super::*;
    use crate::authz::TrustDomain;
    use crate::clock::{ManualClock, UnixMillis};
    use crate::pki::{Ca, LEAF_LIFE, Purpose};

    const EXPIRES: UnixMillis = UnixMillis(1_000_000);
    const CHECK: &str = "/grpc.health.v1.Health/Check";

    /// Answers with the principal that it was given; `/lethe.v1.RecordService/GetRecord` never answers, and a few
    /// others fail.
    #[derive(Clone)]
    struct Inner;

    impl Service<Request<Body>> for Inner {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = Reply> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            let principal = request.extensions().get::<Caller>().unwrap().principal().to_string();
            let path = request.uri().path().to_owned();
            Box::pin(async move {
                match path.rsplit('/').next().unwrap() {
                    "GetRecord" => std::future::pending().await,
                    "GetStatus" => Ok(Status::permission_denied("").into_http()),
                    "GetTenant" => Ok(Status::internal("").into_http()),
                    _ => Ok(Status::ok(principal).into_http()),
                }
            })
        }
    }

    /// What the audit log would be told; and whether replies are held up, by a log that fails.
    #[derive(Default)]
    struct Seen(std::sync::Mutex<Vec<(String, Code)>>, std::sync::atomic::AtomicBool);

    impl Witness for Seen {
        fn refused(&self, principal: &Principal, path: &str, code: Code) {
            self.0.lock().unwrap().push((format!("{principal} {path}"), code));
        }

        fn settled(&self) -> Pin<Box<dyn Future<Output = Result<(), Status>> + Send + '_>> {
            Box::pin(async { Err(Status::unavailable("the log")) })
        }

        fn holds_up(&self) -> bool {
            self.1.load(std::sync::atomic::Ordering::SeqCst)
        }
    }

    struct Bench {
        seen: Arc<Seen>,
        _dir: tempfile::TempDir,
        guest: Guest,
        gate: Gate<Inner>,
        clock: Arc<ManualClock>,
        metrics: Arc<Metrics>,
    }

    impl Bench {
        fn new() -> Self {
            Self::with(DoorLimits::default())
        }

        fn with(limits: DoorLimits) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let ca = Ca::new("authority", UnixMillis(0)).unwrap();
            ca.write(dir.path()).unwrap();
            let lethed = Principal::parse("spiffe://test/lethed").unwrap();
            let server = Purpose::Server { dns: vec![], ips: vec![] };
            let leaf = ca.issue(&lethed, &server, UnixMillis(0), LEAF_LIFE).unwrap();
            leaf.write(dir.path(), "server").unwrap();
            let files = TlsFiles {
                cert: dir.path().join("server.pem"),
                key: dir.path().join("server.key"),
                client_ca: dir.path().join("ca.pem"),
                crl: None,
                trust_domain: TrustDomain::parse("test").unwrap(),
            };
            let quotas = Arc::new(Quotas::new(&limits));
            let principal = Principal::parse("spiffe://test/application").unwrap();
            let seat = quotas.enter(&principal, Instant::now()).unwrap();
            let peer = Peer { principal, expires: EXPIRES };
            let quota = Arc::clone(seat.quota());
            let guest = Guest::new(peer, Vec::new(), (0, None), quotas, quota);
            let clock = Arc::new(ManualClock::at(UnixMillis(0)));
            let metrics = Arc::new(Metrics::default());
            let trust = Trust::open(&files, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
            let seen = Arc::<Seen>::default();
            let layer = GateLayer {
                trust: Arc::new(trust),
                clock: Arc::clone(&clock) as Arc<dyn Clock>,
                metrics: Arc::clone(&metrics),
                witness: Arc::clone(&seen) as Arc<dyn Witness>,
                deadline_max: Duration::from_millis(200),
            };
            Self { seen, _dir: dir, guest, gate: layer.before(Inner), clock, metrics }
        }

        async fn call(&self, path: &str, headers: &[(&'static str, &str)], known: bool) -> Status {
            let mut request = Request::post(path).body(Body::empty()).unwrap();
            for (name, value) in headers {
                request.headers_mut().append(*name, value.parse().unwrap());
            }
            if known {
                request.extensions_mut().insert(self.guest.clone());
            }
            let reply = self.gate.clone().call(request).await.unwrap();
            Status::from_header_map(reply.headers()).unwrap()
        }
    }

    #[tokio::test]
    async fn a_service_is_given_the_principal_of_the_connection() {
        let passed = Bench::new().call(CHECK, &[("grpc-encoding", "identity")], true).await;
        assert_eq!((passed.code(), passed.message()), (Code::Ok, "spiffe://test/application"));
    }

    #[tokio::test]
    async fn who_is_unknown_or_expired_is_told_so_before_anything_else() {
        let bench = Bench::new();
        assert_eq!(bench.call(CHECK, &[], false).await.code(), Code::Unauthenticated);
        assert_eq!(bench.call("/nothing", &[], false).await.code(), Code::Unauthenticated);
        bench.clock.set(UnixMillis(EXPIRES.0 - 1));
        assert_eq!(bench.call(CHECK, &[], true).await.code(), Code::Ok);
        bench.clock.set(EXPIRES);
        assert_eq!(bench.call(CHECK, &[], true).await.code(), Code::Unauthenticated);
        assert_eq!(bench.call("/nothing", &[], true).await.code(), Code::Unauthenticated);
    }

    #[tokio::test]
    async fn what_is_not_listed_or_compressed_is_not_served() {
        let bench = Bench::new();
        for path in ["/nothing", "/grpc.health.v1.Health/Watch", "/lethe.v1.RecordService/Get"] {
            assert_eq!(bench.call(path, &[], true).await.code(), Code::Unimplemented, "{path}");
        }
        for encoding in ["gzip", "zstd", "Identity"] {
            let got = bench.call(CHECK, &[("grpc-encoding", encoding)], true).await;
            assert_eq!(got.code(), Code::Unimplemented, "{encoding}");
        }
    }

    #[tokio::test]
    async fn a_call_is_a_post() {
        let bench = Bench::new();
        for path in [CHECK, "/nothing"] {
            for method in [Method::GET, Method::CONNECT, Method::OPTIONS] {
                let request = Request::builder().method(method).uri(path).body(Body::empty());
                let mut request = request.unwrap();
                request.extensions_mut().insert(bench.guest.clone());
                let reply = bench.gate.clone().call(request).await.unwrap();
                assert_eq!(reply.status(), StatusCode::METHOD_NOT_ALLOWED);
                assert_eq!(reply.headers().get(ALLOW).unwrap(), "POST");
                let status = Status::from_header_map(reply.headers()).unwrap();
                assert_eq!(status.code(), Code::Unimplemented);
            }
        }
    }

    #[tokio::test]
    async fn a_call_ends_at_its_deadline_or_at_the_cap() {
        let bench = Bench::new();
        let slow = "/lethe.v1.RecordService/GetRecord";
        for (granted, least, most) in [("0n", 0, 150), ("20m", 20, 150), ("1H", 200, 5_000)] {
            let since = Instant::now();
            let got = bench.call(slow, &[(deadline::HEADER.as_str(), granted)], true).await;
            let took = since.elapsed().as_millis();
            assert_eq!(got.code(), Code::DeadlineExceeded, "{granted}");
            assert!((least..most).contains(&took), "{granted} took {took} ms");
        }
        assert_eq!(bench.call(slow, &[], true).await.code(), Code::DeadlineExceeded);
        let bad = bench.call(CHECK, &[(deadline::HEADER.as_str(), "soon")], true).await;
        assert_eq!(bad.code(), Code::InvalidArgument);
    }

    #[tokio::test]
    async fn who_calls_too_often_is_told_how_long_to_wait_before_anything_of_the_call_is_looked_at()
    {
        let bench =
            Bench::with(DoorLimits { calls_per_second: 1, calls_burst: 2, ..Default::default() });
        assert_eq!(bench.call(CHECK, &[], true).await.code(), Code::Ok);
        assert_eq!(bench.call("/nothing", &[], true).await.code(), Code::Unimplemented);
        let refused = bench.call("/nothing", &[], true).await;
        assert_eq!(refused.code(), Code::ResourceExhausted);
        let wait = refused.get_error_details().retry_info().and_then(|r| r.retry_delay).unwrap();
        assert!(wait <= Duration::from_secs(1) && wait > Duration::from_millis(500), "{wait:?}");
        assert_eq!(bench.metrics.calls_limited.value(), 1);
        bench.clock.set(EXPIRES);
        assert_eq!(bench.call(CHECK, &[], true).await.code(), Code::Unauthenticated);
        assert_eq!(bench.metrics.calls_unauthenticated.value(), 1);
    }

    #[tokio::test]
    async fn calls_are_timed_by_method_and_code_and_what_is_not_listed_shares_a_name() {
        let bench = Bench::new();
        for path in [CHECK, CHECK, "/nothing", "/else", "/lethe.v1.TenantService/GetTenant"] {
            bench.call(path, &[], true).await;
        }
        let of = |(labels, times): (crate::metrics::Labels, crate::metrics::Histogram)| {
            (labels, times.buckets.iter().sum::<u64>() + times.above)
        };
        let timed: Vec<_> = bench.metrics.calls.snapshot().into_iter().map(of).collect();
        let expected = [
            ((CHECK, "OK"), 2),
            (("/lethe.v1.TenantService/GetTenant", "INTERNAL"), 1),
            (("unlisted", "UNIMPLEMENTED"), 2),
        ];
        assert_eq!(timed, expected);
    }

    #[tokio::test]
    async fn denied_and_failed_calls_are_counted_apart() {
        let bench = Bench::new();
        let counts = || (bench.metrics.calls_denied.value(), bench.metrics.calls_failed.value());
        bench.call(CHECK, &[], true).await;
        assert_eq!(counts(), (0, 0));
        bench.call("/lethe.admin.v1.VaultService/GetStatus", &[], true).await;
        assert_eq!(counts(), (1, 0));
        bench.call("/lethe.v1.TenantService/GetTenant", &[], true).await;
        assert_eq!(counts(), (1, 1));
    }

    #[tokio::test]
    async fn calls_that_are_refused_or_fail_are_told_and_others_are_not() {
        let bench = Bench::new();
        for path in [CHECK, "/nothing", "/lethe.admin.v1.VaultService/GetStatus"] {
            bench.call(path, &[], true).await;
            bench.call(path, &[], false).await;
        }
        bench
            .call("/lethe.v1.RecordService/GetRecord", &[(deadline::HEADER.as_str(), "1m")], true)
            .await;
        let who = "spiffe://test/application";
        let told = [
            (format!("{who} unlisted"), Code::Unimplemented),
            (format!("{who} /lethe.admin.v1.VaultService/GetStatus"), Code::PermissionDenied),
            (format!("{who} /lethe.v1.RecordService/GetRecord"), Code::DeadlineExceeded),
        ];
        assert_eq!(*bench.seen.0.lock().unwrap(), told);
    }

    #[tokio::test]
    async fn a_call_that_was_served_is_answered_once_the_log_has_it_where_reads_wait_for_that() {
        let bench = Bench::new();
        assert_eq!(bench.call(CHECK, &[], true).await.code(), Code::Ok);
        bench.seen.1.store(true, std::sync::atomic::Ordering::SeqCst);
        let unlogged = bench.call(CHECK, &[], true).await;
        assert_eq!((unlogged.code(), unlogged.message()), (Code::Unavailable, "the log"));
        let failed = bench.call("/lethe.v1.TenantService/GetTenant", &[], true).await;
        assert_eq!(failed.code(), Code::Internal, "what failed has nothing to wait for");
    }
}
