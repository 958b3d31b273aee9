//! A whole daemon in this process: the directory of `lethed dev`, a free port, and identities that differ in
//! role, tenants and what they may see in clear.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lethe::authz::{Binding, ClassSet, Principal, TenantScope};
use lethe::class::{Classification, Role};
use lethe::client::{Client, ClientConfig};
use lethe::clock::{Clock, ManualClock, SystemClock, UnixMillis};
use lethe::pki::{Ca, LEAF_LIFE, Purpose};
use lethe::proto::v1;
use lethe::server::{Config, DevDir, Opening, ServerError, run};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::transport::Channel;
use tonic_types::StatusExt;

use crate::peer::{Caller, PATIENCE, channel, client_config, in_time};

/// Identities besides the four of `lethed dev`, which are bound to all tenants: name, role, tenants, clear right.
const MORE: [(&str, Role, &str, ClassSet); 8] = [
    ("application-a", Role::Application, "a", ClassSet::ALL),
    ("support", Role::Support, "*", ClassSet::ALL),
    ("support-a", Role::Support, "a", ClassSet::ALL),
    ("operator-a", Role::Operator, "a", ClassSet::NONE),
    ("privacy-officer-a", Role::PrivacyOfficer, "a", ClassSet::ALL),
    ("auditor-a", Role::Auditor, "a", ClassSet::NONE),
    ("clerk", Role::Application, "*", ClassSet::NONE.with(Classification::Public)),
    // Has a certificate and no binding.
    ("stranger", Role::Auditor, "", ClassSet::NONE),
];

type Running = (oneshot::Sender<()>, JoinHandle<Result<(), ServerError>>);

pub struct Live {
    pub dir: tempfile::TempDir,
    pub config: Config,
    pub clock: Arc<ManualClock>,
    /// Asks for the files of door and rights to be taken at once, as SIGHUP does.
    pub reload: Arc<Notify>,
    running: Option<Running>,
}

impl Live {
    /// A new vault, served.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemClock.now();
        let free = "127.0.0.1:0".parse().unwrap();
        let mut config = DevDir::prepare(&dir.path().join("v"), Some(free), now).unwrap().config;
        let pki = dir.path().join("v/pki");
        let ca = Ca::load(&pki).unwrap();
        for (name, role, tenants, clear) in MORE {
            let principal = Principal::parse(&format!("spiffe://dev.lethe/{name}")).unwrap();
            let leaf = ca.issue(&principal, &Purpose::Client, now, LEAF_LIFE).unwrap();
            leaf.write(&pki, name).unwrap();
            if !tenants.is_empty() {
                let tenants = TenantScope::parse(&[tenants.to_owned()]).unwrap();
                config.bindings.push(Binding { principal, role, tenants, clear });
            }
        }
        let clock = Arc::new(ManualClock::at(now));
        let mut live = Self { dir, config, clock, reload: Arc::default(), running: None };
        live.serve().await;
        live
    }

    /// A vault that was just closed in this process may be held a moment longer by its engine's own threads.
    async fn serve(&mut self) {
        let since = Instant::now();
        while let Err(problem) = self.try_serve().await {
            let problem = problem.to_string();
            assert!(problem.contains("in use") && since.elapsed() < PATIENCE, "{problem}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn try_serve(&mut self) -> Result<(), ServerError> {
        let (up, listening) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let said = |text: &lethe::server::Up| {
            assert!(text.text().starts_with("Receipts reach E"));
            up.send(text.addr).unwrap();
        };
        let stopping = async {
            let _ = stopped.await;
        };
        let (config, reload) = (self.config.clone(), Arc::clone(&self.reload));
        let daemon = tokio::spawn(async move {
            run(config, Opening::Either, clock, said, stopping, reload).await
        });
        match in_time(listening).await {
            Ok(addr) => self.config.listen = addr,
            Err(_) => return daemon.await.unwrap(),
        }
        self.running = Some((stop, daemon));
        Ok(())
    }

    /// Stops the daemon as SIGTERM does, and fails unless it ends well.
    pub async fn stop(&mut self) {
        let (stop, daemon) = self.running.take().unwrap();
        stop.send(()).unwrap();
        in_time(daemon).await.unwrap().unwrap();
    }

    /// After [`Live::stop`].
    pub async fn start_again(&mut self) {
        self.serve().await;
    }

    /// A start that may be refused.
    pub async fn try_again(&mut self) -> Result<(), ServerError> {
        self.try_serve().await
    }

    pub async fn restart(&mut self) {
        self.stop().await;
        self.serve().await;
    }

    pub fn pass(&self, time: Duration) {
        let now = self.clock.now().0 + i64::try_from(time.as_millis()).unwrap();
        self.clock.set(UnixMillis(now));
    }

    pub async fn client(&self, name: &str) -> Client {
        let pki = self.dir.path().join("v/pki");
        let config = ClientConfig {
            endpoint: format!("https://{}", self.config.listen),
            ca: pki.join("ca.pem"),
            cert: pki.join(format!("{name}.pem")),
            key: pki.join(format!("{name}.key")),
            server_name: None,
        };
        in_time(Client::connect(&config, Duration::from_secs(30))).await.unwrap()
    }

    /// A connection without the client's own bounds.
    pub async fn channel(&self, name: &str) -> Channel {
        let pki = self.dir.path().join("v/pki");
        let file = |name: &str| std::fs::read(pki.join(name)).unwrap();
        let (leaf, key) = (file(&format!("{name}.pem")), file(&format!("{name}.key")));
        let now = SystemClock.now().0 / 1000;
        let config =
            client_config(&file("ca.pem"), Some(Caller::from_pem(&leaf, &key)), now, b"h2");
        channel(self.config.listen, config).await
    }

    /// Makes a tenant with the type `customer`.
    pub async fn furnish(&self, tenant: &str) {
        let operator = self.client("operator").await;
        let request = v1::CreateTenantRequest { tenant_id: tenant.into(), tenant: None };
        operator.tenants().create_tenant(request).await.unwrap();
        let request = v1::CreateSchemaRequest {
            parent: format!("tenants/{tenant}"),
            schema_id: "customer".into(),
            schema: Some(customer()),
        };
        operator.schemas().create_schema(request).await.unwrap();
    }
}

/// The type that every test here works with.
pub fn customer() -> v1::Schema {
    use v1::{Classification as C, FieldKind as K, MaskKind as M};
    let field = |name: &str, kind: K, class: C| v1::Field {
        name: name.into(),
        kind: kind.into(),
        classification: class.into(),
        ..v1::Field::default()
    };
    let email = field("email", K::Email, C::Sensitive);
    let name = field("name", K::Text, C::General);
    let city = field("city", K::Text, C::Public);
    let diet = field("diet", K::Text, C::General);
    v1::Schema {
        fields: vec![
            v1::Field { required: true, unique: true, mask: M::Email.into(), ..email },
            v1::Field { mask: M::Name.into(), max_bytes: 100, ..name },
            v1::Field { indexed: true, max_bytes: 60, ..city },
            v1::Field { purposes: vec!["catering".into()], indexed: true, max_bytes: 60, ..diet },
            field("phone", K::Phone, C::Sensitive),
            field("identity", K::ResidentId, C::Sensitive),
            field("born", K::Date, C::General),
            field("visits", K::Integer, C::Public),
            field("score", K::Number, C::Public),
            field("member", K::Boolean, C::Public),
            field("photo", K::Bytes, C::General),
        ],
        retention: Some(v1::schema::Retention::RetainFor("P1Y".into())),
        ..v1::Schema::default()
    }
}

pub fn text(value: &str) -> v1::Value {
    v1::Value { kind: Some(v1::value::Kind::StringValue(value.into())) }
}

pub fn texts(fields: &[(&str, &str)]) -> BTreeMap<String, v1::Value> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect()
}

/// What a field shows, if it is text.
pub fn shown<'a>(record: &'a v1::Record, field: &str) -> Option<&'a str> {
    match record.fields.get(field)?.kind.as_ref()? {
        v1::value::Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

pub fn new_customer(tenant: &str, fields: &[(&str, &str)]) -> v1::CreateRecordRequest {
    let record = v1::Record {
        schema: format!("tenants/{tenant}/schemas/customer"),
        fields: texts(fields),
        ..v1::Record::default()
    };
    v1::CreateRecordRequest {
        parent: format!("tenants/{tenant}"),
        record: Some(record),
        request_id: String::new(),
    }
}

pub async fn create(client: &Client, tenant: &str, fields: &[(&str, &str)]) -> v1::Record {
    let made = client.records().create_record(new_customer(tenant, fields)).await;
    made.unwrap().into_inner().record.unwrap()
}

pub async fn get(client: &Client, name: &str) -> Result<v1::Record, Status> {
    let request = v1::GetRecordRequest { name: name.into(), ..Default::default() };
    client.records().get_record(request).await.map(|r| r.into_inner().record.unwrap())
}

/// The fields that an answer names, sorted.
pub fn violated(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let bad = details.bad_request().into_iter().flat_map(|b| &b.field_violations);
    let failed = details.precondition_failure().into_iter().flat_map(|p| &p.violations);
    let fields = bad.map(|v| v.field.clone()).chain(failed.map(|v| v.subject.clone()));
    let mut fields: Vec<String> = fields.collect();
    fields.sort();
    fields
}

/// `ErrorInfo.reason`
pub fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details.error_info().map(|i| i.reason.clone()).unwrap_or_default()
}
