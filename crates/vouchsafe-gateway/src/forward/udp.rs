//! A permitted UDP flow: datagrams of a CONNECT-UDP (RFC 9298), both ways.
//!
//! Datagrams that find no room are lost, as on any network: there is no queue to fill here beyond
//! the kernel's. The socket is connected, so that nobody but the upstream is heard; the first error
//! that it reports (ICMP: the port or host can't be reached) ends the flow.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use vouchsafe_wire::capsule::{CapsuleReader, MAX_UDP_PAYLOAD, udp_payload, write_capsule, write_datagram};

use crate::gateway::Shared;
use crate::listen::Place;
use crate::take_up::{SendDatagram, Stream, TakeUp, TakenUp};
use crate::watch::Flow;

/// Bytes that are read from the client's stream at once.
const READ_BYTES: usize = 16 * 1024;

/// Joins the client's datagrams with the upstream until the client ends the stream, nothing has
/// passed for `idle`, the upstream can't be reached, or access ends.
pub(crate) fn join(
    shared: &Arc<Shared>,
    flow: Arc<Flow>,
    client: TakeUp,
    upstream: UdpSocket,
    idle: Duration,
    place: Arc<Place>,
) {
    shared.tasks.spawn("udp flow", async move {
        let passing = async {
            let client = client.taken().await?;
            pass(client, &upstream, &flow, idle).await
        };
        tokio::select! {
            result = passing => flow.set_detail(match result {
                Ok(why) => why.to_owned(),
                Err(error) => format!("broke off: {error}"),
            }),
            _ = flow.cut().cancelled() => {}
        }
        drop(place);
    });
}

async fn pass(client: TakenUp, upstream: &UdpSocket, flow: &Flow, idle: Duration) -> io::Result<&'static str> {
    let TakenUp { stream, datagrams } = client;
    let (read, mut write) = tokio::io::split(stream);
    let inward = Inward { upstream, flow, packets: AtomicU64::new(0) };
    let (incoming, send) = match datagrams {
        Some(datagrams) => (Some(datagrams.incoming), Some(datagrams.send)),
        None => (None, None),
    };
    let outward = AtomicU64::new(0);
    let why = tokio::select! {
        ended = inward.capsules(read) => ended.map(|()| "closed"),
        ended = inward.datagrams(incoming) => ended.map(|()| "closed"),
        ended = from_upstream(upstream, flow, &outward, &mut write, send) => ended.map(|()| "closed"),
        () = silence(idle, || (inward.packets.load(Ordering::Relaxed), outward.load(Ordering::Relaxed))) => Ok("idle for too long"),
    }?;
    // An orderly end, so that the client doesn't take it for a cut.
    let _ = write.shutdown().await;
    Ok(why)
}

/// Resolves when a count has stood still for that long.
async fn silence(idle: Duration, count: impl Fn() -> (u64, u64)) {
    let mut seen = count();
    loop {
        tokio::time::sleep(idle).await;
        let now = count();
        if now == seen {
            return;
        }
        seen = now;
    }
}

/// From the client to the upstream.
struct Inward<'f> {
    upstream: &'f UdpSocket,
    flow: &'f Flow,
    packets: AtomicU64,
}

impl Inward<'_> {
    async fn capsules(&self, mut from: ReadHalf<Box<dyn Stream>>) -> io::Result<()> {
        let mut reader = CapsuleReader::default();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let length = from.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            let mut input = buffer.get(..length).unwrap_or_default();
            while let Some(datagram) = reader.next(&mut input).map_err(io::Error::other)? {
                self.send(&datagram).await?;
            }
        }
    }

    async fn datagrams(&self, incoming: Option<mpsc::Receiver<bytes::Bytes>>) -> io::Result<()> {
        let Some(mut incoming) = incoming else { return std::future::pending().await };
        while let Some(datagram) = incoming.recv().await {
            self.send(&datagram).await?;
        }
        Ok(())
    }

    async fn send(&self, datagram: &[u8]) -> io::Result<()> {
        let Some(payload) = udp_payload(datagram) else { return Ok(()) };
        match self.upstream.send(payload).await {
            Ok(_) => {
                self.packets.fetch_add(1, Ordering::Relaxed);
                self.flow.traffic().inward.fetch_add(payload.len() as u64, Ordering::Relaxed);
                Ok(())
            }
            // Larger than the way allows: lost, like every datagram that is.
            Err(error) if error.raw_os_error() == Some(EMSGSIZE) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// "Message too long", the same number on every Linux.
const EMSGSIZE: i32 = 90;

async fn from_upstream(
    upstream: &UdpSocket,
    flow: &Flow,
    packets: &AtomicU64,
    to: &mut WriteHalf<Box<dyn Stream>>,
    send: Option<SendDatagram>,
) -> io::Result<()> {
    let mut buffer = vec![0; MAX_UDP_PAYLOAD];
    let mut framed = Vec::new();
    loop {
        let length = upstream.recv(&mut buffer).await?;
        let payload = buffer.get(..length).unwrap_or_default();
        framed.clear();
        match &send {
            Some(send) => {
                write_datagram(&mut framed, payload);
                if !send(&framed) {
                    return Ok(());
                }
            }
            None => {
                write_capsule(&mut framed, payload);
                to.write_all(&framed).await?;
                to.flush().await?;
            }
        }
        packets.fetch_add(1, Ordering::Relaxed);
        flow.traffic().outward.fetch_add(length as u64, Ordering::Relaxed);
    }
}
