//! Log records of OpenTelemetry, by OTLP over HTTP: a batch is taken when its answer says so.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, Request, StatusCode};
use prost::Message;
use vouchsafe_runtime::body::full;
use vouchsafe_runtime::http_client::{self, ExchangeError};
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_wire::otlp::{self, ExportLogs, LogsTaken, export_logs};

use super::run::Batch;
use super::target::Target;
use crate::context::Context;
use crate::outward::chain;

/// Longest answer that is read, bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// A collector of logs.
pub(super) struct Collector<'t> {
    target: &'t Target,
    headers: HeaderMap,
    domain: String,
    tasks: TaskGroup,
}

impl<'t> Collector<'t> {
    pub(super) fn new(target: &'t Target, context: &Context) -> Result<Self, String> {
        let domain = context.settings.domain.to_string();
        Ok(Self { target, headers: target.headers()?, domain, tasks: context.tasks.clone() })
    }

    /// Sends a batch; gives how many of its records were refused for good.
    pub(super) async fn send(&self, batch: &Batch) -> Result<u64, String> {
        let records = batch.records.iter().map(|(position, record, body)| (*position, record, body.clone()));
        self.export(&export_logs(&self.domain, records)).await
    }

    /// A batch of nothing.
    pub(super) async fn try_out(&self) -> Result<(), String> {
        self.export(&export_logs(&self.domain, [])).await.map(drop)
    }

    async fn export(&self, logs: &ExportLogs) -> Result<u64, String> {
        let Self { target, headers, domain: _, tasks } = self;
        let mut request = Request::post(target.path())
            .header(HOST, target.authority())
            .header(CONTENT_TYPE, otlp::CONTENT_TYPE)
            .header(USER_AGENT, concat!("vouchsafe/", env!("CARGO_PKG_VERSION")))
            .body(full(Bytes::from(logs.encode_to_vec())))
            .map_err(|_| "the request can't be made".to_owned())?;
        request.headers_mut().extend(headers.clone());
        let lost = |error: ExchangeError| chain(&error);
        let tcp = target.tcp().await?;
        let response = if target.is_secure() {
            http_client::send(target.tls(tcp).await?, request, tasks).await.map_err(lost)?
        } else {
            http_client::send(tcp, request, tasks).await.map_err(lost)?
        };
        let status = response.status();
        let answer = http_client::collect(response.into_body(), MAX_ANSWER).await.map_err(lost)?;
        if status != StatusCode::OK {
            return Err(format!("it answered {}", status.as_u16()));
        }
        let taken = LogsTaken::decode(answer).map_err(|_| "its answer is none of OTLP".to_owned())?;
        let Some(partly) = taken.partial_success.filter(|partly| partly.rejected_log_records > 0) else { return Ok(0) };
        let why: String = partly.error_message.chars().take(200).collect();
        tracing::error!(rejected = partly.rejected_log_records, why, "a stream refused audit records for good");
        Ok(partly.rejected_log_records.unsigned_abs())
    }
}
