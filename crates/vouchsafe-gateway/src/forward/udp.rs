//! A permitted UDP flow: datagrams of a CONNECT-UDP (RFC 9298), both ways.
//!
//! Datagrams that find no room are lost, as on any network: there is no queue to fill here beyond
//! the kernel's, or that of a connector's stream. A socket is connected, so that nobody but the upstream is heard;
//! the first error that it reports (ICMP: the port or host can't be reached) ends the flow.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::UdpSocket;
use tokio::sync::{Mutex, mpsc};
use vouchsafe_model::id::ConnectorId;
use vouchsafe_runtime::datagrams::{self, Payloads, silence, write_payload};
use vouchsafe_wire::capsule::{MAX_UDP_PAYLOAD, udp_payload, write_datagram};

use crate::connectors::Relayed;
use crate::gateway::Shared;
use crate::listen::Place;
use crate::take_up::{SendDatagram, Stream, TakeUp, TakenUp};
use crate::watch::Flow;

/// The way to an upstream.
pub(crate) enum Upstream {
    /// A socket of this gateway's.
    Direct(UdpSocket),
    /// Through a connector, whose socket it is.
    Via(Box<Via>),
}

/// A stream of capsules to a connector.
pub(crate) struct Via {
    connector: ConnectorId,
    /// With room for one capsule, which is used again.
    inward: Mutex<(WriteHalf<Relayed>, Vec<u8>)>,
    outward: Mutex<Payloads<ReadHalf<Relayed>>>,
}

impl Upstream {
    /// Through a connector.
    pub(crate) fn via(relayed: Relayed) -> Self {
        let connector = relayed.connector();
        let (read, write) = tokio::io::split(relayed);
        let (inward, outward) = (Mutex::new((write, Vec::new())), Mutex::new(Payloads::new(read)));
        Self::Via(Box::new(Via { connector, inward, outward }))
    }

    /// The connector that it leads through.
    pub(crate) fn connector(&self) -> Option<ConnectorId> {
        match self {
            Upstream::Direct(_) => None,
            Upstream::Via(via) => Some(via.connector),
        }
    }

    /// Sends a payload; says whether it left.
    async fn send(&self, payload: &[u8]) -> io::Result<bool> {
        match self {
            Upstream::Direct(socket) => datagrams::send(socket, payload).await,
            Upstream::Via(via) => {
                let (write, room) = &mut *via.inward.lock().await;
                write_payload(write, room, payload).await?;
                Ok(true)
            }
        }
    }

    /// The next payload, in `buffer`; `None` when the connector has ended the flow.
    async fn receive<'b>(&self, buffer: &'b mut Vec<u8>) -> io::Result<Option<&'b [u8]>> {
        match self {
            Upstream::Direct(socket) => {
                buffer.resize(MAX_UDP_PAYLOAD, 0);
                let length = socket.recv(buffer).await?;
                Ok(buffer.get(..length))
            }
            Upstream::Via(via) => {
                let payload = via.outward.lock().await.next().await?;
                Ok(payload.map(|payload| {
                    *buffer = payload;
                    &buffer[..]
                }))
            }
        }
    }
}

/// Joins the client's datagrams with the upstream until the client ends the stream, nothing has
/// passed for `idle`, the upstream can't be reached, or access ends.
pub(crate) fn join(
    shared: &Arc<Shared>,
    flow: Arc<Flow>,
    client: TakeUp,
    upstream: Upstream,
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

async fn pass(client: TakenUp, upstream: &Upstream, flow: &Flow, idle: Duration) -> io::Result<&'static str> {
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

/// From the client to the upstream.
struct Inward<'f> {
    upstream: &'f Upstream,
    flow: &'f Flow,
    packets: AtomicU64,
}

impl Inward<'_> {
    async fn capsules(&self, from: ReadHalf<Box<dyn Stream>>) -> io::Result<()> {
        let mut payloads = Payloads::new(from);
        while let Some(payload) = payloads.next().await? {
            self.send(&payload).await?;
        }
        Ok(())
    }

    async fn datagrams(&self, incoming: Option<mpsc::Receiver<bytes::Bytes>>) -> io::Result<()> {
        let Some(mut incoming) = incoming else { return std::future::pending().await };
        while let Some(datagram) = incoming.recv().await {
            if let Some(payload) = udp_payload(&datagram) {
                self.send(payload).await?;
            }
        }
        Ok(())
    }

    async fn send(&self, payload: &[u8]) -> io::Result<()> {
        if self.upstream.send(payload).await? {
            self.packets.fetch_add(1, Ordering::Relaxed);
            self.flow.traffic().inward.fetch_add(payload.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}

async fn from_upstream(
    upstream: &Upstream,
    flow: &Flow,
    packets: &AtomicU64,
    to: &mut WriteHalf<Box<dyn Stream>>,
    send: Option<SendDatagram>,
) -> io::Result<()> {
    let (mut buffer, mut framed) = (Vec::new(), Vec::new());
    while let Some(payload) = upstream.receive(&mut buffer).await? {
        match &send {
            Some(send) => {
                framed.clear();
                write_datagram(&mut framed, payload);
                if !send(&framed) {
                    return Ok(());
                }
            }
            None => write_payload(to, &mut framed, payload).await?,
        }
        packets.fetch_add(1, Ordering::Relaxed);
        flow.traffic().outward.fetch_add(payload.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}
