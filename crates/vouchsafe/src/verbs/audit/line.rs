//! One record on one line.

use vouchsafe_wire::audit::{Kind, Record};

use crate::output::{Output, Style, clean};
use crate::text;

/// The record for people: when, what came of it, who on what, and what it was about.
pub(super) fn of(out: &Output, record: &Record) -> String {
    let time = out.paint(Style::Dim, &text::moment(record.time_us / 1_000_000));
    let (mark, style) = match record.outcome.as_deref() {
        // A denial, though it went on: told apart in words and not by colour alone.
        Some("deny") if record.passed.is_some() => ("! passed", Style::Warn),
        Some("allow") => ("✓ allow", Style::Good),
        Some("ok") => ("✓ ok", Style::Good),
        Some("deny") => ("✗ deny", Style::Bad),
        Some("failed") => ("✗ failed", Style::Bad),
        Some(_) | None => ("·", Style::Dim),
    };
    let mark = out.paint(style, &format!("{mark:8}"));
    let who = format!("{:22}", clean(&who(record)));
    let what = match record.kind {
        Kind::Decision => decision(out, record),
        Kind::FlowEnd => flow_end(out, record),
        Kind::SignIn
        | Kind::SessionEnd
        | Kind::Passkey
        | Kind::Device
        | Kind::Admin
        | Kind::AuditRead
        | Kind::Lifecycle => event(out, record),
    };
    format!("{time}  {mark}  {who}  {what}").trim_end().to_owned()
}

/// `alice@7k3m9q`: the device by the start of its id, which is enough to tell two apart.
fn who(record: &Record) -> String {
    let device = record.device.as_deref().map(|id| id.strip_prefix("dev_").unwrap_or(id).chars().take(6).collect());
    match (&record.user, device) {
        (Some(user), Some(device)) => format!("{user}@{device}", device = String::as_str(&device)),
        (Some(user), None) => user.clone(),
        (None, Some(device)) => format!("?@{device}", device = String::as_str(&device)),
        (None, None) => record.ip.clone().unwrap_or_else(|| "–".to_owned()),
    }
}

fn text_of(value: Option<&String>) -> &str {
    value.map_or("", String::as_str)
}

fn decision(out: &Output, record: &Record) -> String {
    let resource = record.resource.as_ref().or(record.host.as_ref());
    let mut parts = vec![out.paint(Style::Bold, &clean(text_of(resource)))];
    let asked = match (&record.method, &record.path, record.port) {
        (Some(method), Some(path), _) => format!("{method} {path}"),
        (None, None, Some(port)) => format!("{} :{port}", text_of(record.action.as_ref())),
        (method, path, _) => {
            let action = method.as_ref().or(record.action.as_ref());
            format!("{} {}", text_of(action), text_of(path.as_ref()))
        }
    };
    parts.push(clean(asked.trim()).into_owned());
    let mut why = clean(text_of(record.reason.as_ref())).into_owned();
    if !record.policies.is_empty() {
        why = format!("{why} [{}]", clean(&record.policies.join(" "))).trim_start().to_owned();
    }
    if let Some(mode) = &record.passed {
        why = format!("would be denied: {why} (mode {})", clean(mode));
    }
    parts.push(out.paint(Style::Dim, &why));
    join(parts)
}

fn flow_end(out: &Output, record: &Record) -> String {
    let mut traffic = Vec::new();
    traffic.extend(record.status.map(|status| status.to_string()));
    traffic.extend(record.bytes_in.map(|count| format!("↑{}", text::bytes(count))));
    traffic.extend(record.bytes_out.map(|count| format!("↓{}", text::bytes(count))));
    traffic.extend(record.duration_us.map(lasted));
    join(vec![
        out.paint(Style::Bold, &clean(text_of(record.resource.as_ref()))),
        "ended".to_owned(),
        traffic.join(" "),
        out.paint(Style::Dim, &clean(text_of(record.detail.as_ref().or(record.reason.as_ref())))),
    ])
}

fn event(out: &Output, record: &Record) -> String {
    let target = record.target.as_ref().or(record.resource.as_ref());
    let action = record.action.as_deref().unwrap_or_default();
    join(vec![
        out.paint(Style::Accent, &record.kind.as_str().replace('_', " ")),
        clean(action).into_owned(),
        out.paint(Style::Bold, &clean(text_of(target))),
        out.paint(Style::Dim, &clean(text_of(record.detail.as_ref().or(record.reason.as_ref())))),
    ])
}

fn join(parts: Vec<String>) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
}

fn lasted(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..10_000_000 => format!("{} ms", micros / 1_000),
        _ => text::about(micros / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{Colours, Form};

    fn record(kind: Kind) -> Record {
        let mut record = Record::new(kind, 1_790_000_000_000_000);
        record.user = Some("alice".into());
        record.device = Some("dev_7k3m9q00000000000000000004".into());
        record
    }

    fn line(record: &Record) -> String {
        of(&Output::new(Form::People, Colours::Never), record)
    }

    #[test]
    fn a_denial_says_who_what_and_why() {
        let mut record = record(Kind::Decision);
        record.outcome = Some("deny".into());
        record.resource = Some("finance".into());
        record.method = Some("GET".into());
        record.path = Some("/ledger".into());
        record.reason = Some("no_permit".into());
        assert_eq!(
            line(&record),
            "2026-09-21 14:13:20Z  ✗ deny    alice@7k3m9q            finance  GET /ledger  no_permit"
        );
    }

    #[test]
    fn what_passed_by_a_mode_is_no_allow_and_no_plain_denial() {
        let mut record = record(Kind::Decision);
        record.outcome = Some("deny".into());
        record.passed = Some("observe".into());
        record.resource = Some("wiki".into());
        record.method = Some("GET".into());
        record.path = Some("/".into());
        record.reason = Some("no_permit".into());
        let expected = "! passed  alice@7k3m9q            wiki  GET /  would be denied: no_permit (mode observe)";
        assert!(line(&record).ends_with(expected), "{}", line(&record));
    }

    #[test]
    fn a_tunnel_and_its_end() {
        let mut open = record(Kind::Decision);
        open.outcome = Some("allow".into());
        open.resource = Some("marketing-db".into());
        open.action = Some("net:connect".into());
        open.port = Some(5432);
        open.policies = vec!["marketing".into()];
        assert!(line(&open).ends_with("marketing-db  net:connect :5432  [marketing]"), "{}", line(&open));
        let mut end = record(Kind::FlowEnd);
        end.resource = Some("marketing-db".into());
        end.bytes_in = Some(120);
        end.bytes_out = Some(45_000);
        end.duration_us = Some(90_000_000);
        assert!(line(&end).ends_with("marketing-db  ended  ↑120 B ↓45 kB 1 min 30 s"), "{}", line(&end));
    }

    #[test]
    fn a_path_cannot_reach_the_terminal() {
        let mut record = record(Kind::Decision);
        record.path = Some("/\u{1b}]0;pwned\u{7}".into());
        record.method = Some("GET".into());
        assert!(!line(&record).contains('\u{1b}'));
    }
}
