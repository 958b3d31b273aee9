//! The door, from outside: who gets in, and the exact verdict on everybody else.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use lethe::clock::{Clock, UnixMillis};
use lethe::server::DoorLimits;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use rustls::AlertDescription as Alert;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::service::Routes;
use tonic::{Code, Status};

use crate::peer::{CHECK, Caller, PATIENCE, Verdict, call, channel, client_config, in_time, knock};
use crate::stage::{DAY, NOW, Running, authority_named, dns, good, health, uri, valid};

#[tokio::test]
async fn a_caller_with_a_good_certificate_is_served() {
    let door = Running::start().await;
    let caller = door.caller(|_| {});
    let channel = channel(door.addr, door.client(Some(caller))).await;
    let reply = call(&channel, CHECK).await.unwrap();
    assert_eq!(reply.status, tonic_health::ServingStatus::Serving as i32);
    assert_eq!(
        (door.metrics.connections.value(), door.metrics.connections_refused.value()),
        (1, 0)
    );
}

#[tokio::test]
async fn the_verdict_on_every_other_certificate() {
    use Verdict::Alert as Refused;
    type Change = fn(&mut CertificateParams);
    let door = Running::start().await;
    let table: [(&str, Alert, Change); 17] = [
        ("expired", Alert::CertificateExpired, |p| valid(p, NOW - 2 * DAY, NOW - 1)),
        ("not yet valid", Alert::CertificateExpired, |p| valid(p, NOW + 60, NOW + DAY)),
        ("an authority as leaf", Alert::CertificateUnknown, |p| {
            p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }),
        ("for servers", Alert::UnsupportedCertificate, |p| {
            p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        }),
        ("for nothing", Alert::AccessDenied, |p| p.extended_key_usages.clear()),
        ("for anything", Alert::UnsupportedCertificate, |p| {
            p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any];
        }),
        ("no name", Alert::AccessDenied, |p| p.subject_alt_names.clear()),
        ("two URIs", Alert::AccessDenied, |p| {
            p.subject_alt_names.push(uri("spiffe://test/operator"));
        }),
        ("the same URI twice", Alert::AccessDenied, |p| {
            p.subject_alt_names.push(uri("spiffe://test/application"));
        }),
        ("DNS only", Alert::AccessDenied, |p| p.subject_alt_names = vec![dns("application")]),
        ("URI and DNS", Alert::AccessDenied, |p| p.subject_alt_names.push(dns("application"))),
        ("URI and IP", Alert::AccessDenied, |p| {
            p.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        }),
        ("another scheme", Alert::AccessDenied, |p| {
            p.subject_alt_names = vec![uri("https://test/application")];
        }),
        ("no path", Alert::AccessDenied, |p| p.subject_alt_names = vec![uri("spiffe://test")]),
        ("not normal", Alert::AccessDenied, |p| {
            p.subject_alt_names = vec![uri("spiffe://test/x/../application")];
        }),
        ("another trust domain", Alert::AccessDenied, |p| {
            p.subject_alt_names = vec![uri("spiffe://other/application")];
        }),
        ("a trust domain that begins alike", Alert::AccessDenied, |p| {
            p.subject_alt_names = vec![uri("spiffe://test.other/application")];
        }),
    ];
    for (what, alert, change) in table {
        assert_eq!(door.verdict_on(Some(door.caller(change))).await, Refused(alert), "{what}");
    }
    assert_eq!(door.verdict_on(None).await, Refused(Alert::CertificateRequired));

    // Same names, other keys.
    let impostor = authority_named("authority");
    let caller = door.caller_of(&impostor, |_| {});
    assert_ne!(door.verdict_on(Some(caller)).await, Verdict::Served);
    let stranger = door.caller_of(&authority_named("stranger"), |_| {});
    assert_eq!(door.verdict_on(Some(stranger)).await, Refused(Alert::UnknownCA));
    let key = KeyPair::generate().unwrap();
    let own = good().self_signed(&key).unwrap().pem();
    let own = Caller::from_pem(own.as_bytes(), key.serialize_pem().as_bytes());
    assert_eq!(door.verdict_on(Some(own)).await, Refused(Alert::UnknownCA));

    // The control: the same caller without a change.
    assert_eq!(door.verdict_on(Some(door.caller(|_| {}))).await, Verdict::Served);
    assert_eq!(door.metrics.connections_refused.value(), 21);
    assert_eq!(door.metrics.connections.value(), 1);
}

#[tokio::test]
async fn a_certificate_that_expires_during_a_connection_ends_its_calls() {
    let door = Running::start().await;
    let caller = door.caller(|p| valid(p, NOW - DAY, NOW + 60));
    let channel = channel(door.addr, door.client(Some(caller))).await;
    door.clock.set(UnixMillis((NOW + 60) * 1000 + 999));
    assert!(call(&channel, CHECK).await.is_ok());
    door.clock.set(UnixMillis((NOW + 61) * 1000));
    let refused = call(&channel, CHECK).await.unwrap_err();
    let said = (refused.code(), refused.message());
    assert_eq!(said, (Code::Unauthenticated, "the client certificate has expired"));
}

#[tokio::test]
async fn a_session_is_never_resumed() {
    let door = Running::start().await;
    let config = door.client(Some(door.caller(|_| {})));
    for _ in 0..3 {
        let (verdict, tls) = knock(door.addr, &config).await;
        assert_eq!(verdict, Verdict::Served);
        let tls = tls.unwrap();
        let session = tls.get_ref().1;
        assert_eq!(session.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert_eq!(session.tls13_tickets_received(), 0);
    }
}

#[tokio::test]
async fn only_http_2_is_spoken() {
    let door = Running::start().await;
    let ca = door.file("ca.pem");
    let old = client_config(ca.as_bytes(), Some(door.caller(|_| {})), NOW, b"http/1.1");
    let verdict = knock(door.addr, &old).await.0;
    assert_eq!(verdict, Verdict::Alert(Alert::NoApplicationProtocol));
    let mut silent = door.client(Some(door.caller(|_| {})));
    silent.alpn_protocols.clear();
    assert_eq!(knock(door.addr, &silent).await.0, Verdict::Closed);
}

/// A ClientHello (RFC 8446 §4.1.2) that offers `versions`, with an empty key share.
fn client_hello(versions: &[u8]) -> Vec<u8> {
    let mut extensions = vec![
        0, 10, 0, 4, 0, 2, 0, 23, // supported_groups: secp256r1
        0, 13, 0, 4, 0, 2, 4, 3, // signature_algorithms: ecdsa_secp256r1_sha256
        0, 51, 0, 2, 0, 0, // key_share: none yet
        0, 16, 0, 5, 0, 3, 2, b'h', b'2', // ALPN
    ];
    if !versions.is_empty() {
        let n = u8::try_from(versions.len()).unwrap();
        extensions.extend([0, 43, 0, n + 1, n]);
        extensions.extend(versions);
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend([0, 4, 0x13, 0x01, 0xc0, 0x2b, 1, 0]);
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    let n = u8::try_from(body.len()).unwrap();
    let mut record = vec![22, 3, 1, 0, n + 4, 1, 0, 0, n];
    record.extend(body);
    record
}

/// What the door answers to bytes, up to its end of the connection.
async fn answer(addr: SocketAddr, bytes: &[u8], at_least: usize) -> Vec<u8> {
    let mut tcp = TcpStream::connect(addr).await.unwrap();
    tcp.write_all(bytes).await.unwrap();
    let mut answer = vec![0; at_least];
    let n = in_time(tcp.read(&mut answer)).await.unwrap();
    answer.truncate(n);
    answer
}

#[tokio::test]
async fn older_tls_and_no_tls_are_refused_with_an_alert() {
    let door = Running::start().await;
    let alert = |code| [21, 3, 3, 0, 2, 2, code].to_vec();
    let tls12 = client_hello(&[]);
    assert_eq!(answer(door.addr, &tls12, 99).await, alert(70), "protocol_version");
    assert_eq!(answer(door.addr, &client_hello(&[3, 3]), 99).await, alert(70));
    let plain = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    assert_eq!(answer(door.addr, plain, 99).await, alert(50), "decode_error");
    // Also a peer that goes on talking gets the alert and an orderly end, not a reset that swallows the reason.
    let mut talker = TcpStream::connect(door.addr).await.unwrap();
    talker.write_all(&[plain.as_slice(), &[0; 32 * 1024]].concat()).await.unwrap();
    let mut heard = Vec::new();
    in_time(talker.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, alert(50));
    // The control: with TLS 1.3 offered, the same hello is answered by a handshake message.
    assert_eq!(answer(door.addr, &client_hello(&[3, 4]), 1).await, [22]);
}

#[tokio::test]
async fn a_silent_peer_is_cut_off() {
    let handshake = Duration::from_millis(300);
    let limits = DoorLimits { handshake, ..DoorLimits::default() };
    let door = Running::start_with(limits, health()).await;
    let since = Instant::now();
    let mut tcp = TcpStream::connect(door.addr).await.unwrap();
    tcp.write_all(&client_hello(&[3, 4])[..20]).await.unwrap();
    assert_eq!(in_time(tcp.read(&mut [0])).await.unwrap_or(0), 0);
    let took = since.elapsed();
    assert!((handshake..10 * handshake).contains(&took), "{took:?}");
}

#[tokio::test]
async fn silent_peers_keep_others_waiting_for_one_handshakes_time_at_most() {
    let handshake = Duration::from_millis(800);
    let limits = DoorLimits { handshake, ..DoorLimits::default() };
    let door = Running::start_with(limits, health()).await;
    let before = channel(door.addr, door.client(Some(door.caller(|_| {})))).await;
    let config = door.client(Some(door.caller(|_| {})));
    let mut silent = Vec::new();
    for _ in 0..lethe::limits::HANDSHAKES_MAX {
        silent.push(TcpStream::connect(door.addr).await.unwrap());
    }
    let since = Instant::now();
    assert!(call(&before, CHECK).await.is_ok(), "who is in already notices nothing");
    assert!(since.elapsed() < handshake / 2);
    assert_eq!(knock(door.addr, &config).await.0, Verdict::Served);
    let waited = since.elapsed();
    assert!((handshake / 2..10 * handshake).contains(&waited), "{waited:?}");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_until_one_ends() {
    let limits = DoorLimits { connections: 2, ..DoorLimits::default() };
    let door = Running::start_with(limits, health()).await;
    let config = door.client(Some(door.caller(|_| {})));
    let (first, one) = knock(door.addr, &config).await;
    let (second, _two) = knock(door.addr, &config).await;
    assert_eq!([first, second], [Verdict::Served, Verdict::Served]);
    assert_eq!(knock(door.addr, &config).await.0, Verdict::Closed);
    assert_eq!(door.metrics.connections_refused.value(), 1);
    drop(one);
    let again = async {
        while knock(door.addr, &config).await.0 != Verdict::Served {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    in_time(again).await;
}

#[tokio::test]
async fn a_path_that_is_not_listed_is_not_served() {
    let door = Running::start().await;
    let channel = channel(door.addr, door.client(Some(door.caller(|_| {})))).await;
    for path in ["/grpc.health.v1.Health/Watch", "/lethe.v1.RecordService/DropRecord", "/x"] {
        let status = call(&channel, path).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unimplemented, "no such method"));
    }
}

/// A health service that never answers.
#[derive(Clone)]
struct Never;

impl tonic::server::NamedService for Never {
    const NAME: &'static str = "grpc.health.v1.Health";
}

impl tower::Service<Request<Body>> for Never {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_call_without_a_deadline_gets_the_limit() {
    let limits = DoorLimits { deadline: Duration::from_millis(200), ..DoorLimits::default() };
    let door = Running::start_with(limits, Routes::new(Never)).await;
    let channel = channel(door.addr, door.client(Some(door.caller(|_| {})))).await;
    let status = call(&channel, CHECK).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_stop_lets_calls_end_and_cuts_off_those_that_do_not() {
    let shutdown = Duration::from_millis(400);
    let deadline = Duration::from_millis(200);
    for (deadline, ends_by_itself) in [(deadline, true), (Duration::from_secs(60), false)] {
        let limits = DoorLimits { deadline, shutdown, ..DoorLimits::default() };
        let mut door = Running::start_with(limits, Routes::new(Never)).await;
        let channel = channel(door.addr, door.client(Some(door.caller(|_| {})))).await;
        let calling = tokio::spawn(async move { call(&channel, CHECK).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        let since = Instant::now();
        door.stop.take().unwrap().send(()).unwrap();
        in_time(&mut door.server).await.unwrap().unwrap();
        let took = since.elapsed();
        assert_eq!(took < shutdown, ends_by_itself, "{took:?}");
        assert!(took < 10 * shutdown, "{took:?}");
        assert!(TcpStream::connect(door.addr).await.is_err(), "the socket is closed");
        if ends_by_itself {
            let status = calling.await.unwrap().unwrap_err();
            assert_eq!(status.code(), Code::DeadlineExceeded);
        }
    }
}

/// A batch that lasts until a read was answered, which panics at its first time.
#[derive(Clone, Default)]
struct Slow(Arc<Mutex<u32>>, Arc<Condvar>);

impl tonic::server::NamedService for Slow {
    const NAME: &'static str = "lethe.v1.RecordService";
}

impl tower::Service<Request<Body>> for Slow {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self(reads, done) = self.clone();
        Box::pin(async move {
            let mut reads = reads.lock().unwrap_or_else(PoisonError::into_inner);
            if request.uri().path().ends_with("/GetRecord") {
                *reads += 1;
                assert!(*reads > 1, "a read that panics");
                done.notify_all();
                return Ok(Status::not_found("").into_http());
            }
            // With its thread: so it is with what takes long for its work.
            let over = done.wait_timeout_while(reads, PATIENCE, |reads| *reads < 2);
            let late = over.unwrap_or_else(PoisonError::into_inner).1.timed_out();
            Ok(Status::new(if late { Code::Unavailable } else { Code::Aborted }, "").into_http())
        })
    }
}

/// However long a call works, and even if one panics, others of the same connection are answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connections_short_calls_wait_for_no_long_one_and_outlive_one_that_panics() {
    let door = Running::start_with(DoorLimits::default(), Routes::new(Slow::default())).await;
    let channel = channel(door.addr, door.client(Some(door.caller(|_| {})))).await;
    let long = {
        let channel = channel.clone();
        tokio::spawn(async move { call(&channel, "/lethe.v1.RecordService/ListRecords").await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    let read = || call(&channel, "/lethe.v1.RecordService/GetRecord");
    let panicked = read().await.unwrap_err().code();
    assert!(panicked != Code::NotFound && panicked != Code::Unavailable, "{panicked:?}");
    assert_eq!(read().await.unwrap_err().code(), Code::NotFound);
    assert_eq!(long.await.unwrap().unwrap_err().code(), Code::Aborted);
    assert_eq!(door.metrics.connections.value(), 1);
}

#[tokio::test]
async fn files_of_the_door_that_do_not_fit_are_named() {
    use std::os::unix::fs::PermissionsExt;
    let door = Running::start().await;
    let path = |name: &str| door.dir.path().join(name);
    let files = lethe::server::TlsFiles {
        cert: path("server.pem"),
        key: path("server.key"),
        client_ca: path("ca.pem"),
        crl: None,
        trust_domain: lethe::authz::TrustDomain::parse("test").unwrap(),
    };
    let problem = |files: &lethe::server::TlsFiles| {
        let clock = Arc::clone(&door.clock) as Arc<dyn Clock>;
        lethe::server::Trust::open(files, clock).err().map(|e| e.to_string()).unwrap_or_default()
    };
    assert_eq!(problem(&files), "");
    let other_key = lethe::server::TlsFiles { key: path("ca.key"), ..files.clone() };
    assert!(problem(&other_key).contains("server.pem: "), "{}", problem(&other_key));
    let no_key = lethe::server::TlsFiles { key: path("ca.pem"), ..files.clone() };
    assert!(problem(&no_key).contains("ca.pem: is a private key that everybody may read"));
    std::fs::set_permissions(path("ca.pem"), PermissionsExt::from_mode(0o600)).unwrap();
    assert!(problem(&no_key).ends_with("ca.pem: holds no PEM private key that can be read"));
    let no_ca = lethe::server::TlsFiles { client_ca: path("server.key"), ..files.clone() };
    assert!(problem(&no_ca).ends_with("server.key: holds no PEM certificate that can be read"));
    door.clock.set(UnixMillis((NOW + 500 * DAY) * 1000));
    assert!(problem(&files).ends_with("server.pem: the certificate has expired"));
}
