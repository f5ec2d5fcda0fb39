use bytes::Bytes;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use vouchsafe_model::name::GatewayName;
use vouchsafe_wire::control::Frames;
use vouchsafe_wire::control::message::{Nobody, Outcome, SignedSnapshot};

use super::*;
use crate::store::certified::Issued;
use crate::store::gateways::NewGateway;
use crate::testing::Bench;

const LEASE: Duration = Duration::from_secs(15);
const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// A gateway attached to a controller whose snapshots the test sends.
struct Attached {
    bench: Bench,
    gateway: GatewayId,
    snapshots: watch::Sender<Option<Outgoing>>,
    pings: watch::Sender<Option<u64>>,
    messages: mpsc::Receiver<Bytes>,
    telling: JoinSet<Result<Infallible, Ended>>,
}

fn outgoing(sequence: u64) -> Option<Outgoing> {
    let payload = Bytes::from(sequence.to_string());
    let signed = SignedSnapshot { payload, signature: Bytes::new() };
    Some(Outgoing { sequence, message: frame(&Down { kind: Some(DownKind::Snapshot(signed)) }) })
}

async fn newest(bench: &Bench) -> u64 {
    feed::newest(&mut bench.context().store.read().await.unwrap()).await.unwrap()
}

/// A gateway that has joined.
async fn joined(bench: &Bench) -> GatewayId {
    let gateway = GatewayId::from_random([3; 16]);
    let name = GatewayName::parse("one").unwrap();
    let issued = Issued { key_sha256: "", sha256: "", not_after: 1 };
    let new = NewGateway { id: gateway, name: &name, assertion_point: &[4; 65], issued };
    let mut write = bench.context().store.write().await.unwrap();
    gateways::insert(write.connection(), &new, 1).await.unwrap();
    write.commit().await.unwrap();
    gateway
}

impl Attached {
    async fn new(last_sequence: u64, snapshot: u64, in_force: Option<Outgoing>) -> Self {
        let bench = Bench::open().await;
        let gateway = joined(&bench).await;
        Self::on(bench, gateway, last_sequence, snapshot, in_force).await
    }

    async fn on(bench: Bench, gateway: GatewayId, last: u64, snapshot: u64, in_force: Option<Outgoing>) -> Self {
        let hello = Hello { last_sequence: last, snapshot_sequence: snapshot, ..Hello::default() };
        let beginning = Beginning::of(bench.context(), gateway, IP, &hello).await.unwrap().expect("one of ours");
        let (snapshots, of_snapshots) = watch::channel(in_force);
        let (pings, to_answer) = watch::channel(None);
        let (out, messages) = mpsc::channel(64);
        let mut teller = Teller::new(bench.context(), gateway, &hello, beginning, of_snapshots, out);
        let mut telling = JoinSet::new();
        telling.spawn(async move { teller.tell(LEASE, to_answer).await });
        let mut attached = Self { bench, gateway, snapshots, pings, messages, telling };
        assert_eq!(attached.told().await, DownKind::Welcome(Welcome { version: VERSION, lease_ms: 15_000 }));
        attached
    }

    /// One that has all that there is.
    async fn new_at_end(bench: Bench, gateway: GatewayId) -> Self {
        let last = newest(&bench).await;
        Self::on(bench, gateway, last, last, outgoing(last)).await
    }

    /// The row of the next change that is told, and what became of it.
    async fn outcome(&mut self) -> (u64, Option<Outcome>) {
        loop {
            if let DownKind::Deltas(Deltas { mut changes, .. }) = self.told().await
                && let Some(change) = changes.pop()
            {
                return (change.row, change.outcome);
            }
        }
    }

    /// What is told next. Lists of gateways and checkpoints come at any point in between, and are heard apart.
    async fn told(&mut self) -> DownKind {
        loop {
            match self.told_at_all().await {
                DownKind::Roster(_) | DownKind::Checkpoint(_) => {}
                other => return other,
            }
        }
    }

    async fn told_at_all(&mut self) -> DownKind {
        let bytes = tokio::time::timeout(Duration::from_secs(10), self.messages.recv()).await.expect("in time");
        let mut frames = Frames::new(1 << 20);
        frames.push(&bytes.expect("a message"));
        frames.take::<Down>().unwrap().unwrap().kind.unwrap()
    }

    /// What is told until a pong; nothing of it is a pong.
    async fn until_pong(&mut self) -> (Vec<DownKind>, Pong) {
        let mut before = Vec::new();
        loop {
            match self.told().await {
                DownKind::Pong(pong) => return (before, pong),
                other => before.push(other),
            }
        }
    }
}

fn changes(told: &[DownKind]) -> usize {
    told.iter().map(|one| if let DownKind::Deltas(deltas) = one { deltas.changes.len() } else { 0 }).sum()
}

#[tokio::test]
async fn a_ping_is_answered_behind_every_change_that_was_committed_before_it() {
    let bench = Bench::open().await;
    let gateway = joined(&bench).await;
    bench.done("POST", "/v1/users", json!({"name": "alice"})).await;
    let last = newest(&bench).await;
    let mut attached = Attached::on(bench, gateway, last, last, outgoing(last)).await;
    attached.bench.done("PATCH", "/v1/users/alice", json!({"disabled": true})).await;
    let committed = newest(&attached.bench).await;
    attached.pings.send_replace(Some(7));
    let (before, pong) = attached.until_pong().await;
    assert_eq!(pong, Pong { nonce: 7, sequence: committed });
    assert!(changes(&before) > 0, "{before:?}");
}

#[tokio::test]
async fn i6_no_ping_is_answered_while_the_snapshot_that_a_change_made_is_not_out() {
    let mut attached = Attached::new(0, 0, None).await;
    assert!(matches!(attached.told().await, DownKind::Deltas(Deltas { everything: true, .. })));
    attached.bench.done("PUT", "/v1/resources/wiki", json!({"name": "wiki", "kind": "tcp", "upstream": "h:1"})).await;
    let row = newest(&attached.bench).await;
    attached.pings.send_replace(Some(1));
    // The row goes out; the answer would say that the gateway has what it tells of, so it has to wait. So do
    // answers to later pings.
    assert!(matches!(attached.told().await, DownKind::Deltas(deltas) if deltas.through == row));
    attached.pings.send_replace(Some(2));
    attached.snapshots.send_replace(outgoing(row - 1));
    assert!(matches!(attached.told().await, DownKind::Snapshot(_)), "an older one is not enough");
    let nothing = tokio::time::timeout(Duration::from_millis(300), attached.told()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    attached.snapshots.send_replace(outgoing(row));
    assert!(matches!(attached.told().await, DownKind::Snapshot(_)));
    let (_, pong) = attached.until_pong().await;
    assert_eq!(pong.sequence, row);
    // Also on a stream that begins behind that row.
    let Attached { bench, gateway, .. } = attached;
    let mut again = Attached::on(bench, gateway, row, row - 1, outgoing(row - 1)).await;
    again.pings.send_replace(Some(1));
    let nothing = tokio::time::timeout(Duration::from_millis(300), again.told()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    again.snapshots.send_replace(outgoing(row));
    assert!(matches!(again.told().await, DownKind::Snapshot(_)));
    assert_eq!(again.until_pong().await.1.sequence, row);
}

#[tokio::test]
async fn a_gateway_is_sent_the_snapshot_that_it_does_not_have() {
    // The same: nothing. An older one than it has, as after a restored backup, is its to refuse.
    for (has, in_force, sent) in [(5, 5, false), (0, 5, true), (4, 5, true), (6, 5, true)] {
        let mut attached = Attached::new(1, has, outgoing(in_force)).await;
        attached.pings.send_replace(Some(1));
        let mut told = Vec::new();
        while let Ok(Some(bytes)) = tokio::time::timeout(Duration::from_millis(200), attached.messages.recv()).await {
            let mut frames = Frames::new(1 << 20);
            frames.push(&bytes);
            told.push(frames.take::<Down>().unwrap().unwrap().kind.unwrap());
        }
        let got = told.iter().any(|one| matches!(one, DownKind::Snapshot(_)));
        assert_eq!(got, sent, "{has} {in_force} {told:?}");
    }
}

#[tokio::test]
async fn a_gateway_that_is_removed_is_told_nothing_more_and_nobody_when_it_comes_back() {
    let mut attached = Attached::new(0, 0, None).await;
    attached.bench.done("DELETE", "/v1/gateways/one", Value::Null).await;
    let ended = tokio::time::timeout(Duration::from_secs(10), attached.telling.join_next()).await.expect("in time");
    assert!(matches!(ended.unwrap().unwrap(), Err(Ended::Removed)));
    let beginning = Beginning::of(attached.bench.context(), attached.gateway, IP, &Hello::default()).await.unwrap();
    assert!(beginning.is_none());
}

#[tokio::test]
async fn a_gateway_is_told_the_list_of_gateways_and_says_where_it_is_reached() {
    let bench = Bench::open().await;
    let gateway = joined(&bench).await;
    // What other machines can't be told is left out; of too many the first are taken.
    let said = ["10.0.0.5:443", "127.0.0.1:443", "nonsense", "gw1.corp.example:443", "10.0.0.6:443"];
    let hello = Hello { addresses: said.map(str::to_owned).into(), ..Hello::default() };
    let before = bench.context().rosters.newest().borrow().clone();
    Beginning::of(bench.context(), gateway, IP, &hello).await.unwrap().expect("one of ours");
    let known = gateways::announced(&mut bench.context().store.read().await.unwrap()).await.unwrap();
    let addresses: Vec<String> = known[0].1.iter().map(ToString::to_string).collect();
    assert_eq!((known[0].0, addresses), (gateway, vec!["10.0.0.5:443".into(), "gw1.corp.example:443".into()]));
    let mut attached = Attached::on(bench, gateway, 0, 0, None).await;
    loop {
        // The first may be the one of before.
        if let DownKind::Roster(list) = attached.told_at_all().await
            && Some(&list) != before.as_ref()
        {
            break;
        }
    }
}

/// Removing by name what looks like an id would remove another gateway than the one that is meant.
#[tokio::test]
async fn a_gateway_is_removed_by_its_id_whatever_others_are_called() {
    let bench = Bench::open().await;
    let gateway = joined(&bench).await;
    let refused = bench.refused("POST", "/v1/gateways/invites", json!({"name": gateway.to_string()})).await;
    assert_eq!(refused, (422, "invalid".to_owned()));
    // One of an older version that has such a name.
    let other = GatewayId::from_random([9; 16]);
    let name = GatewayName::parse(&gateway.to_string()).unwrap();
    let issued = Issued { key_sha256: "", sha256: "", not_after: 1 };
    let new = NewGateway { id: other, name: &name, assertion_point: &[4; 65], issued };
    let mut write = bench.context().store.write().await.unwrap();
    gateways::insert(write.connection(), &new, 1).await.unwrap();
    write.commit().await.unwrap();
    bench.done("DELETE", &format!("/v1/gateways/{gateway}"), Value::Null).await;
    let left = bench.done("GET", "/v1/gateways", Value::Null).await;
    assert!(matches!(&left.as_array().unwrap()[..], [one] if one["id"] == other.to_string()), "{left}");
    bench.done("DELETE", &format!("/v1/gateways/{other}"), Value::Null).await;
}

/// A gateway that was told of a change has to ask nobody what became of it: there may be nobody any more.
#[tokio::test]
async fn i6_what_became_of_a_change_comes_with_it() {
    let bench = Bench::open().await;
    let gateway = joined(&bench).await;
    bench.done("POST", "/v1/users", json!({"name": "alice"})).await;
    bench.done("PUT", "/v1/groups/sales", Value::Null).await;
    let mut attached = Attached::new_at_end(bench, gateway).await;
    attached.bench.done("PUT", "/v1/groups/sales/members/alice", Value::Null).await;
    let (row, outcome) = attached.outcome().await;
    assert_eq!(row, newest(&attached.bench).await);
    let Some(Outcome::User(user)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(user.groups, ["sales"]);
    attached.bench.done("PATCH", "/v1/users/alice", json!({"disabled": true})).await;
    assert_eq!(attached.outcome().await.1, Some(Outcome::Gone(Nobody::Ended.into())));
}
