//! News of a change on a line that lets no question through: the gateway was told what became of it, and does what it was
//! told, no more and no less.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use vouchsafe_wire::api::{AuditQuery, LockKind, NewLock};

use crate::faults::relay::Relay;
use crate::http::Company;
use crate::roles::{self, Gate};
use crate::world::{PATIENCE, TestDevice, World};

/// Far longer than the test: nothing here ends for the lease's sake.
const LEASE: &str = "60";
const POLICY: &str = r#"
@id("marketing-app")
permit (principal in Group::"marketing", action, resource == Http::"marketing");
@id("kept")
permit (principal in Group::"marketing", action, resource == Tcp::"kept");
@id("ending")
permit (principal in Group::"extra", action, resource == Tcp::"ending");
"#;

pub type Tunnel = TlsStream<TcpStream>;

pub async fn opened(gate: &Gate, device: &TestDevice, resource: &str) -> Tunnel {
    let begun = Instant::now();
    loop {
        match gate.door().tunnel(device, resource).await {
            Ok(stream) => return stream,
            Err(why) => assert!(begun.elapsed() < PATIENCE, "no tunnel to {resource}: {why}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whether a byte goes there and back.
pub async fn carries(stream: &mut Tunnel) -> bool {
    let exchange = async { stream.write_all(b"x").await.is_ok() && stream.read_u8().await.is_ok() };
    tokio::time::timeout(PATIENCE, exchange).await.expect("carried or ended")
}

/// The end of a tunnel, within the promise of a moment.
pub async fn ends(stream: &mut Tunnel, since: Instant) {
    let ended = tokio::time::timeout(PATIENCE, stream.read_u8()).await.expect("cut in time");
    assert!(ended.is_err(), "nothing more comes");
    assert!(since.elapsed() < Duration::from_secs(1), "cut after {:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_news_on_a_line_that_takes_no_question_ends_what_it_revokes_and_nothing_else() {
    let channel = roles::free_port();
    let mut arguments = roles::arguments(roles::free_port(), channel);
    LEASE.clone_into(arguments.last_mut().expect("the lease"));
    let world = World::start_role(tempfile::tempdir().expect("temporary directory"), &arguments).await;
    let relay = Relay::to((Ipv4Addr::LOCALHOST, channel).into(), &world.tasks).await;
    let gate = Gate::join_by(&world, "one", Ipv4Addr::LOCALHOST, relay.address).await;
    let Company { world, marketing, finance: _finance, alice: _alice, laptop } = Company::start_on(world).await;
    let echo = roles::echo(&world).await;
    let tcp = |name: &str| json!({"name": name, "kind": "tcp", "upstream": echo.to_string(), "port": 7});
    let app = json!({"name": "marketing", "kind": "http", "upstream": format!("http://{}", marketing.address)});
    world.apply(&["marketing", "extra"], json!([app, tcp("kept"), tcp("ending")]), POLICY).await;
    let _: serde_json::Value = world.admin.put("/v1/groups/extra/members/alice").await.expect("in the group");
    let bob = world.person("bob", &["marketing"]).await;
    let tablet = world.device(&bob, "tablet").await;
    let mut ending = opened(&gate, &laptop, "ending").await;
    let mut kept = opened(&gate, &laptop, "kept").await;
    let (mut locked, mut more_locked) = (opened(&gate, &tablet, "kept").await, opened(&gate, &tablet, "kept").await);
    for stream in [&mut ending, &mut kept, &mut locked, &mut more_locked] {
        assert!(carries(stream).await);
    }

    // From here on the gateway hears everything, and nobody hears it.
    relay.change(|weather| weather.up = false);
    let began = Instant::now();
    world.admin.delete("/v1/groups/extra/members/alice").await.expect("out of the group");
    ends(&mut ending, began).await;
    let began = Instant::now();
    let lock = NewLock { kind: LockKind::User, name: "bob".into(), reason: String::new(), seconds: None };
    let _: serde_json::Value = world.admin.post("/v1/locks", &lock).await.expect("locked");
    ends(&mut locked, began).await;
    ends(&mut more_locked, began).await;
    // Longer than a gateway waits for facts that it has to ask for.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(carries(&mut kept).await, "her other right is what it was");

    // What became of each is on record once the line is mended.
    relay.heal();
    let begun = Instant::now();
    let mut reasons = Vec::new();
    while reasons.len() < 3 {
        assert!(begun.elapsed() < PATIENCE, "{reasons:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let query = AuditQuery { kind: Some("flow_end".into()), ..AuditQuery::default() };
        let ends = world.audit(query).await.into_iter().filter(|record| record.source == gate.id());
        let tunnels = ends.filter(|record| record.resource.as_deref() != Some("marketing"));
        reasons = tunnels.map(|record| (record.resource, record.reason)).collect();
    }
    reasons.sort();
    let ended = |resource: &str, reason: &str| (Some(resource.to_owned()), Some(reason.to_owned()));
    let gone = ended("kept", "session_ended");
    assert_eq!(reasons, [ended("ending", "no_permit"), gone.clone(), gone]);
    assert!(carries(&mut kept).await);
}
