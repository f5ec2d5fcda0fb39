//! Large bodies pass through the gateway, and stay nowhere in it. They say that they are compressed and
//! are not, so whoever unfolded them on the way would fail.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::Apps;
use crate::peers::{forget_peak, resident_kib};
use crate::world::World;

/// Far more than may stay; `bench/run bulk` does the same with 1 GiB.
const BYTES: usize = 96 << 20;
/// What memory may grow by meanwhile, KiB.
const GROWTH_KIB: u64 = 32 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn i11_g18_large_bodies_pass_as_they_are_in_constant_memory() {
    let world = World::start().await;
    let body: Arc<Vec<u8>> = Arc::new((0..BYTES).map(|at| (at % 251) as u8).collect());
    let upstream = storage(&world, Arc::clone(&body)).await;
    let apps = Apps::start(world, &[("files", format!("http://{upstream}"), None)]).await;
    let (up, down) = (apps.world.dir.path().join("up"), apps.world.dir.path().join("down"));
    std::fs::write(&up, body.as_slice()).expect("written");
    let (up, to) = (up.display().to_string(), down.display().to_string());
    let pid = apps.world.pid();
    for version in ["--http1.1", "--http2"] {
        // What is made once is there already.
        let first = apps.curl("files", "/small", &[version]).await;
        assert_eq!((first.status, first.body.as_str()), (200, "small"), "{first:?}");
        let (before, _) = resident_kib(pid);
        forget_peak(pid);
        let sent = apps.curl("files", "/large", &[version, "-H", "Content-Encoding: gzip", "-T", &up]).await;
        assert_eq!((sent.status, sent.body.as_str()), (200, "the same"), "{version}: {sent:?}");
        let got = apps.curl("files", "/large", &[version, "-o", &to]).await;
        assert_eq!(got.status, 200, "{version}: {got:?}");
        assert!(std::fs::read(&down).expect("stored") == *body, "{version}: another body came");
        let (_, peak) = resident_kib(pid);
        assert!(peak < before + GROWTH_KIB, "{version}: memory grew from {before} to {peak} KiB");
    }
}

/// Takes and gives that body.
async fn storage(world: &World, body: Arc<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
    let address = listener.local_addr().expect("address");
    let tasks = world.tasks.clone();
    world.tasks.spawn("storage", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let body = Arc::clone(&body);
            tasks.spawn("stored", async move { drop(serve(stream, &body).await) });
        }
    });
    address
}

async fn serve(stream: TcpStream, body: &[u8]) -> std::io::Result<()> {
    let mut stream = BufReader::with_capacity(64 * 1024, stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a number");
            }
            if line == "\r\n" {
                break;
            }
            head.push_str(&line);
        }
        let (mut taken, mut same, mut piece) = (0, true, vec![0; 64 * 1024]);
        while taken < length {
            let most = piece.len().min(length - taken);
            let read = stream.read(&mut piece[..most]).await?;
            if read == 0 {
                return Ok(());
            }
            same &= body.get(taken..taken + read) == Some(&piece[..read]);
            taken += read;
        }
        let answer = match (head.starts_with("PUT"), head.contains("/large")) {
            (true, _) if same && taken == body.len() => b"the same".as_slice(),
            (true, _) => b"another",
            (false, true) => body,
            (false, false) => b"small",
        };
        let coding = if answer.len() == BYTES { "content-encoding: gzip\r\n" } else { "" };
        let head = format!("HTTP/1.1 200 OK\r\n{coding}content-length: {}\r\n\r\n", answer.len());
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(answer).await?;
        stream.flush().await?;
    }
}
