//! Datagrams through a connector.

use h2::ext::Protocol;
use vouchsafe_model::resource::Endpoint;
use vouchsafe_runtime::datagrams::{Payloads, write_payload};
use vouchsafe_wire::connector::{CONNECT_UDP, udp_path};

use super::*;
use crate::http3::Echo;
use crate::udp::{Connect as Datagrams, Upgraded, dnsmasq_by};

fn udp(name: &str, to: SocketAddr) -> Value {
    json!({"name": name, "kind": "udp", "upstream": to.to_string(), "port": 53, "via": "frankfurt", "groups": ["far"]})
}

/// A flow of datagrams to a resource, once the gateway opens one; or the answer of the last try.
async fn flow(world: &World, device: &TestDevice, resource: &str) -> Result<Upgraded, String> {
    let fields = format!("Connection: Upgrade\r\nProxy-Authorization: Bearer {}\r\n", device.token);
    let (answer, flow) = Upgraded::ask(world, device, resource, 53, &fields).await;
    if answer.starts_with("http/1.1 101 ") { Ok(flow) } else { Err(answer) }
}

async fn echoed(flow: &mut Upgraded, payload: &[u8]) {
    flow.send(payload).await;
    let heard = tokio::time::timeout(PATIENCE, flow.next()).await.expect("in time").expect("open");
    assert_eq!(heard, payload);
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_datagrams_pass_a_connector_and_end_with_the_right_to_them() {
    let network = Site::new();
    let company = company(&network).await;
    let (world, laptop) = (&company.world, &company.laptop);
    let dns = SocketAddr::from((network.inside, 53));
    let mut name_server = dnsmasq_by(network.command("dnsmasq"), dns);
    let (echo, vault) = (Echo::on(network.udp().await, &world.tasks), Echo::on(network.udp().await, &world.tasks));
    let resources = json!([udp("office-dns", dns), udp("echo", echo.address), udp("vault", vault.address)]);
    world.apply(&["marketing"], resources, FAR).await;
    // The port of the vault is open by TCP only.
    let allow = [format!("udp://{dns}"), format!("udp://{}", echo.address), vault.address.to_string()];
    let allow: Vec<&str> = allow.iter().flat_map(|target| ["--allow", target]).collect();
    let connector = Attached::start(world, &network, "connector", &allow).await;

    // A real name server, asked by a real resolver through our agent.
    let connect = Datagrams::start(laptop, "office-dns").await;
    let mut answer = connect.dig("2", "10").await;
    let deadline = Instant::now() + PATIENCE;
    while answer.out.trim() != "192.0.2.7" && Instant::now() < deadline {
        assert_eq!(name_server.try_wait().expect("a child").map(|status| status.code()), None, "it runs");
        answer = connect.dig("2", "10").await;
    }
    assert_eq!(answer.out.trim(), "192.0.2.7", "{} {}", answer.err, world.log());

    // What the connector's list has not hears nothing, whatever policy permits.
    let refused = flow(world, laptop, "vault").await.err().expect("refused");
    assert!(refused.starts_with("http/1.1 502"), "{refused}");
    logged(world, "a gateway asks for what it can't have", &vault.address.port().to_string()).await;

    let mut open = flow(world, laptop, "echo").await.expect("open");
    for size in [0, 1, 1_200, 9_000] {
        echoed(&mut open, &vec![7; size]).await;
    }
    assert!(speaks_to(&network, echo.address).await, "the connector's socket");
    let begin = Instant::now();
    world.admin.delete("/v1/groups/marketing/members/alice").await.expect("removed from the group");
    assert_eq!(open.next().await, None, "cut");
    assert!(begin.elapsed() < Duration::from_secs(1), "cut after {:?}", begin.elapsed());
    while speaks_to(&network, echo.address).await {
        assert!(begin.elapsed() < PATIENCE, "the connector's socket outlives the flow");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(vault.seen().len(), 0, "not a packet");

    // On record with the bytes of both ways, the site and the connector.
    let query = AuditQuery { resource: Some("echo".into()), kind: Some("flow_end".into()), ..AuditQuery::default() };
    let deadline = Instant::now() + PATIENCE;
    let end = loop {
        if let Some(end) = world.audit(query.clone()).await.pop() {
            break end;
        }
        assert!(Instant::now() < deadline, "the end of the flow is not recorded");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((end.bytes_in, end.bytes_out), (Some(10_201), Some(10_201)), "{end:?}");
    assert_eq!(end.connector.as_deref(), Some(connector.id.as_str()));
    assert!(end.detail.as_deref().is_some_and(|detail| detail.starts_with("cut: ")), "{end:?}");
    assert!(flow(world, laptop, "echo").await.is_err(), "and stays closed");
}

/// Whether anybody in the site has a socket that is connected to that UDP address.
async fn speaks_to(network: &Site, to: SocketAddr) -> bool {
    let SocketAddr::V4(to) = to else { panic!("{to} is not of IPv4") };
    let output = network.command("cat").arg("/proc/net/udp").output().await.expect("runs");
    let sockets = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(sockets.contains("rem_address"), "{sockets}");
    let remote = format!("{:08X}:{:04X}", u32::from_ne_bytes(to.ip().octets()), to.port());
    sockets.lines().any(|line| line.split_whitespace().nth(2) == Some(&remote))
}

/// Asks for datagrams as a gateway does.
async fn ask_for_datagrams(
    sender: &SendRequest<Bytes>,
    protocol: &'static str,
    path: &str,
) -> (StatusCode, ConnectStream) {
    let mut sender = sender.clone().ready().await.expect("open");
    let deadline = Instant::now() + PATIENCE;
    while !sender.is_extended_connect_protocol_enabled() {
        assert!(Instant::now() < deadline, "the connector takes no `:protocol`");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let uri = format!("https://connector{path}");
    let request = Request::builder().method(Method::CONNECT).uri(uri).header(SITE_HEADER, "frankfurt");
    let request = request.extension(Protocol::from_static(protocol)).body(()).expect("a request");
    let (response, send) = sender.send_request(request, false).expect("sent");
    let response = tokio::time::timeout(PATIENCE, response).await.expect("in time").expect("an answer");
    (response.status(), ConnectStream::new(send, response.into_body()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a163_a_gateway_that_was_taken_over_sends_datagrams_to_what_the_list_has_and_nothing_else() {
    let world = roles::controller().await;
    let _gate = Gate::join(&world, "one", Ipv4Addr::LOCALHOST).await;
    let (hostile, _) = taken_over(&world, "two").await;
    let (state, at) = (world.dir.path().join("connector"), format!("{}:{}", Ipv4Addr::LOCALHOST, world.port));
    let code = invite(&world, "frankfurt").await;
    let (exit, out, err) = world.cli(&state, &["connector", "join", &code, "--gateway", &at]).await;
    assert_eq!(exit, 0, "{out}{err}");
    let (listed, other) = (Echo::start(&world.tasks).await, Echo::start(&world.tasks).await);
    // By TCP, the other one's port is open too.
    let allow =
        [format!("udp://127.0.0.0/8:{}", listed.address.port()), format!("127.0.0.0/8:{}", other.address.port())];
    let arguments = ["connector", "--gateway", &hostile.address(), "--allow", &allow[0], "--allow", &allow[1]];
    let arguments = arguments.map(String::from);
    let _connector = launch_by(Command::new(VOUCHSAFE), world.dir.path(), &state, &arguments).await.0;
    let sender = hostile.attached(&world).await.expect("its certificate is a gateway's");
    let path = |target: &str| udp_path(&Endpoint::parse(target).expect("an endpoint"));
    for (protocol, path, status) in [
        (CONNECT_UDP, path(&other.address.to_string()), 403),
        (CONNECT_UDP, path(&format!("localhost:{}", other.address.port())), 403),
        (CONNECT_UDP, path("10.0.0.5:53"), 403),
        (CONNECT_UDP, path("100.100.100.200:53"), 403),
        (CONNECT_UDP, "/.well-known/masque/udp/169.254.169.254/53/".to_owned(), 400),
        (CONNECT_UDP, format!("/.well-known/masque/udp/127.1/{}/", listed.address.port()), 400),
        (CONNECT_UDP, "/".to_owned(), 400),
        ("connect-ip", path(&listed.address.to_string()), 400),
        ("websocket", path(&listed.address.to_string()), 400),
    ] {
        assert_eq!(ask_for_datagrams(&sender, protocol, &path).await.0, status, "{protocol} {path}");
    }
    // What is listed for datagrams isn't for bytes.
    let by_tcp = ask(&sender, Method::CONNECT, &listed.address.to_string(), "frankfurt").await;
    assert_eq!(by_tcp.0, StatusCode::FORBIDDEN);
    let (status, stream) = ask_for_datagrams(&sender, CONNECT_UDP, &path(&listed.address.to_string())).await;
    assert_eq!(status, StatusCode::OK);
    let (read, mut write) = tokio::io::split(stream);
    let (mut payloads, mut room) = (Payloads::new(read), Vec::new());
    write_payload(&mut write, &mut room, b"hello").await.expect("written");
    let heard = tokio::time::timeout(PATIENCE, payloads.next()).await.expect("in time").expect("open");
    assert_eq!(heard.as_deref(), Some(&b"hello"[..]));
    // A datagram that no packet could hold ends the stream, and nothing of it is sent.
    write.write_all(&[0, 0x80, 1, 0, 9, 0]).await.expect("written");
    let ended = tokio::time::timeout(PATIENCE, payloads.next()).await.expect("in time");
    assert!(ended.is_err(), "{ended:?}");
    assert_eq!((listed.seen().len(), other.seen().len()), (1, 0));
}
