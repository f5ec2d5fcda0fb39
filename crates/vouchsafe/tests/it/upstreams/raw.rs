//! Upstreams that answer each request with exact bytes, written by the test.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use vouchsafe_runtime::task::TaskGroup;

/// Reads one request head; `None` when the connection ended.
pub async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// An answer of exact bytes to every request, and more of them some time later.
#[derive(Debug, Clone)]
pub struct Script {
    pub answer: Vec<u8>,
    pub later: Option<(Duration, Vec<u8>)>,
}

/// Starts an upstream whose script depends on the request line.
pub async fn scripted(tasks: &TaskGroup, script: fn(&str) -> Script) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
    let address = listener.local_addr().expect("address");
    let group = tasks.clone();
    tasks.spawn("scripted upstream", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            group.spawn("scripted connection", async move {
                while let Some(head) = head(&mut stream).await {
                    let script = script(head.lines().next().unwrap_or_default());
                    if stream.write_all(&script.answer).await.is_err() {
                        return;
                    }
                    if let Some((after, bytes)) = script.later {
                        tokio::time::sleep(after).await;
                        let _ = stream.write_all(&bytes).await;
                    }
                }
            });
        }
    });
    address
}

/// A source of server-sent events that sends one for each permit the test gives.
pub struct Events {
    pub address: SocketAddr,
    pub permits: Arc<Semaphore>,
    pub sent: Arc<AtomicUsize>,
}

impl Events {
    pub async fn start(tasks: &TaskGroup) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
        let events = Self {
            address: listener.local_addr().expect("address"),
            permits: Arc::new(Semaphore::new(0)),
            sent: Arc::default(),
        };
        let (permits, sent, group) = (Arc::clone(&events.permits), Arc::clone(&events.sent), tasks.clone());
        tasks.spawn("events", async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (permits, sent) = (Arc::clone(&permits), Arc::clone(&sent));
                group.spawn("event stream", async move {
                    let Some(head) = head(&mut stream).await else { return };
                    if !head.starts_with("GET /events") {
                        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
                        return;
                    }
                    let head =
                        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
                    let _ = stream.write_all(head.as_bytes()).await;
                    while let Ok(permit) = permits.acquire().await {
                        permit.forget();
                        let number = sent.fetch_add(1, Ordering::SeqCst);
                        let event = format!("data: {number}\n\n");
                        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
                        if stream.write_all(chunk.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        events
    }
}
