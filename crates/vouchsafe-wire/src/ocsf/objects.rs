//! The objects of an event: who, with what, from where, to where.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::class::Class;
use super::{PRODUCT, product};
use crate::audit::{Kind, Record};

/// Methods that the schema knows.
const METHODS: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/// Sets a member.
pub(super) fn put(map: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    map.insert(name.to_owned(), value.into());
}

/// An object of those of the members that say something; nothing when none does.
fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Option<Value> {
    let map: Map<String, Value> =
        members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    (!map.is_empty()).then_some(Value::Object(map))
}

fn text(text: &Option<String>) -> Option<Value> {
    text.as_deref().filter(|text| !text.is_empty()).map(Value::from)
}

/// What of a record is somebody or something.
pub(super) struct Parts {
    user: Option<Value>,
    session: Option<Value>,
    device: Option<Value>,
    source: Option<Value>,
    destination: Option<Value>,
}

impl Parts {
    pub(super) fn of(record: &Record) -> Self {
        let groups: Vec<Value> =
            record.groups.iter().filter(|name| !name.is_empty()).map(|name| json!({ "name": name })).collect();
        let user = text(&record.user).map(|name| user(&name, groups));
        let session = text(&record.session).map(|uid| json!({ "uid": uid }));
        let owner = text(&record.device_owner).map(|name| json!({ "name": name }));
        let named = text(&record.device).is_some() || text(&record.device_name).is_some();
        let device = named.then(|| {
            object([
                ("uid", text(&record.device)),
                ("name", text(&record.device_name)),
                ("owner", owner),
                // What kind of machine it is, nobody knows.
                ("type_id", Some(0.into())),
            ])
        });
        // What a record has for an address may be cut, or what somebody claimed.
        let ip = record.ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok());
        let source = ip.map(|ip| json!({ "ip": ip.to_string() }));
        let destination = object([
            ("hostname", text(&record.host)),
            ("svc_name", text(&record.resource)),
            ("port", record.port.map(Value::from)),
        ])
        // A port alone is nowhere.
        .filter(|_| text(&record.host).is_some() || text(&record.resource).is_some());
        Self { user, session, device: device.flatten(), source, destination }
    }

    /// Sets what the class has of these, and what it must have.
    pub(super) fn fill(self, event: &mut Map<String, Value>, class: Class, record: &Record) {
        let Self { user, session, device, source, destination } = self;
        let actor = object([("user", user.clone()), ("session", session.clone())]);
        event.extend(device.map(|device| ("device".to_owned(), device)));
        let decided: Vec<Value> = record
            .policies
            .iter()
            .filter(|name| !name.is_empty())
            .map(|name| {
                let version = record.policy_version.map(|version| version.to_string());
                let policy = object([("name", Some(name.clone().into())), ("version", version.map(Value::from))]);
                json!({ "decision": record.outcome.as_deref().unwrap_or("unknown"), "policy": policy })
            })
            .collect();
        if !decided.is_empty() {
            put(event, "authorizations", decided);
        }
        if let Some(more) = record.repeated {
            put(event, "count", more.saturating_add(1).min(i64::MAX.unsigned_abs()));
        }
        if let Some(duration) = record.duration_us {
            put(event, "duration", duration / 1_000);
            put(event, "start_time", record.time_us.saturating_sub(duration) / 1_000);
            put(event, "end_time", record.time_us / 1_000);
        }
        let mut set = |name: &str, value: Option<Value>| event.extend(value.map(|value| (name.to_owned(), value)));
        match class {
            Class::AccountChange => {
                set("user", Some(subject(record).or(user).unwrap_or_else(nobody)));
                set("actor", actor);
                set("src_endpoint", source);
            }
            Class::Authentication => {
                set("user", Some(user.or_else(|| subject(record)).unwrap_or_else(nobody)));
                set("actor", actor);
                set("session", session);
                set("src_endpoint", source);
                set("dst_endpoint", destination);
                set("service", Some(json!({ "name": PRODUCT })));
                if record.auth_methods.iter().any(|method| method == "passkey") {
                    set("auth_factors", Some(json!([{ "factor_type_id": 10, "factor_type": "WebAuthn" }])));
                }
            }
            Class::EntityManagement => {
                set("entity", Some(entity(record)));
                set("actor", actor);
                set("src_endpoint", source);
            }
            Class::NetworkActivity => {
                set("actor", actor);
                // One of the two must be there; the end of a flow to what doesn't exist has none.
                let nowhere = source.is_none() && destination.is_none();
                set("dst_endpoint", destination.or_else(|| nowhere.then(|| json!({ "name": "unknown" }))));
                set("src_endpoint", source);
                set("traffic", traffic(record));
                set("tls", tls(record));
            }
            Class::HttpActivity => {
                set("actor", actor);
                set("src_endpoint", source);
                set("dst_endpoint", destination);
                set("http_request", Some(request(record)));
                set("http_response", record.status.map(|code| json!({ "code": code })));
                set("traffic", traffic(record));
                set("tls", tls(record));
            }
            Class::ApplicationLifecycle => {
                set("app", Some(product()));
                set("actor", actor);
            }
            Class::ApiActivity => {
                set("actor", Some(actor.unwrap_or_else(|| json!({ "app_name": PRODUCT }))));
                let operation = record.action.as_deref().unwrap_or(record.kind.as_str());
                set("api", Some(json!({ "operation": operation, "service": { "name": PRODUCT } })));
                set("src_endpoint", Some(source.unwrap_or_else(|| json!({ "name": "localhost" }))));
                set("resources", text(&record.target).map(|name| json!([{ "name": name }])));
            }
        }
    }
}

fn user(name: &Value, groups: Vec<Value>) -> Value {
    // Who acts by itself, and who owns the machine, are no users that can sign in.
    let kind = match name.as_str() {
        Some("controller") => 3,
        Some(name) if name.starts_with("local:") => 2,
        Some(_) | None => 1,
    };
    let mut user = json!({ "name": name, "type_id": kind });
    if let Some(user) = user.as_object_mut()
        && !groups.is_empty()
    {
        put(user, "groups", groups);
    }
    user
}

/// The user that a record is about: she whom it names as its target.
fn subject(record: &Record) -> Option<Value> {
    let name = record.target.as_deref()?.strip_prefix("user/").filter(|name| !name.is_empty())?;
    Some(json!({ "name": name, "type_id": 1 }))
}

fn nobody() -> Value {
    json!({ "name": "anonymous", "type_id": 0 })
}

/// What was changed.
fn entity(record: &Record) -> Value {
    let device = text(&record.device).filter(|_| record.kind == Kind::Device).map(|uid| ("device", uid));
    let target = record.target.as_deref().filter(|target| !target.is_empty());
    let (kind, name) = match target.and_then(|target| target.split_once('/')) {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() => (kind, Value::from(name)),
        Some(_) | None => match (device, target) {
            (Some(device), _) => device,
            (None, Some(target)) => ("other", target.into()),
            (None, None) => ("other", record.kind.as_str().into()),
        },
    };
    let number = match kind {
        "device" => 1,
        "user" => 2,
        "group" => 3,
        "policy" => 5,
        _ => 99,
    };
    json!({ "type": kind, "type_id": number, "name": name })
}

fn request(record: &Record) -> Value {
    let method = record.method.as_deref().filter(|method| METHODS.contains(method));
    let path = text(&record.path);
    let url = path.is_some().then(|| {
        object([
            ("hostname", text(&record.host)),
            ("path", path),
            ("port", record.port.map(Value::from)),
            ("scheme", record.tls.is_some().then(|| "https".into())),
        ])
    });
    let request = [
        ("http_method", method.map(Value::from)),
        ("url", url.flatten()),
        ("version", text(&record.protocol)),
        ("uid", text(&record.id)),
    ];
    object(request).unwrap_or_else(|| json!({}))
}

/// Bytes, as the schema counts them: in is what comes back from the upstream.
fn traffic(record: &Record) -> Option<Value> {
    let (inward, outward) = (record.bytes_out, record.bytes_in);
    let sum = inward.into_iter().chain(outward).reduce(u64::saturating_add);
    let number = |number: Option<u64>| number.map(|number| number.min(i64::MAX.unsigned_abs()).into());
    object([("bytes_in", number(inward)), ("bytes_out", number(outward)), ("bytes", number(sum))])
}

fn tls(record: &Record) -> Option<Value> {
    let version = record.tls.as_deref()?.split(' ').next().filter(|version| !version.is_empty())?;
    Some(json!({ "version": version }))
}
