use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use vouchsafe_model::id::{GatewayId, SessionId};
use vouchsafe_model::subject::Grade;
use vouchsafe_runtime::link::{Change, ControlLink, Credential, NoSubject, RecordBatch};
use vouchsafe_wire::audit::{Kind, Record};
use vouchsafe_wire::spool::push_frame;
use vouchsafe_wire::ticket::hex;

use crate::store::testing;
use crate::testing::Bench;

const COOKIE: [u8; 32] = [7; 32];

async fn signed_in() -> (Bench, Arc<dyn ControlLink>, SessionId) {
    let bench = Bench::open().await;
    bench.done("PUT", "/v1/groups/mkt", Value::Null).await;
    bench.done("POST", "/v1/users", json!({"name":"alice","groups":["mkt"]})).await;
    let device = testing::device(&bench.context().store, "alice-laptop", "alice").await;
    let session = testing::session(&bench.context().store, "alice", Some(device), &hex(&COOKIE)).await;
    let link = bench.controller.link();
    (bench, link, session)
}

#[tokio::test]
async fn a_cookie_and_a_token_stand_for_the_same_subject() {
    let (bench, link, session) = signed_in().await;
    let known = link.subject(Credential::AppCookie(COOKIE)).await.unwrap().unwrap();
    assert_eq!(known.audience.as_deref(), Some("wiki"));
    assert_eq!(known.facts.user.name.as_str(), "alice");
    assert_eq!(known.facts.grade(), Grade::Software);
    let by_token = link.subject(Credential::Session(session)).await.unwrap().unwrap();
    assert_eq!((by_token.audience, &by_token.facts), (None, &known.facts));
    let mut changes = link.news();
    bench.done("DELETE", "/v1/groups/mkt/members/alice", Value::Null).await;
    assert_eq!(changes.recv().await.unwrap().changed().unwrap().change, Change::User(known.facts.user.name.clone()));
    let later = link.subject(Credential::Session(session)).await.unwrap().unwrap();
    assert!(later.facts.user.groups.is_empty());
    assert!(later.facts.epoch > known.facts.epoch);
    let nobody = link.subject(Credential::AppCookie([8; 32])).await.unwrap();
    assert_eq!(nobody.err(), Some(NoSubject::Unknown));
}

#[tokio::test]
async fn what_ended_is_told_apart_from_what_never_was() {
    let (bench, link, session) = signed_in().await;
    let ask = async || {
        let cookie = link.subject(Credential::AppCookie(COOKIE)).await.unwrap().err();
        assert_eq!(cookie, link.subject(Credential::Session(session)).await.unwrap().err());
        cookie
    };
    assert_eq!(ask().await, None);
    let device = bench.done("GET", "/v1/devices/alice-laptop", Value::Null).await["id"].clone();
    let device = device.as_str().unwrap().parse().unwrap();
    assert!(link.device(device).await.unwrap().is_some());
    let mut changes = link.news();
    bench.done("DELETE", "/v1/devices/alice-laptop", Value::Null).await;
    assert_eq!(ask().await, Some(NoSubject::DeviceRemoved));
    assert_eq!(link.device(device).await.unwrap(), None);
    assert_eq!(changes.recv().await.unwrap().changed().unwrap().change, Change::Session(session));
    assert_eq!(changes.recv().await.unwrap().changed().unwrap().change, Change::Device(device));
}

#[tokio::test]
async fn disabling_deleting_signing_out_and_expiry_end_sessions() {
    for verb in ["disable", "delete", "sign-out", "expire", "end"] {
        let (bench, link, session) = signed_in().await;
        match verb {
            "disable" => drop(bench.done("PATCH", "/v1/users/alice", json!({"disabled":true})).await),
            "delete" => drop(bench.done("DELETE", "/v1/users/alice", Value::Null).await),
            "sign-out" => {
                assert_eq!(bench.done("POST", "/v1/users/alice/sign-out", Value::Null).await["sessions"], 1);
            }
            "end" => drop(bench.done("DELETE", &format!("/v1/sessions/{session}"), Value::Null).await),
            _ => testing::run(&bench.context().store, "UPDATE sessions SET expires = 1").await,
        }
        let cookie = link.subject(Credential::AppCookie(COOKIE)).await.unwrap().err();
        assert_eq!(cookie, Some(NoSubject::Ended), "{verb}");
        assert_eq!(link.subject(Credential::Session(session)).await.unwrap().err(), cookie, "{verb}");
    }
}

#[tokio::test]
async fn a_snapshot_follows_each_change_of_resources_and_grants() {
    let (bench, link, _) = signed_in().await;
    let mut snapshots = link.snapshots();
    let first = snapshots.borrow_and_update().clone();
    assert_eq!((first.policy_version, first.policy_files.len()), (1, 1));
    bench.done("PUT", "/v1/resources/wiki", json!({"name":"wiki","kind":"http","upstream":"http://10.0.0.1"})).await;
    bench.done("POST", "/v1/grants", json!({"user":"alice","resource":"wiki","seconds":60})).await;
    let wanted = snapshots.wait_for(|snapshot| snapshot.grants.len() == 1 && snapshot.resources.len() == 1);
    let sequence = tokio::time::timeout(Duration::from_secs(5), wanted).await.unwrap().unwrap().sequence;
    assert!(sequence > first.sequence);
}

fn batch(records: &[(u64, Vec<u8>)]) -> RecordBatch {
    let mut frames = Vec::new();
    records.iter().for_each(|(_, bytes)| push_frame(&mut frames, bytes));
    let first_seq = records.first().map_or(0, |(seq, _)| *seq);
    RecordBatch { first_seq, count: records.len() as u64, frames: frames.into() }
}

fn record(gateway: GatewayId, seq: u64) -> (u64, Vec<u8>) {
    of_kind(Kind::Decision, gateway, seq)
}

fn of_kind(kind: Kind, gateway: GatewayId, seq: u64) -> (u64, Vec<u8>) {
    let mut record = Record::new(kind, 1_790_000_000_000_000 + seq);
    record.source = gateway.to_string();
    record.seq = seq;
    record.user = Some("alice".into());
    record.outcome = Some("deny".into());
    (seq, record.to_canonical().unwrap())
}

#[tokio::test]
async fn i7_what_is_delivered_twice_is_kept_once() {
    let (bench, link, _) = signed_in().await;
    let gateway = GatewayId::from_random([5; 16]);
    let first: Vec<_> = (1..=3).map(|seq| record(gateway, seq)).collect();
    assert_eq!(link.deliver(gateway, batch(&first)).await.unwrap(), 3);
    assert_eq!(link.deliver(gateway, batch(&first)).await.unwrap(), 3);
    assert_eq!(link.deliver(gateway, batch(&[record(gateway, 3), record(gateway, 4)])).await.unwrap(), 4);
    assert_eq!(link.deliver(gateway, RecordBatch::default()).await.unwrap(), 4);
    let page = bench.done("GET", "/v1/audit?kind=decision&user=alice&outcome=deny", Value::Null).await;
    let numbers: Vec<_> = page["records"].as_array().unwrap().iter().map(|one| one["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [4, 3, 2, 1]);
}

#[tokio::test]
async fn i7_a_batch_with_anything_wrong_is_refused_as_a_whole() {
    let (bench, link, _) = signed_in().await;
    let gateway = GatewayId::from_random([5; 16]);
    let other = GatewayId::from_random([6; 16]);
    link.deliver(gateway, batch(&[record(gateway, 1)])).await.unwrap();
    let mut altered = record(gateway, 1);
    altered.1 = String::from_utf8(altered.1).unwrap().replace("deny", "allow").into_bytes();
    let spaced = (2, String::from_utf8(record(gateway, 2).1).unwrap().replacen(',', ", ", 1).into_bytes());
    for (records, part) in [
        (vec![record(gateway, 2), (3, b"{}".to_vec())], "malformed"),
        (vec![spaced], "malformed"),
        (vec![record(gateway, 2), (3, record(gateway, 4).1)], "says that it is record 4"),
        (vec![record(gateway, 2), record(other, 3)], "says that it is record 3"),
        (vec![record(gateway, 3), record(gateway, 2)], "says that it is record 2"),
        (vec![record(gateway, 7), record(gateway, 9)], "says that it is record 9"),
        (vec![altered], "other content"),
        (vec![record(gateway, 2), of_kind(Kind::Admin, gateway, 3)], "record 3 is of a kind"),
        (vec![of_kind(Kind::SignIn, gateway, 2)], "record 2 is of a kind"),
        (vec![of_kind(Kind::AuditRead, gateway, 9)], "record 9 is of a kind"),
    ] {
        let error = link.deliver(gateway, batch(&records)).await.unwrap_err();
        assert!(error.why.contains(part), "{error}");
    }
    let mut torn = batch(&[record(gateway, 2)]);
    torn.frames.truncate(torn.frames.len() - 1);
    assert!(link.deliver(gateway, torn).await.unwrap_err().why.contains("malformed"));
    let page = bench.done("GET", "/v1/audit?kind=lifecycle&outcome=failed", Value::Null).await;
    assert_eq!(page["records"], json!([]), "a gap is told only before what is taken");
    let page = bench.done("GET", "/v1/audit?kind=decision", Value::Null).await;
    assert_eq!(page["records"].as_array().unwrap().len(), 1);
    // What gateways do make is taken.
    let kinds = [(2, Kind::FlowEnd), (3, Kind::Lifecycle), (4, Kind::Decision)];
    let made: Vec<_> = kinds.into_iter().map(|(seq, kind)| of_kind(kind, other, seq - 1)).collect();
    assert_eq!(link.deliver(other, batch(&made)).await.unwrap(), 3);
    // A gap can't be refused for ever, but it is told.
    assert_eq!(link.deliver(gateway, batch(&[record(gateway, 5)])).await.unwrap(), 5);
    let page = bench.done("GET", "/v1/audit?kind=lifecycle&outcome=failed", Value::Null).await;
    assert_eq!(page["records"][0]["detail"], "records 2 to 4 never arrived");
}
