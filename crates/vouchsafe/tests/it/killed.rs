//! `kill -9` of the controller while gateways serve and rights end: no revocation is lost, each record is kept once, and
//! nobody notices whose rights don't change: neither others, nor the one whose other rights do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;
use vouchsafe_demo::admin::{Admin, AdminError};
use vouchsafe_wire::api::{AuditQuery, GrantDoc, User};
use vouchsafe_wire::audit::Record;

use crate::crash;
use crate::http::Company;
use crate::roles::{self, Gate};
use crate::world::{TestDevice, World, patiently};

/// Rights of each kind that end meanwhile, and how often the controller is killed.
const RIGHTS: usize = 15;
const KILLS: usize = 3;
/// Longer than the controller takes to come back, so that nobody may notice, and nothing ends for the lease's sake.
const LEASE: Duration = Duration::from_secs(60);
const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)];

const KEPT: &str = r#"
@id("marketing-app")
permit (principal in Group::"marketing", action, resource == Http::"marketing");
@id("kept")
permit (principal in Group::"marketing", action, resource == Tcp::"kept");
"#;

/// What ends a right, and the action on its record.
#[derive(Debug, Clone)]
struct Right {
    resource: String,
    path: String,
    action: &'static str,
    target: String,
    detail: String,
}

/// How the end of a right went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The administrator was told that it is done.
    Acknowledged,
    /// Nobody answered: it may be done, or not.
    Unanswered,
}

/// A company whose person has a right of her own to each of many tunnels: half by grants, half by groups.
async fn company(world: World) -> (Company, Vec<Right>) {
    let company = Company::start_on(world).await;
    let echo = roles::echo(&company.world).await;
    let tcp = |name: &str| json!({"name": name, "kind": "tcp", "upstream": echo.to_string(), "port": 7});
    let marketing =
        json!({"name": "marketing", "kind": "http", "upstream": format!("http://{}", company.marketing.address)});
    let mut resources = vec![marketing, tcp("kept")];
    let mut groups = vec!["marketing".to_owned()];
    let mut policy = KEPT.to_owned();
    for number in 0..RIGHTS {
        resources.extend([tcp(&format!("granted-{number}")), tcp(&format!("grouped-{number}"))]);
        let group = format!("group-{number}");
        policy.push_str(&format!(
            "@id(\"{group}\")\npermit (principal in Group::\"{group}\", action, resource == Tcp::\"grouped-{number}\");\n"
        ));
        groups.push(group);
    }
    let names: Vec<&str> = groups.iter().map(String::as_str).collect();
    company.world.apply(&names, json!(resources), &policy).await;
    let mut rights = Vec::new();
    for number in 0..RIGHTS {
        let resource = format!("granted-{number}");
        let GrantDoc { id, .. } = company.world.grant("alice", &resource).await;
        let (path, target) = (format!("/v1/grants/{id}"), format!("grant/{id}"));
        rights.push(Right { resource, path, action: "grant.remove", target, detail: String::new() });
        let (resource, group) = (format!("grouped-{number}"), format!("group-{number}"));
        let path = format!("/v1/groups/{group}/members/alice");
        let _: serde_json::Value = company.world.admin.put(&path).await.expect("in the group");
        let (target, detail) = (format!("group/{group}"), "user alice".to_owned());
        rights.push(Right { resource, path, action: "group.remove-member", target, detail });
    }
    (company, rights)
}

/// A tunnel to a resource by the gateway of that number.
type Name = (String, usize);

/// A tunnel that carries a byte there and back again and again; says when that stopped.
fn keep_open(tunnels: &mut JoinSet<(Name, Instant)>, name: Name, mut stream: TlsStream<TcpStream>) {
    tunnels.spawn(async move {
        let mut byte = [0];
        loop {
            if stream.write_all(b"x").await.is_err() || stream.read_exact(&mut byte).await.is_err() {
                return (name, Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

/// Asks over and over, until told to stop; every request must be answered.
fn ask_on(
    asking: &mut JoinSet<()>,
    host: String,
    token: String,
    mut stream: TlsStream<TcpStream>,
    from: u32,
    all: &Asked,
) {
    let all = all.clone();
    asking.spawn(async move {
        for number in from.. {
            if all.stop.load(Ordering::Relaxed) {
                return;
            }
            let request = format!(
                "GET http://{host}/n/{number} HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Bearer {token}\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await.expect("the data plane goes on");
            assert!(crash::answered(&mut stream).await, "request {number} is served without the controller");
            all.numbers.lock().insert(number);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[derive(Clone, Default)]
struct Asked {
    stop: Arc<AtomicBool>,
    numbers: Arc<Mutex<BTreeSet<u32>>>,
}

/// Ends one right after the other; `done` counts those that were acknowledged.
async fn end_rights(admin: Admin, rights: Vec<Right>, done: Arc<AtomicUsize>) -> Vec<(Right, Ended)> {
    let mut ended = Vec::new();
    for right in rights {
        let how = match admin.delete(&right.path).await {
            Ok(()) => Ended::Acknowledged,
            Err(AdminError::Refused { status, said, .. }) => panic!("refused with {status}: {said}"),
            Err(_) => Ended::Unanswered,
        };
        done.fetch_add(usize::from(how == Ended::Acknowledged), Ordering::SeqCst);
        ended.push((right, how));
    }
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_i7_a_controller_that_is_killed_under_load_loses_no_revocation_and_no_record_and_others_notice_nothing() {
    let (port, channel) = (roles::free_port(), roles::free_port());
    let mut arguments = roles::arguments(port, channel);
    *arguments.last_mut().expect("the lease") = LEASE.as_secs().to_string();
    let world = World::start_role(tempfile::tempdir().expect("temporary directory"), &arguments).await;
    let gates = [Gate::join(&world, "one", ADDRESSES[0]).await, Gate::join(&world, "two", ADDRESSES[1]).await];
    let (company, rights) = company(world).await;
    let Company { mut world, marketing: _marketing, finance: _finance, alice: _alice, laptop } = company;
    // Bob, whose rights stay as they are.
    let bob = world.person("bob", &["marketing"]).await;
    let tablet = world.device(&bob, "tablet").await;
    let (mut tunnels, mut kept) = (JoinSet::new(), JoinSet::new());
    for (number, gate) in gates.iter().enumerate() {
        for Right { resource, .. } in &rights {
            keep_open(&mut tunnels, (resource.clone(), number), opened(gate, &laptop, resource).await);
        }
        keep_open(&mut kept, ("kept".to_owned(), number), opened(gate, &tablet, "kept").await);
    }
    let (asked, mut asking) = (Asked::default(), JoinSet::new());
    for client in 0..4 {
        let stream = crash::connect_to(&world, &tablet, (ADDRESSES[client % 2], port).into()).await;
        let host = format!("{}:{port}", world.host("marketing"));
        let from = u32::try_from(client).expect("small") * 1_000_000;
        ask_on(&mut asking, host, tablet.token.clone(), stream, from, &asked);
    }

    let (mut gone, mut ended_at) = (BTreeSet::new(), BTreeMap::new());
    let mut unanswered = 0;
    for (round, part) in rights.chunks(rights.len() / KILLS).enumerate() {
        let (mut ending, done) = (JoinSet::new(), Arc::<AtomicUsize>::default());
        ending.spawn(end_rights(world.admin.clone(), part.to_vec(), Arc::clone(&done)));
        // In the middle of a change, and never at the same point of it.
        while done.load(Ordering::SeqCst) < 2 + round {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(3) * u32::try_from(round).expect("small")).await;
        let dir = world.kill().await;
        let ended = ending.join_next().await.expect("one").expect("it ends");
        world = World::start_role(dir, &arguments).await;
        roles::both_attached(&world).await;
        let attached = Instant::now();
        unanswered += ended.iter().filter(|(_, how)| *how == Ended::Unanswered).count();
        // Both gateways end what has no right any more, by a second after they are back at the latest.
        let now_gone = settled(&world, &ended).await;
        let expected: BTreeSet<Name> =
            now_gone.iter().flat_map(|name| (0..gates.len()).map(|gate| (name.clone(), gate))).collect();
        while !expected.iter().all(|name| ended_at.contains_key(name)) {
            let next = tokio::time::timeout(Duration::from_secs(5), tunnels.join_next()).await;
            let next = next.unwrap_or_else(|_| panic!("a revocation is lost: {expected:?} {ended_at:?}"));
            let (name, at) = next.expect("open").expect("no panic");
            ended_at.insert(name, at);
        }
        for name in &expected {
            let late = ended_at[name].saturating_duration_since(attached);
            assert!(late < Duration::from_secs(1), "{name:?} was cut {late:?} after");
        }
        gone.extend(now_gone);
    }
    assert!(unanswered >= KILLS, "each kill came in between: {unanswered}");
    assert!(kept.try_join_next().is_none(), "whose rights stay as they are notices nothing");

    // Every request was answered all the time, and has one record.
    asked.stop.store(true, Ordering::Relaxed);
    while let Some(client) = asking.join_next().await {
        client.expect("every request was answered");
    }
    let numbers = std::mem::take(&mut *asked.numbers.lock());
    assert!(numbers.len() > 100, "there was load: {}", numbers.len());
    let mut found = BTreeSet::new();
    for () in patiently() {
        found = crash::recorded(&world).await;
        if numbers.is_subset(&found) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let missing: Vec<_> = numbers.difference(&found).collect();
    assert!(missing.is_empty(), "{} of {} requests have no record", missing.len(), numbers.len());
    // So has the end of each tunnel.
    while let Some(ended) = tunnels.try_join_next() {
        let (name, at) = ended.expect("no panic");
        ended_at.insert(name, at);
    }
    let mut ends = Vec::new();
    for () in patiently() {
        let query = AuditQuery { kind: Some("flow_end".into()), ..AuditQuery::default() };
        ends = world.audit(query).await;
        ends.retain(|record| record.resource.as_deref() != Some("marketing"));
        if ends.len() >= ended_at.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut recorded = BTreeMap::new();
    for end in &ends {
        let of = (end.resource.clone().expect("a resource"), gates.iter().position(|gate| gate.id() == end.source));
        assert!(recorded.insert(of, end.reason.clone()).is_none(), "two records of one end: {end:?}");
    }
    for (resource, gate) in ended_at.keys() {
        let reason = recorded.get(&(resource.clone(), Some(*gate))).unwrap_or_else(|| panic!("no record: {resource}"));
        // What is left of her rights is served on, whatever the controller was killed amid.
        assert!(gone.contains(resource), "{resource} ended: {reason:?}");
    }
    assert_eq!(recorded.len(), ended_at.len(), "{recorded:?}");
}

/// Opens a tunnel once the policy or grant that allows it has arrived.
async fn opened(gate: &Gate, device: &TestDevice, resource: &str) -> TlsStream<TcpStream> {
    for () in patiently() {
        match gate.door().tunnel(device, resource).await {
            Ok(stream) => return stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("no tunnel to {resource}");
}

/// Which of these rights are gone: those of which the administrator was told so, and of the others those of which there is a
/// record, once.
async fn settled(world: &World, ended: &[(Right, Ended)]) -> Vec<String> {
    let grants: Vec<GrantDoc> = world.admin.get("/v1/grants").await.expect("grants");
    let alice: User = world.admin.get("/v1/users/alice").await.expect("alice");
    let records = world.audit(AuditQuery { kind: Some("admin".into()), ..AuditQuery::default() }).await;
    let mut gone = Vec::new();
    for (right, how) in ended {
        let stands = grants.iter().any(|grant| grant.resource == right.resource)
            || alice.groups.iter().any(|group| right.target == format!("group/{group}"));
        let count = records.iter().filter(|record| is_of(record, right)).count();
        assert_eq!(count, usize::from(!stands), "a change and its record are one: {right:?} {how:?}");
        assert!(!(stands && *how == Ended::Acknowledged), "an end that was acknowledged is lost: {right:?}");
        if !stands {
            gone.push(right.resource.clone());
        }
    }
    gone
}

fn is_of(record: &Record, right: &Right) -> bool {
    let same = |have: &Option<String>, wanted: &str| wanted.is_empty() || have.as_deref() == Some(wanted);
    same(&record.action, right.action) && same(&record.target, &right.target) && same(&record.detail, &right.detail)
}
