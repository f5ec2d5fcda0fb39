//! Which class of events a record belongs to, and which of its activities it is.

use crate::audit::{Kind, Record};

/// The classes that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Class {
    AccountChange,
    Authentication,
    EntityManagement,
    NetworkActivity,
    HttpActivity,
    ApplicationLifecycle,
    ApiActivity,
}

impl Class {
    pub(super) const fn uid(self) -> u64 {
        match self {
            Class::AccountChange => 3_001,
            Class::Authentication => 3_002,
            Class::EntityManagement => 3_004,
            Class::NetworkActivity => 4_001,
            Class::HttpActivity => 4_002,
            Class::ApplicationLifecycle => 6_002,
            Class::ApiActivity => 6_003,
        }
    }

    pub(super) const fn category(self) -> u64 {
        self.uid() / 1_000
    }
}

/// An activity that the schema has no number for.
const OTHER: u64 = 99;

/// What a record is.
pub(super) struct Classified {
    pub(super) class: Class,
    pub(super) activity: u64,
    /// Name of an activity that has no number.
    pub(super) name: Option<String>,
}

pub(super) fn classify(record: &Record) -> Classified {
    let action = record.action.as_deref().unwrap_or_default();
    let (class, activity) = match record.kind {
        Kind::Decision if record.method.is_some() && !action.starts_with("net:") => {
            (Class::HttpActivity, of_method(record.method.as_deref().unwrap_or_default()))
        }
        Kind::Decision => (Class::NetworkActivity, if is_denied(record) { 5 } else { 1 }),
        Kind::FlowEnd => (Class::NetworkActivity, 2),
        Kind::SignIn => (Class::Authentication, 1),
        Kind::SessionEnd => (Class::Authentication, 2),
        Kind::Passkey => (
            Class::AccountChange,
            match action {
                "passkey.add" => 10,
                "passkey.remove" => 11,
                _ => OTHER,
            },
        ),
        Kind::Device => (Class::EntityManagement, of_change(action)),
        Kind::Admin => of_admin(record, action),
        Kind::AuditRead => (Class::ApiActivity, 2),
        Kind::Lifecycle => (
            Class::ApplicationLifecycle,
            match action {
                "controller.start" | "gateway.start" => 3,
                "controller.stop" | "gateway.stop" => 4,
                _ => OTHER,
            },
        ),
    };
    let name = match action {
        "" => record.method.as_deref().unwrap_or(record.kind.as_str()),
        action => action,
    };
    Classified { class, activity, name: (activity == OTHER).then(|| name.to_owned()) }
}

/// Whether a denial stood.
fn is_denied(record: &Record) -> bool {
    record.outcome.as_deref() == Some("deny") && record.passed.is_none()
}

fn of_method(method: &str) -> u64 {
    match method {
        "CONNECT" => 1,
        "DELETE" => 2,
        "GET" => 3,
        "HEAD" => 4,
        "OPTIONS" => 5,
        "POST" => 6,
        "PUT" => 7,
        "TRACE" => 8,
        "PATCH" => 9,
        _ => OTHER,
    }
}

/// What an administrator changed: an account, or anything else that is managed.
fn of_admin(record: &Record, action: &str) -> (Class, u64) {
    let of_user = record.target.as_deref().is_some_and(|target| target.starts_with("user/"));
    if !of_user {
        return (Class::EntityManagement, of_change(action));
    }
    let activity = match action {
        "user.add" => 1,
        "user.delete" => 6,
        "lock.add" | "lock.return" => 9,
        "lock.remove" | "lock.expire" => 12,
        _ => OTHER,
    };
    (Class::AccountChange, activity)
}

/// The activity of a change by its verb, which stands behind the last dot.
fn of_change(action: &str) -> u64 {
    match action {
        "lock.add" | "lock.return" => return 9,
        "lock.remove" | "lock.expire" => return 8,
        _ => {}
    }
    match action.rsplit_once('.').map_or(action, |(_, verb)| verb) {
        "add" | "propose" => 1,
        "put" | "change" | "publish" | "renew" | "rollback" | "add-member" | "remove-member" => 3,
        "remove" | "delete" | "expire" | "lapse" | "end" => 4,
        "enrol" | "join" => 6,
        _ => OTHER,
    }
}
