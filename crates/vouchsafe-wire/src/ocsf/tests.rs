use proptest::prelude::*;

use super::*;
use crate::audit::tests::any_record;

fn record(kind: Kind, action: &str, target: &str) -> Record {
    let mut record = Record::new(kind, 1_790_000_000_123_456);
    record.source = "controller".to_owned();
    record.seq = 7;
    record.action = Some(action.to_owned());
    record.target = (!target.is_empty()).then(|| target.to_owned());
    record.outcome = Some("ok".to_owned());
    record
}

#[test]
fn a_denied_request_names_who_asked_for_what_and_why_not() {
    let mut record = record(Kind::Decision, "http:read", "");
    record.outcome = Some("deny".to_owned());
    record.user = Some("alice".to_owned());
    record.method = Some("GET".to_owned());
    record.host = Some("finance.example.org".to_owned());
    record.path = Some("/books".to_owned());
    record.ip = Some("192.0.2.7".to_owned());
    record.policies = vec!["no-night".to_owned()];
    record.reason = Some("forbidden".to_owned());
    let event = event(41, &record);
    assert_eq!(
        (&event["class_uid"], &event["activity_id"], &event["type_uid"]),
        (&4_002.into(), &3.into(), &400_203.into())
    );
    assert_eq!((&event["action_id"], &event["disposition_id"], &event["status_id"]), (&2.into(), &2.into(), &2.into()));
    assert_eq!(
        (&event["time"], &event["metadata"]["original_time"]),
        (&1_790_000_000_123_u64.into(), &"1790000000123456".into())
    );
    assert_eq!((&event["metadata"]["uid"], &event["metadata"]["sequence"]), (&"controller/7".into(), &41.into()));
    assert_eq!(event["actor"]["user"]["name"], "alice");
    assert_eq!(event["http_request"]["url"]["path"], "/books");
    assert_eq!(event["authorizations"][0]["policy"]["name"], "no-night");
    assert_eq!(event["status_code"], "forbidden");

    record.passed = Some("observe".to_owned());
    let passed = super::event(41, &record);
    assert_eq!((&passed["action_id"], &passed["severity_id"]), (&3.into(), &3.into()), "observed, and never allowed");
}

#[test]
fn every_kind_has_a_class_of_its_own_activity() {
    let cases = [
        (record(Kind::FlowEnd, "net:connect", ""), 400_102),
        (record(Kind::Decision, "net:connect", ""), 400_101),
        (record(Kind::SignIn, "sign-in", ""), 300_201),
        (record(Kind::SessionEnd, "session.end", "session/ses_1"), 300_202),
        (record(Kind::Passkey, "passkey.add", "passkey/1"), 300_110),
        (record(Kind::Device, "device.enrol", "device/dev_1"), 300_406),
        (record(Kind::Admin, "user.add", "user/alice"), 300_101),
        (record(Kind::Admin, "lock.add", "user/alice"), 300_109),
        (record(Kind::Admin, "lock.add", "device/dev_1"), 300_409),
        (record(Kind::Admin, "resource.put", "resource/finance"), 300_403),
        (record(Kind::Admin, "never.heard-of", "thing/x"), 300_499),
        (record(Kind::AuditRead, "audit.query", "audit"), 600_302),
        (record(Kind::Lifecycle, "controller.start", ""), 600_203),
        (record(Kind::Lifecycle, "audit.gap", "gateway/gtw_1"), 600_299),
    ];
    for (record, number) in cases {
        assert_eq!(event(0, &record)["type_uid"], number, "{:?}", record.action);
    }
}

#[test]
fn bytes_are_turned_to_the_direction_that_the_schema_counts_in() {
    let mut end = record(Kind::FlowEnd, "net:connect", "");
    (end.bytes_in, end.bytes_out, end.duration_us) = (Some(10), Some(32), Some(5_000_000));
    let event = event(0, &end);
    assert_eq!(event["traffic"], json!({"bytes_in": 32, "bytes_out": 10, "bytes": 42}));
    assert_eq!((&event["duration"], &event["start_time"]), (&5_000.into(), &1_789_999_995_123_u64.into()));
}

proptest! {
    #[test]
    fn any_record_at_all_becomes_an_event(record in any_record(), position in 0..1_u64 << 53) {
        let event = event(position, &record);
        prop_assert_eq!(&event["metadata"]["uid"], &Value::from(uid(&record)));
        prop_assert_eq!(event["type_uid"].as_u64().unwrap() / 100, event["class_uid"].as_u64().unwrap());
    }
}
