//! Audit records as events of the Open Cybersecurity Schema Framework (OCSF 1.7.0), which SIEMs read.
//! What becomes what is told in `docs/guide/export.md`.
//!
//! Every record has an event, also one whose action is not known here. What of a record has no place in the schema
//! stands under `unmapped` by its own name, so that nothing is lost; `metadata.uid` names the record for good, and
//! `metadata.sequence` is its position in the log.

mod class;
mod objects;

use serde_json::{Map, Value, json};

use self::class::{Classified, classify};
use self::objects::{Parts, put};
use crate::audit::{Kind, Record};

/// Version of the schema.
pub const VERSION: &str = "1.7.0";
/// Name of the product in each event.
pub const PRODUCT: &str = "vouchsafe";

/// The event of the record at that position of the log.
#[must_use]
pub fn event(position: u64, record: &Record) -> Value {
    let Classified { class, activity, name } = classify(record);
    let parts = Parts::of(record);
    let mut event = Map::new();
    put(&mut event, "class_uid", class.uid());
    put(&mut event, "category_uid", class.category());
    put(&mut event, "activity_id", activity);
    put(&mut event, "type_uid", class.uid() * 100 + activity);
    event.extend(name.map(|name| ("activity_name".to_owned(), Value::from(name))));
    put(&mut event, "time", record.time_us / 1_000);
    put(&mut event, "severity_id", severity(record).ocsf());
    put(&mut event, "message", message(record));
    event.insert("metadata".to_owned(), metadata(position, record));
    outcome(&mut event, record);
    parts.fill(&mut event, class, record);
    event.insert("unmapped".to_owned(), unmapped(record));
    Value::Object(event)
}

/// How grave a record is, in the words of every form that records are sent in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// What is meant to happen.
    Informational,
    /// A change, or a denial: worth a look in great numbers.
    Notice,
    /// What failed, and what was let through though policies deny it.
    Warning,
    /// Records are missing.
    Error,
}

impl Severity {
    /// `severity_id` of OCSF.
    const fn ocsf(self) -> u64 {
        match self {
            Severity::Informational => 1,
            Severity::Notice => 2,
            Severity::Warning => 3,
            Severity::Error => 4,
        }
    }

    /// Numerical severity of syslog (RFC 5424 §6.2.1).
    #[must_use]
    pub const fn syslog(self) -> u8 {
        match self {
            Severity::Informational => 6,
            Severity::Notice => 5,
            Severity::Warning => 4,
            Severity::Error => 3,
        }
    }

    /// `SeverityNumber` of OpenTelemetry's logs.
    #[must_use]
    pub const fn otlp(self) -> i32 {
        match self {
            Severity::Informational => 9,
            Severity::Notice => 10,
            Severity::Warning => 13,
            Severity::Error => 17,
        }
    }

    /// `SeverityText` of OpenTelemetry's logs.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Severity::Informational => "INFO",
            Severity::Notice => "NOTICE",
            Severity::Warning => "WARNING",
            Severity::Error => "ERROR",
        }
    }
}

/// How grave it is.
#[must_use]
pub fn severity(record: &Record) -> Severity {
    let missing = matches!(record.action.as_deref(), Some("audit.gap" | "audit.interrupted"));
    match record.outcome.as_deref() {
        Some("failed") if missing => Severity::Error,
        Some("failed") => Severity::Warning,
        _ if record.passed.is_some() => Severity::Warning,
        Some("deny") => Severity::Notice,
        _ if record.kind == Kind::Admin => Severity::Notice,
        _ => Severity::Informational,
    }
}

/// What happened, in one line.
#[must_use]
pub fn message(record: &Record) -> String {
    let about = record.resource.as_ref().or(record.target.as_ref());
    let told = [record.user.as_ref(), record.action.as_ref(), about, record.outcome.as_ref()];
    let words: Vec<&str> =
        [record.kind.as_str()].into_iter().chain(told.into_iter().flatten().map(String::as_str)).collect();
    let mut line = words.join(" ");
    if let Some(why) = record.words.as_ref().or(record.detail.as_ref()) {
        line.push_str(": ");
        line.push_str(why);
    }
    line
}

/// Name of a record that no other has, and that it keeps for good: who made it, and its number there.
#[must_use]
pub fn uid(record: &Record) -> String {
    format!("{}/{}", record.source, record.seq)
}

fn metadata(position: u64, record: &Record) -> Value {
    let mut metadata = json!({
        "version": VERSION,
        "product": product(),
        "profiles": ["host", "security_control"],
        "uid": uid(record),
        "sequence": position,
        "log_name": "audit",
        "log_provider": record.source,
        "log_version": record.v.to_string(),
        "event_code": record.kind.as_str(),
        "original_time": record.time_us.to_string(),
    });
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.extend(record.flow.as_ref().map(|flow| ("correlation_uid".to_owned(), flow.clone().into())));
        metadata.extend(record.id.as_ref().map(|id| ("original_event_uid".to_owned(), id.clone().into())));
    }
    metadata
}

/// The product that made a record.
fn product() -> Value {
    json!({ "name": PRODUCT, "vendor_name": PRODUCT, "version": env!("CARGO_PKG_VERSION") })
}

/// How it went, by what reason, and what became of the request.
fn outcome(event: &mut Map<String, Value>, record: &Record) {
    let (status, went) = match record.outcome.as_deref() {
        Some("allow" | "ok") => (1, "Success"),
        Some("deny" | "failed") => (2, "Failure"),
        // The end of a flow has no outcome of its own.
        _ => (0, "Unknown"),
    };
    put(event, "status_id", status);
    put(event, "status", went);
    event.extend(record.reason.as_ref().map(|reason| ("status_code".to_owned(), reason.clone().into())));
    let detail = record.detail.as_ref().or(record.words.as_ref());
    event.extend(detail.map(|detail| ("status_detail".to_owned(), detail.clone().into())));
    // What was denied and went on by a mode was only observed, never allowed.
    let done = match (record.outcome.as_deref(), record.passed.is_some()) {
        (_, true) => Some((3, 17)),
        (Some("allow"), false) => Some((1, 1)),
        (Some("deny"), false) => Some((2, 2)),
        _ => None,
    };
    if let Some((action, disposition)) = done {
        put(event, "action_id", action);
        put(event, "disposition_id", disposition);
    }
}

/// What the schema has no place for, or only a narrower one.
fn unmapped(record: &Record) -> Value {
    let Record {
        action,
        advice,
        auth_methods,
        auth_time_us,
        bytes_in: _,
        bytes_out: _,
        connector,
        detail: _,
        device: _,
        device_name: _,
        device_owner: _,
        device_tags,
        duration_us,
        epoch,
        flow: _,
        grade,
        groups: _,
        host: _,
        id: _,
        ip,
        kind: _,
        method,
        outcome,
        passed,
        path: _,
        policies: _,
        policy_version,
        port: _,
        protocol,
        proxy,
        reason: _,
        repeated,
        resource,
        seq: _,
        session: _,
        source: _,
        status,
        target,
        time_us: _,
        tls,
        user: _,
        v: _,
        via,
        words,
    } = record;
    let mut unmapped = Map::new();
    let texts = [
        ("action", action),
        ("connector", connector),
        ("grade", grade),
        ("ip", ip),
        ("method", method),
        ("outcome", outcome),
        ("passed", passed),
        ("protocol", protocol),
        ("proxy", proxy),
        ("resource", resource),
        ("target", target),
        ("tls", tls),
        ("via", via),
        ("words", words),
    ];
    for (name, text) in texts {
        unmapped.extend(text.as_ref().map(|text| (name.to_owned(), text.clone().into())));
    }
    for (name, list) in [("advice", advice), ("auth_methods", auth_methods), ("device_tags", device_tags)] {
        if !list.is_empty() {
            put(&mut unmapped, name, list.clone());
        }
    }
    let numbers = [
        ("auth_time_us", *auth_time_us),
        ("duration_us", *duration_us),
        ("epoch", *epoch),
        ("policy_version", *policy_version),
        ("repeated", *repeated),
        ("status", status.map(u64::from)),
    ];
    for (name, number) in numbers {
        unmapped.extend(number.map(|number| (name.to_owned(), number.into())));
    }
    Value::Object(unmapped)
}

#[cfg(test)]
mod tests;
