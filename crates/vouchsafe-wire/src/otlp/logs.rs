//! Audit records as log records: the body is the record itself or its event, and what is searched by stands beside it.

use prost::Message;
use serde_json::{Value as Json, json};

use super::{AnyValue, KeyValue, Resource, Scope, Value};
use crate::audit::Record;
use crate::ocsf;

/// Path behind an endpoint, for the form over HTTP.
pub const LOGS_PATH: &str = "/v1/logs";

/// `ExportLogsServiceRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct ExportLogs {
    /// Records of one resource each.
    #[prost(message, repeated, tag = "1")]
    pub resource_logs: Vec<ResourceLogs>,
}

/// Records of one process.
#[derive(Clone, PartialEq, Message)]
pub struct ResourceLogs {
    /// The process.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// Records by the part that made them.
    #[prost(message, repeated, tag = "2")]
    pub scope_logs: Vec<ScopeLogs>,
}

/// Records of one part.
#[derive(Clone, PartialEq, Message)]
pub struct ScopeLogs {
    /// The part.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    /// The records.
    #[prost(message, repeated, tag = "2")]
    pub log_records: Vec<LogRecord>,
}

/// One record.
#[derive(Clone, PartialEq, Message)]
pub struct LogRecord {
    /// When it happened, unix nanoseconds.
    #[prost(fixed64, tag = "1")]
    pub time_unix_nano: u64,
    /// `SeverityNumber`.
    #[prost(int32, tag = "2")]
    pub severity_number: i32,
    /// The same in a word.
    #[prost(string, tag = "3")]
    pub severity_text: String,
    /// The record.
    #[prost(message, optional, tag = "5")]
    pub body: Option<AnyValue>,
    /// What is searched by.
    #[prost(message, repeated, tag = "6")]
    pub attributes: Vec<KeyValue>,
    /// When it was seen, unix nanoseconds: the same.
    #[prost(fixed64, tag = "11")]
    pub observed_time_unix_nano: u64,
    /// Kind of the event.
    #[prost(string, tag = "12")]
    pub event_name: String,
}

/// `ExportLogsServiceResponse`: what the receiver says of a batch that it took.
#[derive(Clone, PartialEq, Message)]
pub struct LogsTaken {
    /// Set where it didn't take all of it.
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<PartialSuccess>,
}

/// What was not taken.
#[derive(Clone, PartialEq, Message)]
pub struct PartialSuccess {
    /// How many records it refused; they must not be sent again.
    #[prost(int64, tag = "1")]
    pub rejected_log_records: i64,
    /// Why.
    #[prost(string, tag = "2")]
    pub error_message: String,
}

/// A batch: each record with its position, and the text that is its body. `domain` says whose log it is, where
/// that is known.
#[must_use]
pub fn export_logs<'r>(domain: &str, records: impl IntoIterator<Item = (u64, &'r Record, String)>) -> ExportLogs {
    let version = env!("CARGO_PKG_VERSION");
    let mut attributes = vec![KeyValue::text("service.name", "vouchsafe"), KeyValue::text("service.version", version)];
    if !domain.is_empty() {
        attributes.push(KeyValue::text("service.namespace", domain));
    }
    let resource = Resource { attributes };
    let scope = Scope { name: "vouchsafe.audit".to_owned(), version: version.to_owned() };
    let log_records = records.into_iter().map(|(position, record, body)| log_record(position, record, body)).collect();
    ExportLogs {
        resource_logs: vec![ResourceLogs {
            resource: Some(resource),
            scope_logs: vec![ScopeLogs { scope: Some(scope), log_records }],
        }],
    }
}

fn log_record(position: u64, record: &Record, body: String) -> LogRecord {
    let severity = ocsf::severity(record);
    let nanoseconds = record.time_us.saturating_mul(1_000);
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let mut attributes = vec![
        KeyValue::text("log.record.uid", ocsf::uid(record)),
        KeyValue::number("vouchsafe.position", number(position)),
    ];
    // Names of OpenTelemetry's semantic conventions where there are such.
    let texts = [
        ("vouchsafe.action", &record.action),
        ("client.address", &record.ip),
        ("vouchsafe.decision", &record.id),
        ("vouchsafe.device", &record.device),
        ("vouchsafe.flow", &record.flow),
        ("server.address", &record.host),
        ("http.request.method", &record.method),
        ("vouchsafe.outcome", &record.outcome),
        ("vouchsafe.passed", &record.passed),
        ("url.path", &record.path),
        ("vouchsafe.reason", &record.reason),
        ("vouchsafe.resource", &record.resource),
        ("session.id", &record.session),
        ("vouchsafe.target", &record.target),
        ("user.name", &record.user),
    ];
    for (name, text) in texts {
        attributes.extend(text.as_ref().map(|text| KeyValue::text(name, text.as_str())));
    }
    attributes.extend(record.port.map(|port| KeyValue::number("server.port", port.into())));
    attributes.extend(record.status.map(|status| KeyValue::number("http.response.status_code", status.into())));
    LogRecord {
        time_unix_nano: nanoseconds,
        severity_number: severity.otlp(),
        severity_text: severity.text().to_owned(),
        body: Some(AnyValue { value: Some(Value::Text(body)) }),
        attributes,
        observed_time_unix_nano: nanoseconds,
        event_name: format!("vouchsafe.{}", record.kind.as_str()),
    }
}

impl ExportLogs {
    /// The same as OTLP has it in JSON, for files.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let resource = |of: &ResourceLogs| {
            let scope = |of: &ScopeLogs| {
                let scope = of.scope.as_ref().map(|scope| json!({ "name": scope.name, "version": scope.version }));
                json!({ "scope": scope, "logRecords": of.log_records.iter().map(LogRecord::to_json).collect::<Vec<_>>() })
            };
            let attributes = of.resource.iter().flat_map(|resource| &resource.attributes).map(attribute);
            json!({
                "resource": { "attributes": attributes.collect::<Vec<_>>() },
                "scopeLogs": of.scope_logs.iter().map(scope).collect::<Vec<_>>(),
            })
        };
        json!({ "resourceLogs": self.resource_logs.iter().map(resource).collect::<Vec<_>>() })
    }
}

impl LogRecord {
    fn to_json(&self) -> Json {
        // 64-bit numbers are texts in protobuf's JSON.
        json!({
            "timeUnixNano": self.time_unix_nano.to_string(),
            "observedTimeUnixNano": self.observed_time_unix_nano.to_string(),
            "severityNumber": self.severity_number,
            "severityText": self.severity_text,
            "eventName": self.event_name,
            "body": self.body.as_ref().map(value),
            "attributes": self.attributes.iter().map(attribute).collect::<Vec<_>>(),
        })
    }
}

fn attribute(pair: &KeyValue) -> Json {
    json!({ "key": pair.key, "value": pair.value.as_ref().map(value) })
}

fn value(of: &AnyValue) -> Json {
    match &of.value {
        Some(Value::Text(text)) => json!({ "stringValue": text }),
        Some(Value::Number(number)) => json!({ "intValue": number.to_string() }),
        None => json!({}),
    }
}
