//! Datagrams between a gateway's stream and a UDP target. The stream's capsules are a client's, and may be anything;
//! the socket speaks to the one target that was checked, and hears nobody else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::UdpSocket;
use vouchsafe_runtime::connect_stream::ConnectStream;
use vouchsafe_runtime::datagrams::{Payloads, send, silence, write_payload};
use vouchsafe_wire::capsule::MAX_UDP_PAYLOAD;

/// Longest silence of a flow. A gateway ends it earlier, when its resource says so; what it forgets ends here.
const IDLE: Duration = Duration::from_secs(3_600);

/// Passes datagrams until the gateway ends the stream or resets it, the target can't be reached, or nothing passes.
pub(crate) async fn pass(stream: ConnectStream, target: &UdpSocket) {
    let reset = stream.reset();
    let (read, mut write) = tokio::io::split(stream);
    let packets = AtomicU64::new(0);
    let passed = || packets.fetch_add(1, Ordering::Relaxed);
    let inward = async {
        let mut payloads = Payloads::new(read);
        while let Some(payload) = payloads.next().await? {
            send(target, &payload).await?;
            passed();
        }
        Ok(())
    };
    let outward = async {
        let (mut buffer, mut room) = (vec![0; MAX_UDP_PAYLOAD], Vec::new());
        loop {
            let length = target.recv(&mut buffer).await?;
            write_payload(&mut write, &mut room, buffer.get(..length).unwrap_or_default()).await?;
            passed();
        }
    };
    let ended: std::io::Result<()> = tokio::select! {
        ended = inward => ended,
        ended = outward => ended,
        () = silence(IDLE, || packets.load(Ordering::Relaxed)) => Ok(()),
        () = reset => return,
    };
    match ended {
        // In order, so that the gateway doesn't take it for a break.
        Ok(()) => drop(write.shutdown().await),
        Err(error) => tracing::debug!(%error, "a flow of datagrams broke off"),
    }
}
