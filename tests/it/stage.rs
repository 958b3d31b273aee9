//! A door on port 0 with an authority of its own and a clock that the test sets, and certificates that differ from a
//! good one in one thing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lethe::authz::{Authority, Principal};
use lethe::clock::{Clock, ManualClock, UnixMillis};
use lethe::metrics::Metrics;
use lethe::pki::{Ca, LEAF_LIFE, Purpose};
use lethe::server::{Config, Door, DoorLimits, ServerError, Wiring};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use rustls::ClientConfig;
use tokio::sync::oneshot;
use tonic::service::Routes;

use crate::peer::{Caller, Verdict, client_config, knock};

pub const NOW: i64 = 1_750_000_000;
pub const DAY: i64 = 86_400;

pub fn health() -> Routes {
    Routes::new(tonic_health::server::health_reporter().1)
}

/// A running door and all that is needed to make callers for it.
pub struct Running {
    pub addr: SocketAddr,
    pub dir: tempfile::TempDir,
    pub clock: Arc<ManualClock>,
    pub metrics: Arc<Metrics>,
    pub stop: Option<oneshot::Sender<()>>,
    pub server: tokio::task::JoinHandle<Result<(), ServerError>>,
}

impl Running {
    pub async fn start() -> Self {
        Self::start_with(DoorLimits::default(), health()).await
    }

    pub async fn start_with(limits: DoorLimits, routes: Routes) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = UnixMillis(NOW * 1000);
        let ca = Ca::new("authority", now).unwrap();
        ca.write(dir.path()).unwrap();
        let server = Purpose::Server { dns: vec![], ips: vec![[127, 0, 0, 1].into()] };
        let principal = Principal::parse("spiffe://test/lethed").unwrap();
        let leaf = ca.issue(&principal, &server, now, 4 * LEAF_LIFE).unwrap();
        leaf.write(dir.path(), "server").unwrap();
        let text = r#"
            listen = "127.0.0.1:0"
            data = "data"
            kek.file = "kek"
            tls = { cert = "server.pem", key = "server.key", client_ca = "ca.pem", trust_domain = "test" }
            identity = [{ uri = "spiffe://test/application", role = "application", tenants = ["*"] }]
        "#;
        let mut config = Config::parse(text, dir.path()).unwrap();
        config.limits = limits;
        let clock = Arc::new(ManualClock::at(now));
        let wiring = Wiring {
            authority: Arc::new(Authority::new(config.bindings.clone()).unwrap()),
            metrics: Arc::default(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
        };
        let door = Door::open(&config, &wiring).await.unwrap();
        let addr = door.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(door.serve(routes, async {
            stopped.await.ok();
        }));
        Self { addr, dir, clock, metrics: wiring.metrics, stop: Some(stop), server }
    }

    pub fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    /// A caller whose certificate differs from a good one by what `change` does to it.
    pub fn caller(&self, change: impl FnOnce(&mut CertificateParams)) -> Caller {
        let authority = KeyPair::from_pem(&self.file("ca.key")).unwrap();
        let issuer = rcgen::Issuer::from_ca_cert_pem(&self.file("ca.pem"), authority).unwrap();
        self.caller_of(&issuer, change)
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
