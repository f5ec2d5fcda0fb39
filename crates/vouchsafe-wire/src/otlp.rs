//! Spans and log records in OpenTelemetry's protocol (OTLP 1, `opentelemetry/proto/collector/{trace,logs}/v1`), as much of
//! it as we send.

mod logs;

use prost::{Message, Oneof};

pub use self::logs::{ExportLogs, LOGS_PATH, LogRecord, LogsTaken, ResourceLogs, ScopeLogs, export_logs};

/// Path behind an endpoint, for the form over HTTP.
pub const TRACES_PATH: &str = "/v1/traces";
/// What a body is.
pub const CONTENT_TYPE: &str = "application/x-protobuf";

/// `ExportTraceServiceRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct ExportTraces {
    /// Spans of one resource each.
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

/// Spans of one process.
#[derive(Clone, PartialEq, Message)]
pub struct ResourceSpans {
    /// The process.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// Spans by the part that made them.
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
}

/// What made the spans.
#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    /// `service.name` and the like.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

/// Spans of one part.
#[derive(Clone, PartialEq, Message)]
pub struct ScopeSpans {
    /// The part.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    /// The spans.
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<Span>,
}

/// `InstrumentationScope`.
#[derive(Clone, PartialEq, Message)]
pub struct Scope {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its version.
    #[prost(string, tag = "2")]
    pub version: String,
}

/// One span.
#[derive(Clone, PartialEq, Message)]
pub struct Span {
    /// 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub trace_id: bytes::Bytes,
    /// 8 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub span_id: bytes::Bytes,
    /// 8 bytes, or none for the outermost.
    #[prost(bytes = "bytes", tag = "4")]
    pub parent_span_id: bytes::Bytes,
    /// What it is.
    #[prost(string, tag = "5")]
    pub name: String,
    /// Whose side.
    #[prost(enumeration = "SpanKind", tag = "6")]
    pub kind: i32,
    /// Begin, unix nanoseconds.
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    /// End, unix nanoseconds.
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    /// What is known of it.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    /// Whether it failed.
    #[prost(message, optional, tag = "15")]
    pub status: Option<Status>,
}

/// Whose side a span shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum SpanKind {
    /// Not said.
    Unspecified = 0,
    /// Within the process.
    Internal = 1,
    /// Answers a request.
    Server = 2,
    /// Makes one.
    Client = 3,
}

/// How a span ended.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// 0 not said, 1 well, 2 failed.
    #[prost(int32, tag = "3")]
    pub code: i32,
}

/// [`Status::code`] of a failure.
pub const FAILED: i32 = 2;

/// An attribute.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// A value.
#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    /// Which.
    #[prost(oneof = "Value", tags = "1, 3")]
    pub value: Option<Value>,
}

/// The values that we send.
#[derive(Clone, PartialEq, Oneof)]
pub enum Value {
    /// A text.
    #[prost(string, tag = "1")]
    Text(String),
    /// A number.
    #[prost(int64, tag = "3")]
    Number(i64),
}

impl KeyValue {
    /// A text.
    #[must_use]
    pub fn text(key: &str, value: impl Into<String>) -> Self {
        let value = AnyValue { value: Some(Value::Text(value.into())) };
        Self { key: key.to_owned(), value: Some(value) }
    }

    /// A number.
    #[must_use]
    pub fn number(key: &str, value: i64) -> Self {
        Self { key: key.to_owned(), value: Some(AnyValue { value: Some(Value::Number(value)) }) }
    }
}
