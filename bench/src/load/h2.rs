//! The same on HTTP/2: some connections with many streams each.

use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, StatusCode};
use tokio::task::JoinSet;

use super::pace::Ticket;
use super::{Failure, Outcome, Pace, Schedule, Target, secure, since};

/// Open connections.
pub(crate) struct Connections {
    request: Request<()>,
    body_bytes: usize,
    senders: Vec<SendRequest<Bytes>>,
    /// Drives the connections; ends them when it goes.
    _connections: JoinSet<()>,
}

impl Connections {
    /// Opens that many. `request` is what is asked.
    pub(crate) async fn open(target: &Target, request: &Request<()>, count: usize) -> Result<Self, Failure> {
        let mut senders = Vec::with_capacity(count);
        let mut connections = JoinSet::new();
        for _ in 0..count {
            let tls = secure(target, &[b"h2"]).await?;
            if tls.get_ref().1.alpn_protocol() != Some(b"h2") {
                return Err("the server has no HTTP/2".into());
            }
            let (mut sender, connection) = h2::client::handshake(tls).await?;
            connections.spawn(async move {
                // How it ended shows in the answers that are missing.
                let _ = connection.await;
            });
            ask(&mut sender, request, target.body_bytes).await?;
            senders.push(sender);
        }
        Ok(Self { request: request.clone(), body_bytes: target.body_bytes, senders, _connections: connections })
    }

    /// Asks on so many streams of each connection, at that pace for that long.
    pub(crate) async fn drive(&mut self, streams: usize, pace: Pace, length: Duration) -> Result<Outcome, Failure> {
        let schedule = Schedule::begin(pace, length)?;
        let mut workers = JoinSet::new();
        for sender in self.senders.iter().flat_map(|sender| std::iter::repeat_n(sender, streams)) {
            let (schedule, request, body_bytes) = (schedule.clone(), self.request.clone(), self.body_bytes);
            let mut sender = sender.clone();
            workers.spawn(async move {
                let mut latencies = Vec::new();
                while let Some(Ticket { due }) = schedule.next().await {
                    ask(&mut sender, &request, body_bytes).await?;
                    latencies.push(since(due));
                }
                Ok::<_, Failure>(latencies)
            });
        }
        let mut latencies = Vec::new();
        while let Some(worker) = workers.join_next().await {
            latencies.extend(worker??);
        }
        Ok(Outcome { elapsed: schedule.elapsed(), latencies })
    }
}

async fn ask(sender: &mut SendRequest<Bytes>, request: &Request<()>, body_bytes: usize) -> Result<(), Failure> {
    std::future::poll_fn(|cx| sender.poll_ready(cx)).await?;
    let (answer, _) = sender.send_request(request.clone(), true)?;
    let (head, mut body) = answer.await?.into_parts();
    let mut length = 0;
    while let Some(data) = body.data().await {
        let data = data?;
        length += data.len();
        body.flow_control().release_capacity(data.len())?;
    }
    if head.status != StatusCode::OK || length != body_bytes {
        return Err(format!("unexpected answer: {head:?}, {length} bytes").into());
    }
    Ok(())
}
