//! A door on port 0 with an authority of its own and a clock that the test sets, and certificates that differ from a
//! good one in one thing.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use lethe::authz::{Authority, Principal};
use lethe::clock::{Clock, ManualClock, UnixMillis};
use lethe::metrics::Metrics;
use lethe::pki::{Ca, LEAF_LIFE, Purpose};
use lethe::rpc::witness::Witness;
use lethe::server::{Config, Door, DoorLimits, ServerError, Wiring};
use rcgen::{
    CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod,
    KeyPair, RevokedCertParams, SanType, SerialNumber,
};
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use tokio::sync::{Notify, oneshot};
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::Service;

use crate::peer::{Caller, Verdict, client_config, in_time, knock};

pub const NOW: i64 = 1_750_000_000;
pub const DAY: i64 = 86_400;

pub fn health() -> Routes {
    Routes::new(tonic_health::server::health_reporter().1)
}

/// What a door can be opened for.
pub trait Answering:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Answering for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// A running door and all that is needed to make callers for it.
pub struct Running {
    pub addr: SocketAddr,
    pub dir: tempfile::TempDir,
    pub clock: Arc<ManualClock>,
    pub metrics: Arc<Metrics>,
    pub reload: Arc<Notify>,
    pub stop: Option<oneshot::Sender<()>>,
    pub server: tokio::task::JoinHandle<Result<(), ServerError>>,
}

/// A door without a vault has no log.
struct Nobody;

impl Witness for Nobody {
    fn refused(&self, _: &Principal, _: &str, _: Code) {}

    fn settled(&self) -> Pin<Box<dyn Future<Output = Result<(), Status>> + Send + '_>> {
        Box::pin(async { Ok(()) })
    }

    fn holds_up(&self) -> bool {
        false
    }
}

impl Running {
    pub async fn start() -> Self {
        Self::start_with(DoorLimits::default(), health()).await
    }

    pub async fn start_with(limits: DoorLimits, routes: impl Answering) -> Self {
        Self::start_as(limits, routes, "").await
    }

    /// A door with an empty revocation list, `crl.pem`, number 1.
    pub async fn start_listed() -> Self {
        Self::start_as(DoorLimits::default(), health(), r#"crl = "crl.pem", "#).await
    }

    /// `tls` goes into the configuration's table of that name.
    pub async fn start_as(limits: DoorLimits, routes: impl Answering, tls: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = UnixMillis(NOW * 1000);
        let ca = Ca::new("authority", now).unwrap();
        ca.write(dir.path()).unwrap();
        let server = Purpose::Server { dns: vec![], ips: vec![[127, 0, 0, 1].into()] };
        let principal = Principal::parse("spiffe://test/lethed").unwrap();
        let leaf = ca.issue(&principal, &server, now, 4 * LEAF_LIFE).unwrap();
        leaf.write(dir.path(), "server").unwrap();
        let list = crl(&issuer_in(dir.path()), 1, &[], NOW + 30 * DAY);
        std::fs::write(dir.path().join("crl.pem"), &list).unwrap();
        // The same as a directory behind a link.
        std::fs::create_dir(dir.path().join("one")).unwrap();
        std::fs::write(dir.path().join("one/first.pem"), list).unwrap();
        std::os::unix::fs::symlink("one", dir.path().join("lists")).unwrap();
        let text = r#"
            listen = "127.0.0.1:0"
            data = "data"
            kek.file = "kek"
            tls = { MORE cert = "server.pem", key = "server.key", client_ca = "ca.pem", trust_domain = "test" }
            identity = [{ uri = "spiffe://test/application", role = "application", tenants = ["*"] }]
        "#;
        let mut config = Config::parse(&text.replace("MORE ", tls), dir.path()).unwrap();
        config.limits = limits;
        let clock = Arc::new(ManualClock::at(now));
        let wiring = Wiring {
            authority: Arc::new(Authority::new(config.bindings.clone()).unwrap()),
            metrics: Arc::default(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            reload: Arc::default(),
        };
        let door = Door::open(&config, &wiring).await.unwrap();
        let addr = door.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(door.serve(routes, Arc::new(Nobody), async {
            stopped.await.ok();
        }));
        let (metrics, reload) = (wiring.metrics, wiring.reload);
        Self { addr, dir, clock, metrics, reload, stop: Some(stop), server }
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// As writers should: the whole file takes its place at once.
    pub fn put(&self, name: &str, text: &str) {
        let fresh = self.path("fresh");
        std::fs::write(&fresh, text).unwrap();
        std::fs::set_permissions(&fresh, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        std::fs::rename(fresh, self.path(name)).unwrap();
    }

    /// Another certificate and key of the server, valid from and to these moments.
    pub fn server_pair(&self, from: i64, to: i64) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = good();
        valid(&mut params, from, to);
        params.subject_alt_names =
            vec![uri("spiffe://test/lethed"), SanType::IpAddress([127, 0, 0, 1].into())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let pem = params.signed_by(&key, &issuer_in(self.dir.path())).unwrap().pem();
        (pem, key.serialize_pem())
    }

    /// Puts a list of the door's own authority, valid for 30 days.
    pub fn revoke(&self, number: u64, callers: &[&CertificateDer<'_>]) {
        self.put("crl.pem", &crl(&issuer_in(self.dir.path()), number, callers, NOW + 30 * DAY));
    }

    /// Asks for the files to be taken, and waits for the verdict: whether they were.
    pub async fn reloads(&self) -> bool {
        let count = || (self.metrics.tls_reloads.value(), self.metrics.tls_reloads_refused.value());
        let before = count();
        self.reload.notify_one();
        in_time(async {
            while count() == before {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        count().0 > before.0
    }

    pub fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    /// A caller whose certificate differs from a good one by what `change` does to it.
    pub fn caller(&self, change: impl FnOnce(&mut CertificateParams)) -> Caller {
        self.caller_of(&issuer_in(self.dir.path()), change)
    }

    pub fn caller_of(
        &self,
        issuer: &rcgen::Issuer<'_, KeyPair>,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Caller {
        let key = KeyPair::generate().unwrap();
        let mut params = good();
        change(&mut params);
        let certificate = params.signed_by(&key, issuer).unwrap();
        Caller::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes())
    }

    pub fn client(&self, caller: Option<Caller>) -> ClientConfig {
        client_config(self.file("ca.pem").as_bytes(), caller, NOW, b"h2")
    }

    pub async fn verdict_on(&self, caller: Option<Caller>) -> Verdict {
        knock(self.addr, &self.client(caller)).await.0
    }
}

/// The authority that keeps its files in `dir`.
pub fn issuer_in(dir: &std::path::Path) -> rcgen::Issuer<'static, KeyPair> {
    let file = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    let key = KeyPair::from_pem(&file("ca.key")).unwrap();
    rcgen::Issuer::from_ca_cert_pem(&file("ca.pem"), key).unwrap()
}

/// A revocation list of these certificates, in PEM.
pub fn crl(
    issuer: &rcgen::Issuer<'_, KeyPair>,
    number: u64,
    revoked: &[&CertificateDer<'_>],
    until: i64,
) -> String {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let at = |secs: i64| {
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(secs.try_into().unwrap())
    };
    let revoked = revoked.iter().map(|der| RevokedCertParams {
        serial_number: SerialNumber::from_slice(
            X509Certificate::from_der(der).unwrap().1.raw_serial(),
        ),
        revocation_time: at(NOW),
        reason_code: None,
        invalidity_date: None,
    });
    let params = CertificateRevocationListParams {
        this_update: at(NOW),
        next_update: at(until),
        crl_number: number.into(),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().pem().unwrap()
}

pub fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

pub fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

pub fn valid(params: &mut CertificateParams, from: i64, to: i64) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(from.try_into().unwrap());
    params.not_after = epoch + Duration::from_secs(to.try_into().unwrap());
}

pub fn good() -> CertificateParams {
    let mut params = CertificateParams::default();
    valid(&mut params, NOW - DAY, NOW + DAY);
    params.subject_alt_names = vec![uri("spiffe://test/application")];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.is_ca = IsCa::ExplicitNoCa;
    params
}

pub fn authority_named(name: &str) -> rcgen::Issuer<'static, KeyPair> {
    let mut params = good();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    rcgen::Issuer::new(params, KeyPair::generate().unwrap())
}
