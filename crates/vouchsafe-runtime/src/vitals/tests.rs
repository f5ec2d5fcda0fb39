use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::*;

/// A part of which one check can fail.
struct Part {
    holds: AtomicBool,
    took: Histogram,
}

const ENDS: &[Duration] = &[Duration::from_millis(1), Duration::from_secs(1)];

impl Vitals for Part {
    fn figures(&self, page: &mut Page<'_>) -> fmt::Result {
        page.counters("vouchsafe_things", "Things done", [([("kind", "good")], 3_u64), ([("kind", "bad")], 0)])?;
        page.histogram("vouchsafe_thing_duration_seconds", "How long a thing took", &self.took)
    }

    fn checks(&self) -> BoxFuture<'_, Vec<Check>> {
        let holds = self.holds.load(Ordering::Relaxed);
        let check = if holds { Check::holds("thing", "good") } else { Check::fails("thing", "broken", "mend it") };
        Box::pin(async move { vec![check] })
    }
}

async fn ask<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(mut stream: S, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn it_is_ready_when_all_checks_hold_and_not_while_it_starts_or_stops() {
    let (work, own) = (TaskGroup::new(), TaskGroup::new());
    let board = Board::new("test", "1.2.3", work.clone());
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let address = board.serve(Where::Port(loopback), &own).await.unwrap().unwrap();
    let get = async |path: &str| {
        let stream = TcpStream::connect(address).await.unwrap();
        ask(stream, &format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n")).await
    };
    assert!(get("/readyz").await.contains("503 ") && get("/readyz").await.contains("it is starting"));
    assert!(get("/livez").await.contains("200 OK"));
    let part = Arc::new(Part { holds: true.into(), took: Histogram::new(ENDS) });
    board.add(Arc::clone(&part) as _);
    board.complete();
    let ready = get("/readyz").await;
    assert!(ready.contains("200 OK") && ready.contains(r#""ready":true"#), "{ready}");
    part.holds.store(false, Ordering::Relaxed);
    let broken = get("/readyz").await;
    assert!(broken.contains("503 ") && broken.contains("mend it"), "{broken}");
    assert!(get("/metrics").await.contains("vouchsafe_check{check=\"thing\"} 0\n"));
    part.holds.store(true, Ordering::Relaxed);
    work.shut_down(Duration::ZERO).await;
    let stopping = get("/readyz").await;
    assert!(stopping.contains("503 ") && stopping.contains("stopping"), "{stopping}");
    assert!(get("/livez").await.contains("200 OK"), "a process that drains is not to be killed");
    assert!(get("/").await.contains("404 "));
    own.shut_down(Duration::ZERO).await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_dead_part_is_not_alive() {
    let (work, own) = (TaskGroup::new(), TaskGroup::new());
    let board = Board::new("test", "1.2.3", work.clone());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("health.sock");
    board.serve(Where::Socket(path.clone()), &own).await.unwrap();
    work.spawn_vital("vital", async {});
    work.failed().await;
    let answer = ask(UnixStream::connect(&path).await.unwrap(), "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.contains("503 "), "{answer}");
    own.shut_down(Duration::ZERO).await;
}

#[tokio::test]
async fn names_of_others_and_what_changes_something_are_refused() {
    let tasks = TaskGroup::new();
    let board = Board::new("test", "1.2.3", TaskGroup::new());
    let address = board.serve(Where::Port(([127, 0, 0, 1], 0).into()), &tasks).await.unwrap().unwrap();
    let said = async |request: &str| ask(TcpStream::connect(address).await.unwrap(), request).await;
    let rebound = said("GET /metrics HTTP/1.1\r\nhost: rebound.example:80\r\n\r\n").await;
    assert!(rebound.contains("421 ") && !rebound.contains("vouchsafe_"), "{rebound}");
    assert!(said("POST /metrics HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n").await.contains("405 "));
    tasks.shut_down(Duration::ZERO).await;
}

#[tokio::test]
async fn the_page_has_names_help_and_types() {
    let board = Board::new("test", "1.2.3", TaskGroup::new());
    let part = Part { holds: true.into(), took: Histogram::new(ENDS) };
    part.took.observe(Duration::from_millis(500));
    board.add(Arc::new(part));
    let page = board.page().await.unwrap();
    for line in [
        "vouchsafe_build_info{version=\"1.2.3\",role=\"test\"} 1\n",
        "# TYPE vouchsafe_things_total counter\n",
        "vouchsafe_things_total{kind=\"good\"} 3\n",
        "vouchsafe_thing_duration_seconds_bucket{le=\"0.001\"} 0\n",
        "vouchsafe_thing_duration_seconds_bucket{le=\"+Inf\"} 1\n",
        "vouchsafe_thing_duration_seconds_sum 0.5\n",
        "vouchsafe_ready 0\n",
    ] {
        assert!(page.contains(line), "{line} in\n{page}");
    }
}
