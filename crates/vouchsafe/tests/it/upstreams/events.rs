//! Streams of events.

use std::process::Stdio;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::raw::Events;
use super::{Apps, next_line};
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_one_by_one() {
    let world = World::start().await;
    let (first, second) = (Events::start(&world.tasks).await, Events::start(&world.tasks).await);
    let upstream = |events: &Events| format!("http://{}", events.address);
    let apps = Apps::start(world, &[("news", upstream(&first), None), ("more-news", upstream(&second), None)]).await;
    for (version, app, events) in [("--http1.1", "news", first), ("--http2", "more-news", second)] {
        let cookie = format!("Cookie: {}", apps.world.cookie(&apps.alice, app, "/").await);
        let mut child = Command::new("curl")
            .args(["-sSN", version, "--max-time", "60", "--cacert"])
            .arg(&apps.world.root_file)
            .args(["-H", &cookie, apps.world.url(app, "/events").as_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("curl starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        for number in 0..5 {
            // The next event is sent only when this one has arrived.
            events.permits.add_permits(1);
            let line = next_line(&mut lines).await;
            assert_eq!(line, format!("data: {number}"), "{version}");
            assert_eq!(next_line(&mut lines).await, "");
            assert_eq!(events.sent.load(Ordering::SeqCst), number + 1, "{version}");
        }
    }
}
