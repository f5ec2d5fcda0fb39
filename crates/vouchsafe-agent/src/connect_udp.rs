//! A local UDP port whose peers each get one flow to one `udp` resource (CONNECT-UDP, RFC 9298, in
//! capsules on the shared HTTP/2 connections).
//!
//! As on any network, datagrams may be lost: those that come before a flow is open wait in a short
//! queue, and what finds no room in it is dropped.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_wire::capsule::{CapsuleReader, MAX_UDP_PAYLOAD, udp_payload, write_capsule};

use crate::connect::{Once, Report, Target};
use crate::local::{ListenError, peer};
use crate::tunnel::{Tunnel, Tunnels};

/// Local peers that may have a flow at once.
pub const MAX_FLOWS: usize = 64;
/// Datagrams of one peer that may wait.
const QUEUE: usize = 64;
/// A flow without a datagram either way ends after this time (RFC 4787 §4.3 REQ-5); the gateway
/// may end it earlier.
const IDLE: Duration = Duration::from_secs(120);
/// How long it is believed that a local port still belongs to the same user.
const OWNER_KNOWN: Duration = Duration::from_secs(1);

/// A loopback UDP port for processes of this user.
#[derive(Debug)]
pub struct LocalPort {
    socket: Arc<UdpSocket>,
    address: SocketAddr,
}

impl LocalPort {
    /// Binds a loopback address.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        if !address.ip().is_loopback() {
            return Err(ListenError::NotLoopback { address });
        }
        let bound = UdpSocket::bind(address).await.and_then(|socket| Ok((socket.local_addr()?, socket)));
        let (address, socket) = bound.map_err(|source| ListenError::Bind { address, source })?;
        Ok(Self { socket: Arc::new(socket), address })
    }

    /// The address that was bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

struct Flow {
    to: mpsc::Sender<Bytes>,
    checked: Instant,
}

/// Serves the port until the group drains.
pub async fn serve(port: LocalPort, tunnels: Arc<Tunnels>, target: Target, report: Report, tasks: TaskGroup) {
    let once = Arc::new(Once::new(report));
    let target = Arc::new(target);
    let mut flows: HashMap<SocketAddr, Flow> = HashMap::new();
    let mut buffer = vec![0; MAX_UDP_PAYLOAD];
    loop {
        let received = tokio::select! {
            received = port.socket.recv_from(&mut buffer) => received,
            () = tasks.draining() => return,
        };
        let (length, from) = match received {
            Ok(received) => received,
            // An answer to a peer that is gone comes back as an error here.
            Err(error) => {
                tracing::debug!(%error, "nothing received");
                continue;
            }
        };
        let payload = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
        let known = flows.get(&from).is_some_and(|flow| flow.checked.elapsed() < OWNER_KNOWN);
        if !known && let Err(error) = peer::of_this_users_port(from) {
            tracing::warn!(%error, "refused a local datagram");
            flows.remove(&from);
            continue;
        }
        if let Some(flow) = flows.get_mut(&from) {
            if !known {
                flow.checked = Instant::now();
            }
            match flow.to.try_send(payload.clone()) {
                Ok(()) | Err(TrySendError::Full(_)) => continue,
                // That flow has ended; a new one begins.
                Err(TrySendError::Closed(_)) => drop(flows.remove(&from)),
            }
        }
        flows.retain(|_, flow| !flow.to.is_closed());
        if flows.len() >= MAX_FLOWS {
            tracing::warn!(%from, "too many local peers; a datagram is dropped");
            continue;
        }
        let (to, queue) = mpsc::channel(QUEUE);
        let _ = to.try_send(payload);
        flows.insert(from, Flow { to, checked: Instant::now() });
        let (socket, tunnels, target, once) = (port.socket.clone(), tunnels.clone(), target.clone(), once.clone());
        tasks.spawn("local flow", async move {
            match tunnels.open_udp(&target.host, target.port).await {
                Ok(tunnel) => {
                    if let Err(error) = pass(tunnel, queue, &socket, from).await {
                        tracing::debug!(%error, "flow was cut");
                    }
                }
                Err(error) => once.tell(&error),
            }
        });
    }
}

async fn pass(
    tunnel: Tunnel,
    mut queue: mpsc::Receiver<Bytes>,
    socket: &UdpSocket,
    peer: SocketAddr,
) -> io::Result<()> {
    let (mut read, mut write) = tokio::io::split(tunnel);
    let active = Mutex::new(Instant::now());
    let touch = || *active.lock() = Instant::now();
    let inward = async {
        let mut capsule = Vec::new();
        while let Some(payload) = queue.recv().await {
            touch();
            capsule.clear();
            write_capsule(&mut capsule, &payload);
            write.write_all(&capsule).await?;
            write.flush().await?;
        }
        write.shutdown().await
    };
    let outward = async {
        let (mut reader, mut buffer) = (CapsuleReader::default(), vec![0; 16 * 1024]);
        loop {
            let length = read.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            let mut input = buffer.get(..length).unwrap_or_default();
            while let Some(datagram) = reader.next(&mut input).map_err(io::Error::other)? {
                touch();
                if let Some(payload) = udp_payload(&datagram) {
                    // A peer that is gone does not end the flow; its silence does.
                    let _ = socket.send_to(payload, peer).await;
                }
            }
        }
    };
    let idle = async {
        loop {
            let end = *active.lock() + IDLE;
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    };
    tokio::select! {
        ended = inward => ended,
        ended = outward => ended,
        () = idle => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a295_never_listens_where_others_can_come_from() {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let error = LocalPort::bind(address.parse().unwrap()).await.unwrap_err();
            assert!(matches!(error, ListenError::NotLoopback { .. }), "{address}");
        }
    }

    #[tokio::test]
    async fn a_local_port_has_an_owner() {
        let own = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        peer::of_this_users_port(own.local_addr().unwrap()).unwrap();
        let everywhere = UdpSocket::bind("0.0.0.0:0").await.unwrap();
        let port = everywhere.local_addr().unwrap().port();
        peer::of_this_users_port(SocketAddr::new([127, 0, 0, 1].into(), port)).unwrap();
        drop(own);
    }
}
