//! Spans on their way to an endpoint: in batches, over HTTP, as OTLP has them in protobuf.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, Response, StatusCode, Uri};
use hyper::body::Incoming;
use prost::Message;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use vouchsafe_wire::otlp::{
    self, ExportTraces, FAILED, KeyValue, Resource, ResourceSpans, Scope, ScopeSpans, Span, SpanKind, Status,
};

use super::{Batch, Collector, Decided, Root, Trace};
use crate::body::full;
use crate::clock;
use crate::http_client::{self, ExchangeError};
use crate::task::TaskGroup;
use crate::tls::{self, ServerTrust, TlsError};

/// Requests in one batch, and how long the first of them waits for others.
const BATCH: usize = 512;
const PERIOD: Duration = Duration::from_secs(1);
/// Longest that one batch may take; then it is lost.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same for what is left when the process stops.
const LAST_PATIENCE: Duration = Duration::from_secs(1);
/// How often it is told that spans are lost.
const TELL: Duration = Duration::from_secs(60);
/// Longest answer that is read, bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Where spans go: `http://host:port` or `https://host:port`, and a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    secure: bool,
    host: String,
    port: u16,
    path: String,
}

/// A text that names no endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an endpoint: {why}")]
pub struct EndpointError {
    why: &'static str,
}

impl Endpoint {
    /// Reads one that OTLP's own path stands behind. What could be a secret has no place in it, since arguments can be
    /// seen by others.
    ///
    /// # Errors
    /// [`EndpointError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let base = Self::parse_whole(text)?;
        let path = format!("{}{}", base.path.trim_end_matches('/'), otlp::TRACES_PATH);
        Ok(Self { path, ..base })
    }

    /// Reads one that is whole, as the variable for traces alone has it.
    ///
    /// # Errors
    /// [`EndpointError`] says what is wrong.
    pub fn parse_whole(text: &str) -> Result<Self, EndpointError> {
        let wrong = |why| EndpointError { why };
        let uri: Uri = text.parse().map_err(|_| wrong("write it as http://HOST:PORT or https://HOST:PORT"))?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) | None => return Err(wrong("it begins with http:// or https://")),
        };
        let authority = uri.authority().ok_or(wrong("the host is missing"))?;
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(wrong("it has no user, password or query"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Self { secure, host, port, path: uri.path().to_owned() })
    }

    /// Whether what goes there can be seen by nobody on the way.
    #[must_use]
    pub fn is_confidential(&self) -> bool {
        self.secure || self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// One whose path stands below this one's.
    #[must_use]
    pub fn below(&self, name: &str) -> Self {
        Self { path: format!("{}/{name}", self.path.trim_end_matches('/')), ..self.clone() }
    }

    /// Posts a body there, on a connection of its own: `roots_pem` vouch for a server that is asked over TLS, or the public
    /// authorities do. There is no limit of time.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn post(
        &self,
        content_type: &str,
        headers: &HeaderMap,
        body: Bytes,
        roots_pem: Option<&str>,
        tasks: &TaskGroup,
    ) -> Result<Response<Incoming>, SendError> {
        let mut request = http::Request::post(&self.path)
            .header(HOST, self.authority())
            .header(CONTENT_TYPE, content_type)
            .body(full(body))?;
        request.headers_mut().extend(headers.clone());
        let reached = (self.host.as_str(), self.port);
        let tcp = TcpStream::connect(reached).await.map_err(ExchangeError::Connect)?;
        if !self.secure {
            return Ok(http_client::send(tcp, request, tasks).await?);
        }
        let trust = match roots_pem {
            Some(pem) => ServerTrust::Roots(tls::roots(pem, "root of the server")?),
            None => ServerTrust::Public,
        };
        let config = tls::client(trust, None, &[b"http/1.1"])?;
        let name = ServerName::try_from(self.host.clone()).map_err(|_| SendError::Name)?;
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
        Ok(http_client::send(tls.map_err(ExchangeError::Connect)?, request, tasks).await?)
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl Collector {
    async fn take(&self, body: Bytes, tasks: &TaskGroup) -> Result<(), Failure> {
        let Self { endpoint, headers, roots_pem, attributes: _ } = self;
        let sent = endpoint.post(otlp::CONTENT_TYPE, headers, body, roots_pem.as_deref(), tasks);
        let response = sent.await?;
        let status = response.status();
        http_client::collect(response.into_body(), MAX_ANSWER).await.map_err(SendError::from)?;
        if status.is_success() { Ok(()) } else { Err(Failure::Status(status)) }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

/// Something could not be sent to an endpoint.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The request is none.
    #[error("the request can't be made")]
    Request(#[from] http::Error),
    /// It can't be reached, or broke off.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// Its roots can't be read.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Its host can't stand in a certificate.
    #[error("its name is none of TLS")]
    Name,
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("it did not answer in time")]
    TimedOut,
}

/// Sends batches on.
pub(super) struct Exporter {
    collector: Collector,
    service: (&'static str, &'static str),
    lost: Arc<AtomicU64>,
    told: Option<Instant>,
    tasks: TaskGroup,
}

impl Exporter {
    pub(super) fn new(
        collector: Collector,
        service: (&'static str, &'static str),
        lost: Arc<AtomicU64>,
        tasks: TaskGroup,
    ) -> Self {
        Self { collector, service, lost, told: None, tasks }
    }

    /// Until the group ends: then what waits is sent once more, if it is taken at once.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Trace>) {
        let mut batch = Batch::with_capacity(BATCH);
        loop {
            tokio::select! {
                count = requests.recv_many(&mut batch, BATCH) => if count == 0 { return },
                () = self.tasks.draining() => break,
            }
            let full = async {
                while batch.len() < BATCH {
                    let room = BATCH - batch.len();
                    if requests.recv_many(&mut batch, room).await == 0 {
                        return;
                    }
                }
            };
            tokio::select! {
                _ = tokio::time::timeout(PERIOD, full) => {}
                () = self.tasks.draining() => break,
            }
            self.send(&mut batch, PATIENCE).await;
        }
        while let Ok(request) = requests.try_recv() {
            batch.push(request);
        }
        self.send(&mut batch, LAST_PATIENCE).await;
    }

    async fn send(&mut self, batch: &mut Batch, patience: Duration) {
        if batch.is_empty() {
            return;
        }
        let count = u64::try_from(batch.len()).unwrap_or_default();
        let body = encoded(batch, self.service, &self.collector.attributes);
        batch.clear();
        let endpoint = &self.collector.endpoint;
        let taken = tokio::time::timeout(patience, self.collector.take(body, &self.tasks)).await;
        if let Err(error) = taken.unwrap_or(Err(Failure::TimedOut)) {
            self.lost.fetch_add(count, Ordering::Relaxed);
            tracing::debug!(%endpoint, error = &error as &dyn std::error::Error, "spans are not taken");
        }
        if self.told.is_none_or(|told| told.elapsed() > TELL) {
            let lost = self.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                tracing::warn!(%endpoint, lost, "spans of requests were lost; nothing else is harmed");
                self.told = Some(Instant::now());
            }
        }
    }
}

/// A batch as it is sent.
pub(super) fn encoded(batch: &Batch, (name, version): (&str, &str), more: &[(String, String)]) -> Bytes {
    let own = [("service.name", name), ("service.version", version)];
    let given = |key: &str| more.iter().any(|(name, _)| name == key);
    let own = own.into_iter().filter(|(key, _)| !given(key)).map(|(key, value)| KeyValue::text(key, value));
    let attributes = own.chain(more.iter().map(|(key, value)| KeyValue::text(key, value))).collect();
    let scope = Scope { name: "vouchsafe".to_owned(), version: version.to_owned() };
    let spans = batch.iter().flat_map(spans).collect();
    let resource_spans = vec![ResourceSpans {
        resource: Some(Resource { attributes }),
        scope_spans: vec![ScopeSpans { scope: Some(scope), spans }],
    }];
    ExportTraces { resource_spans }.encode_to_vec().into()
}

/// The span of a request or question, and those of its stages.
fn spans(trace: &Trace) -> Vec<Span> {
    let trace_id = Bytes::copy_from_slice(&trace.trace);
    let id = || Bytes::copy_from_slice(&clock::random::<8>());
    let own = id();
    let (name, failed, mut attributes) = match trace.root {
        Root::Request { method, protocol, status } => {
            let attributes = vec![
                KeyValue::text("http.request.method", method),
                KeyValue::text("network.protocol.name", protocol),
                KeyValue::number("http.response.status_code", status.into()),
            ];
            // A denial is no failure of ours.
            ("request", status >= 500, attributes)
        }
        Root::Question { kind, failed } => ("question", failed, vec![KeyValue::text("vouchsafe.question", kind)]),
    };
    if let Some(Decided { decision, outcome, reason, resource, flow }) = &trace.decided {
        attributes.extend([
            KeyValue::text("vouchsafe.decision", decision),
            KeyValue::text("vouchsafe.outcome", *outcome),
            KeyValue::text("vouchsafe.reason", *reason),
        ]);
        attributes.extend(resource.iter().map(|name| KeyValue::text("vouchsafe.resource", name)));
        attributes.extend(flow.iter().map(|id| KeyValue::text("vouchsafe.flow", id)));
    }
    let mut all = vec![Span {
        trace_id: trace_id.clone(),
        span_id: own.clone(),
        parent_span_id: Bytes::new(),
        name: name.to_owned(),
        kind: SpanKind::Server.into(),
        start_time_unix_nano: nanoseconds(trace.began),
        end_time_unix_nano: nanoseconds(trace.ended),
        attributes,
        status: failed.then_some(Status { code: FAILED }),
    }];
    all.extend(trace.stages.iter().map(|stage| Span {
        trace_id: trace_id.clone(),
        span_id: id(),
        parent_span_id: own.clone(),
        name: stage.name.to_owned(),
        kind: if stage.name == "forward" { SpanKind::Client } else { SpanKind::Internal }.into(),
        start_time_unix_nano: nanoseconds(stage.began),
        end_time_unix_nano: nanoseconds(stage.ended),
        attributes: Vec::new(),
        status: None,
    }));
    all
}

fn nanoseconds(time: SystemTime) -> u64 {
    clock::unix_micros(time).saturating_mul(1_000)
}
