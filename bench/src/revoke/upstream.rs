//! The upstream of all flows, as a process of its own: it notes when the last byte of each arrived, and when it saw
//! its end.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::BufRead;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::task::TaskGroup;

use super::kind::Kind;
use crate::say;

/// What is known of one flow. Times are since the machine's start, in microseconds; 0 for never.
#[derive(Default)]
struct Seen {
    last: AtomicU64,
    ended: AtomicU64,
}

type Flows = Arc<Mutex<BTreeMap<u64, Arc<Seen>>>>;

/// Serves until its standard input ends. `count FROM` is answered with the number of flows from there on that are
/// open, `report FROM` with all of these, as `[number, last byte, end]`.
pub(crate) fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let ip = arguments.first().map_or("127.0.0.1", String::as_str);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let flows = Flows::default();
    let listener = runtime.block_on(TcpListener::bind((ip, 0)))?;
    say(&json!({"listening": listener.local_addr()?.to_string()}))?;
    let tasks = TaskGroup::new();
    let _entered = runtime.enter();
    let (accepted, group) = (Arc::clone(&flows), tasks.clone());
    tasks.spawn("upstream", async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let flows = Arc::clone(&accepted);
            group.spawn("flow", async move { serve(stream, &flows).await });
        }
    });
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (what, from) = line.split_once(' ').unwrap_or((&line, "0"));
        let from: u64 = from.parse()?;
        let flows = flows.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = |seen: &Seen| seen.ended.load(Ordering::Relaxed);
        match what {
            "count" => say(&json!(flows.range(from..).filter(|(_, seen)| ended(seen) == 0).count()))?,
            _ => {
                let row = |(number, seen): (&u64, &Arc<Seen>)| {
                    json!([number, seen.last.load(Ordering::Relaxed), ended(seen)])
                };
                say(&flows.range(from..).map(row).collect())?;
            }
        }
    }
    Ok(())
}

fn now() -> u64 {
    u64::try_from(clock::since_boot().as_micros()).unwrap_or(u64::MAX)
}

/// One connection: a head that says which flow it is, then whatever comes until an end of whatever form.
async fn serve(mut stream: TcpStream, flows: &Flows) {
    // Set for what is sent; that it can't be set makes it slower only.
    let _ = stream.set_nodelay(true);
    let (mut input, mut piece) = (Vec::new(), [0; 4_096]);
    let end = loop {
        match stream.read(&mut piece).await {
            Ok(length @ 1..) => input.extend_from_slice(piece.get(..length).unwrap_or_default()),
            Ok(0) | Err(_) => return,
        }
        if let Some(at) = input.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
    };
    let head = String::from_utf8_lossy(input.get(..end).unwrap_or_default()).into_owned();
    let Some((kind, number, every)) = read(&head) else { return };
    let seen = Arc::new(Seen::default());
    seen.last.store(now(), Ordering::Relaxed);
    flows.lock().unwrap_or_else(PoisonError::into_inner).insert(number, Arc::clone(&seen));
    carry(&mut stream, kind, every, &seen).await;
    seen.ended.store(now(), Ordering::Relaxed);
}

async fn carry(stream: &mut TcpStream, kind: Kind, every: Duration, seen: &Seen) {
    let answer: &[u8] = match kind {
        Kind::Download => b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        Kind::Events => b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        // The answer to the key of RFC 6455 §1.3, which all clients here use.
        Kind::WebSocket => b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        Kind::Upload | Kind::Http2 | Kind::Http3 | Kind::Connect1 | Kind::Connect2 | Kind::ViaHttp | Kind::ViaConnect => {
            b""
        }
    };
    if stream.write_all(answer).await.is_err() {
        return;
    }
    let mut due = tokio::time::interval(every);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut piece = [0; 4_096];
    loop {
        tokio::select! {
            read = stream.read(&mut piece) => match read {
                Ok(length @ 1..) => {
                    // What says to a WebSocket that it is over is the gateway's word and no client's.
                    let first = piece.first().copied().unwrap_or_default();
                    if kind == Kind::WebSocket && length > 0 && first & 0x0f == 0x08 {
                        return;
                    }
                    seen.last.store(now(), Ordering::Relaxed);
                }
                Ok(0) | Err(_) => return,
            },
            _ = due.tick(), if !kind.client_sends() => {
                let sent: &[u8] = if kind == Kind::Events { b"9\r\ndata: x\n\n\r\n" } else { b"1\r\nx\r\n" };
                if stream.write_all(sent).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Reads `METHOD /<kind>/<number>/<milliseconds> …`.
fn read(head: &str) -> Option<(Kind, u64, Duration)> {
    let mut parts = head.split(' ').nth(1)?.trim_start_matches('/').split('/');
    let kind = Kind::of_name(parts.next()?)?;
    let number = parts.next()?.parse().ok()?;
    Some((kind, number, Duration::from_millis(parts.next()?.parse().ok()?)))
}
