//! The two sides of a comparison through the door: `lethed` itself, and a bare tonic server that answers with the same
//! bytes over the same TLS. Each is a process of its own, and the client is the same.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use lethe::client::{Client, ClientConfig};
use lethe::clock::{Clock, SystemClock};
use lethe::proto::v1;
use lethe::proto::v1::record_service_server::{RecordService, RecordServiceServer};
use lethe::server::{Config, DevDir};
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Empty;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, Server};
use tonic::{Request, Response, Status, Streaming};

use super::support::{CUSTOMER, Outcome, TENANT, fields};

/// A server in a process of its own.
pub struct Side {
    child: Starting,
    pub client: Client,
    pub is_echo: bool,
}

/// A process that does not outlive what started it.
struct Starting(Child);

impl Drop for Starting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wrapped(wrapper: &[&str], program: &str) -> Command {
    match wrapper.split_first() {
        None => Command::new(program),
        Some((first, arguments)) => {
            let mut command = Command::new(first);
            command.args(arguments).arg(program);
            command
        }
    }
}

/// The configuration of a development vault that lets through as many calls as there may be, and `more` of it.
fn dir_config(dir: &Path, more: &str) -> Outcome<Config> {
    let made = DevDir::prepare(dir, Some("127.0.0.1:0".parse()?), SystemClock.now())?;
    if made.fresh {
        let most = lethe::limits::CALLS_MAX;
        let file = dir.join("lethed.toml");
        let text = std::fs::read_to_string(&file)?;
        let limits = format!("\n[limits]\ncalls_per_second = {most}\ncalls_burst = {most}\n");
        std::fs::write(&file, text + &limits + more)?;
    }
    Ok(made.config)
}

impl Side {
    /// The daemon, as it is shipped, with a development vault; `wrapper` is a program that runs it, `more` goes into
    /// its configuration.
    pub async fn vault(wrapper: &[&str], dir: &Path, more: &str) -> Outcome<Self> {
        let config = dir_config(dir, more)?;
        let mut command = wrapped(wrapper, env!("CARGO_BIN_EXE_lethed"));
        command.arg("dev").arg("--dir").arg(dir);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut side = Starting(child);
        let until = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(config.listen).await.is_err() {
            if Instant::now() > until || side.0.try_wait()?.is_some() {
                return Err("lethed does not come up".into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let client = client(dir, &config.listen.to_string(), "application").await?;
        Ok(Self { child: side, client, is_echo: false })
    }

    /// The echo, with the certificates of a vault that is in `dir` or is made there.
    pub async fn echo(wrapper: &[&str], dir: &Path, bytes: usize) -> Outcome<Self> {
        dir_config(dir, "")?;
        let own = std::env::current_exe()?;
        let mut command = wrapped(wrapper, own.to_str().ok_or("path")?);
        command.args(["--echo", "--bytes", &bytes.to_string(), "--dir"]).arg(dir);
        let mut child = Starting(command.stdout(Stdio::piped()).spawn()?);
        let mut said = BufReader::new(child.0.stdout.take().ok_or("no output")?);
        let mut addr = String::new();
        said.read_line(&mut addr)?;
        let client = client(dir, addr.trim(), "application").await?;
        Ok(Self { child, client, is_echo: true })
    }

    /// CPU that the process has used.
    pub fn cpu(&self) -> Outcome<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.0.id()))?;
        let after = stat.rsplit(')').next().ok_or("stat")?;
        let ticks: Vec<u64> =
            after.split_whitespace().skip(11).take(2).filter_map(|t| t.parse().ok()).collect();
        // Ticks are hundredths of a second on Linux.
        Ok(Duration::from_millis(ticks.iter().sum::<u64>() * 10))
    }

    /// Asks it to end, so that what runs it can say what it saw.
    pub fn end(mut self) -> Outcome<()> {
        Command::new("kill").arg(self.child.0.id().to_string()).status()?;
        self.child.0.wait()?;
        Ok(())
    }
}

async fn client(dir: &Path, addr: &str, name: &str) -> Outcome<Client> {
    let pki = dir.join("pki");
    let config = ClientConfig {
        endpoint: format!("https://{addr}"),
        ca: pki.join("ca.pem"),
        cert: pki.join(format!("{name}.pem")),
        key: pki.join(format!("{name}.key")),
        server_name: Some("localhost".into()),
    };
    Ok(Client::connect(&config, Duration::from_secs(60)).await?)
}

/// The record that the echo answers with, and that the vault stores.
pub fn record(n: u64, bytes: usize) -> v1::Record {
    use lethe::vault::value::Value;
    let text = |value: &Value| v1::Value {
        kind: Some(v1::value::Kind::StringValue(value.as_text().unwrap_or_default().into())),
    };
    v1::Record {
        schema: format!("tenants/{}/schemas/{}", TENANT, CUSTOMER),
        fields: fields(n, bytes).iter().map(|(name, value)| (name.clone(), text(value))).collect(),
        ..v1::Record::default()
    }
}

#[derive(Clone)]
struct Echo {
    record: v1::Record,
}

/// A stream of the records of an export, in parts of as many as the vault's.
struct Parts {
    record: v1::Record,
    left: usize,
}

impl tokio_stream::Stream for Parts {
    type Item = Result<v1::ExportRecordsResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let count = self.left.min(500);
        self.left -= count;
        let records = vec![self.record.clone(); count];
        Poll::Ready(
            (count > 0).then(|| Ok(v1::ExportRecordsResponse { records, ..Default::default() })),
        )
    }
}

type Answer<T> = Result<Response<T>, Status>;
type Never<T> = Empty<Result<T, Status>>;

fn unasked<T>() -> Answer<T> {
    Err(Status::unimplemented("not measured"))
}

#[tonic::async_trait]
impl RecordService for Echo {
    async fn get_record(&self, _: Request<v1::GetRecordRequest>) -> Answer<v1::GetRecordResponse> {
        Ok(Response::new(v1::GetRecordResponse { record: Some(self.record.clone()) }))
    }
    async fn batch_get_records(
        &self,
        request: Request<v1::BatchGetRecordsRequest>,
    ) -> Answer<v1::BatchGetRecordsResponse> {
        let records = vec![self.record.clone(); request.into_inner().names.len()];
        Ok(Response::new(v1::BatchGetRecordsResponse { records }))
    }
    async fn create_record(
        &self,
        request: Request<v1::CreateRecordRequest>,
    ) -> Answer<v1::CreateRecordResponse> {
        let fields = request.into_inner().record.unwrap_or_default().fields;
        let record = v1::Record { fields, ..self.record.clone() };
        Ok(Response::new(v1::CreateRecordResponse { record: Some(record) }))
    }
    async fn update_record(
        &self,
        _: Request<v1::UpdateRecordRequest>,
    ) -> Answer<v1::UpdateRecordResponse> {
        unasked()
    }
    async fn list_records(
        &self,
        _: Request<v1::ListRecordsRequest>,
    ) -> Answer<v1::ListRecordsResponse> {
        unasked()
    }
    async fn find_records(
        &self,
        _: Request<v1::FindRecordsRequest>,
    ) -> Answer<v1::FindRecordsResponse> {
        unasked()
    }
    async fn erase_record(
        &self,
        _: Request<v1::EraseRecordRequest>,
    ) -> Answer<v1::EraseRecordResponse> {
        unasked()
    }
    async fn batch_erase_records(
        &self,
        _: Request<v1::BatchEraseRecordsRequest>,
    ) -> Answer<v1::BatchEraseRecordsResponse> {
        unasked()
    }
    async fn batch_create_records(
        &self,
        _: Request<v1::BatchCreateRecordsRequest>,
    ) -> Answer<v1::BatchCreateRecordsResponse> {
        unasked()
    }
    type ImportRecordsStream = Never<v1::ImportRecordsResponse>;
    async fn import_records(
        &self,
        _: Request<Streaming<v1::ImportRecordsRequest>>,
    ) -> Answer<Self::ImportRecordsStream> {
        unasked()
    }
    type ExportRecordsStream = Parts;
    /// As many records as the page token says.
    async fn export_records(
        &self,
        request: Request<v1::ExportRecordsRequest>,
    ) -> Answer<Self::ExportRecordsStream> {
        let left = request.into_inner().page_token.parse().unwrap_or_default();
        Ok(Response::new(Parts { record: self.record.clone(), left }))
    }
    type WatchRecordsStream = Never<v1::WatchRecordsResponse>;
    async fn watch_records(
        &self,
        _: Request<v1::WatchRecordsRequest>,
    ) -> Answer<Self::WatchRecordsStream> {
        unasked()
    }
}

/// A TLS stream as tonic wants it.
struct Plain(TlsStream<TcpStream>);

impl Connected for Plain {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Mutual TLS and tonic, and nothing of the vault's.
pub async fn serve_echo(dir: &Path, bytes: usize) -> Outcome<()> {
    let pki = dir.join("pki");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pki.join("ca.pem"))?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let chain = CertificateDer::pem_file_iter(pki.join("server.pem"))?.collect::<Result<_, _>>()?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(pki.join("server.key"))?)?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let (connections, incoming) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let _ = tcp.set_nodelay(true);
            if let Ok(tls) = acceptor.accept(tcp).await {
                let _ = connections.send(Ok::<_, std::io::Error>(Plain(tls))).await;
            }
        }
    });
    let mut record = record(1, bytes);
    let id = "0b9d3c1e-7f2a-4c55-9a34-2f0c8d1e6b7a";
    record.name = format!("tenants/{}/records/{id}", TENANT);
    record.subject = format!("tenants/{}/subjects/{id}", TENANT);
    record.etag = "1".into();
    record.create_time = Some(prost_types::Timestamp { seconds: 1_790_000_000, nanos: 1 });
    record.update_time = record.create_time;
    let service = RecordServiceServer::new(Echo { record });
    Server::builder()
        .add_service(service)
        .serve_with_incoming(ReceiverStream::new(incoming))
        .await?;
    Ok(())
}

/// The tenant, its type, and 500 records to read in each part.
pub async fn furnish(
    dir: &Path,
    vault: &Side,
    bytes: usize,
    parts: u64,
) -> Outcome<Arc<Vec<String>>> {
    let config = std::fs::read_to_string(dir.join("client-operator.toml"))?;
    let endpoint = config.lines().find_map(|l| l.strip_prefix("endpoint = \"https://"));
    let addr = endpoint.and_then(|e| e.strip_suffix('"')).ok_or("no endpoint")?;
    let operator = client(dir, addr, "operator").await?;
    let tenant = v1::CreateTenantRequest { tenant_id: TENANT.into(), tenant: None };
    operator.tenants().create_tenant(tenant).await?;
    let field = |name: &str, indexed| v1::Field {
        name: name.into(),
        kind: v1::FieldKind::Text.into(),
        classification: v1::Classification::Sensitive.into(),
        indexed,
        max_bytes: if indexed { 100 } else { 4_096 },
        ..v1::Field::default()
    };
    let indexed = ["name", "phone", "city"].map(|n| field(n, true));
    let others = ["street", "remark", "note"].map(|n| field(n, false));
    let schema = v1::CreateSchemaRequest {
        parent: format!("tenants/{}", TENANT),
        schema_id: CUSTOMER.into(),
        schema: Some(v1::Schema {
            fields: indexed.into_iter().chain(others).collect(),
            retention: Some(v1::schema::Retention::OpenEnded(true)),
            ..v1::Schema::default()
        }),
    };
    operator.schemas().create_schema(schema).await?;
    let mut names = Vec::new();
    for part in 0..parts {
        let requests = (0..500)
            .map(|n| v1::CreateRecordRequest {
                record: Some(record(part * 500 + n, bytes)),
                ..Default::default()
            })
            .collect();
        let parent = format!("tenants/{}", TENANT);
        let request = v1::BatchCreateRecordsRequest { parent, requests };
        let made = vault.client.records().batch_create_records(request).await?.into_inner();
        names.extend(made.records.into_iter().map(|r| r.name));
    }
    Ok(Arc::new(names))
}
