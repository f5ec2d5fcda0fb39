//! An orderly end: what is under way goes on, and nothing new begins.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Apps;
use super::raw::Events;
use crate::attacks::probe;
use crate::peers::pid_of;
use crate::world::{PATIENCE, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_says_goodbye_and_lets_open_exchanges_end() {
    let world = World::start().await;
    let events = Events::start(&world.tasks).await;
    let apps = Apps::start(world, &[("news", format!("http://{}", events.address), None)]).await;
    let cookie = apps.cookie("news").await;
    let authority = apps.authority("news");
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nCookie: {cookie}\r\n\r\n");
    let connect = |alpn: &'static [u8]| {
        let config = probe::config(&apps.world, None, &[alpn]);
        probe::connect(&apps.world, "news", config)
    };

    // One connection of HTTP/1.1 is idle, one waits for events; one of HTTP/2 as well.
    let mut idle = connect(b"http/1.1").await.expect("handshake");
    idle.write_all(request("/").as_bytes()).await.expect("sent");
    assert_eq!(probe::read_h1(&mut idle).await.status, 204);
    let mut busy = connect(b"http/1.1").await.expect("handshake");
    busy.write_all(request("/events").as_bytes()).await.expect("sent");
    let mut buffer = vec![0; 16 * 1024];
    let length = tokio::time::timeout(PATIENCE, busy.read(&mut buffer)).await.expect("in time").expect("readable");
    assert!(String::from_utf8_lossy(&buffer[..length]).starts_with("HTTP/1.1 200"), "the stream of events is open");
    let mut streams = connect(b"h2").await.expect("handshake");
    let fields = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", &*authority),
        (":path", "/events"),
        ("cookie", &*cookie),
    ];
    streams.write_all(&probe::opening(&fields, None)).await.expect("sent");
    assert_eq!(probe::frames_until(&mut streams, probe::HEADERS).await.last(), Some(&probe::HEADERS));

    let pid = pid_of(apps.world.pid());
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signalled");
    let goodbye = probe::frames_until(&mut streams, probe::GOAWAY).await;
    assert_eq!(goodbye.last(), Some(&probe::GOAWAY), "{goodbye:?}");
    let length = tokio::time::timeout(PATIENCE, idle.read(&mut buffer)).await.expect("in time").unwrap_or(0);
    assert_eq!(length, 0, "an idle connection is closed");
    // Both streams of events still carry.
    events.permits.add_permits(2);
    assert_eq!(probe::frames_until(&mut streams, probe::DATA).await.last(), Some(&probe::DATA));
    let length = tokio::time::timeout(PATIENCE, busy.read(&mut buffer)).await.expect("in time").expect("readable");
    assert!(String::from_utf8_lossy(&buffer[..length]).contains("data: "));
}
