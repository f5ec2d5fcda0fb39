//! One connection of a connector, from its handshake to its end.
//!
//! Whose it is, its certificate says; whether that is one that is admitted, and for which site, the snapshot
//! says, at the beginning and at each new one. So a removed connector is cut off wherever it is attached.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use h2::client::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;
use vouchsafe_model::id::ConnectorId;
use vouchsafe_model::name::SiteName;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::connect_stream::silence;
use vouchsafe_runtime::limits::HANDSHAKE_TIMEOUT;
use vouchsafe_runtime::link::Snapshot;
use vouchsafe_runtime::tls;
use vouchsafe_wire::spiffe::CertifiedIdentity;

use super::Connection;
use super::introduce::Introduction;
use crate::gateway::Shared;

/// Bytes of one stream that may be under way. Who reads slowly holds back its own stream at this point, and the
/// connection's window has room for all streams, so it holds back no other's.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 128 << 20;
/// Bytes of one stream that wait to be written.
const SEND_BUFFER: usize = 256 * 1024;
/// Largest head of an answer to a CONNECT, bytes.
const MAX_HEAD: u32 = 8 * 1024;
/// How long it may take until a connector takes this gateway for one.
const INTRODUCTION: Duration = Duration::from_secs(15);
/// How often a connector is asked whether it is still there, and how long it may take.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether nothing is left, once the gateway drains.
const DRAIN_LOOK: Duration = Duration::from_millis(50);

/// Serves one connection until it ends.
pub(crate) async fn attach<S>(shared: Arc<Shared>, stream: TlsStream<S>, ip: IpAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let proven = match tls::proven_connector(stream.get_ref().1, shared.names.domain(), clock::now()) {
        Ok(Some(proven)) => proven,
        Ok(None) => return tracing::info!(%ip, "somebody without a certificate wants to be a connector"),
        Err(why) => return tracing::info!(%ip, %why, "a connector's certificate is refused"),
    };
    let CertifiedIdentity::Connector(connector) = proven.identity else { return };
    // Subscribed before it is read, so that no removal falls in between.
    let mut snapshots = shared.link.snapshots();
    let admitted = site_of(&snapshots.borrow_and_update(), connector);
    let Some(site) = admitted else {
        return tracing::warn!(%ip, %connector, "a connector that was removed, or is not known yet, wants to attach");
    };
    let built = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEAD)
        .max_send_buffer_size(SEND_BUFFER)
        // It is asked for nothing but streams, and may not push.
        .enable_push(false)
        .handshake(stream);
    let Ok(Ok((sender, mut driver))) = tokio::time::timeout(HANDSHAKE_TIMEOUT, built).await else {
        return tracing::info!(%ip, %connector, "a connector does not speak HTTP/2");
    };
    let pings = driver.ping_pong();
    let mut driver = pin!(driver);
    let mut introduction = Introduction::new(connector, sender.clone(), shared.link.rosters());
    let introduced = tokio::select! {
        introduced = tokio::time::timeout(INTRODUCTION, introduction.accepted()) => matches!(introduced, Ok(Ok(()))),
        _ = driver.as_mut() => false,
    };
    if !introduced {
        return tracing::warn!(%ip, %connector, "a connector does not take this gateway for one");
    }
    let Some(connection) = shared.connectors.enter(&site, connector, sender) else {
        return tracing::error!(%ip, %connector, "too many connectors are attached");
    };
    tracing::info!(%ip, %connector, %site, "a connector attaches");
    let valid = proven.not_after.duration_since(clock::now()).unwrap_or_default();
    let ended = {
        let silent = async {
            match pings {
                Some(pings) => silence(pings, PING_EVERY, PING_PATIENCE).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = driver.as_mut() => match ended {
                Ok(()) => "it has ended".to_owned(),
                Err(error) => error.to_string(),
            },
            error = introduction.go_on() => format!("it takes no list of gateways: {error}"),
            () = silent => "it gives no sign of life".to_owned(),
            () = not_admitted(&mut snapshots, connector, &site) => "it was removed".to_owned(),
            // Who has renewed it came back with the next long before.
            () = tokio::time::sleep(valid) => "its certificate has ended".to_owned(),
            () = connection.end.notified() => "it has too many connections".to_owned(),
            () = drained(&shared, &connection) => "the gateway stops".to_owned(),
        }
    };
    connection.leaving.store(true, Ordering::Relaxed);
    shared.connectors.leave(&site, &connection);
    tracing::info!(%ip, %connector, %site, why = ended, "a connector is detached");
}

fn site_of(snapshot: &Snapshot, connector: ConnectorId) -> Option<SiteName> {
    snapshot.connectors.iter().find(|(id, _)| *id == connector).map(|(_, site)| site.clone())
}

/// Resolves when a snapshot doesn't admit it any more.
async fn not_admitted(snapshots: &mut watch::Receiver<Arc<Snapshot>>, connector: ConnectorId, site: &SiteName) {
    loop {
        if snapshots.changed().await.is_err() {
            return;
        }
        if site_of(&snapshots.borrow_and_update(), connector).as_ref() != Some(site) {
            return;
        }
    }
}

/// Resolves when the gateway drains and nothing passes here any more.
async fn drained(shared: &Shared, connection: &Connection) {
    shared.tasks.draining().await;
    while connection.streams.load(Ordering::Relaxed) > 0 {
        tokio::time::sleep(DRAIN_LOOK).await;
    }
}
