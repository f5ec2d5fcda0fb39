//! One connection to a gateway: HTTP/2 with the parts exchanged, so that the gateway asks and the connector
//! answers, though it dialled.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection};
use tokio::sync::watch;
use tokio_rustls::client::TlsStream;
use vouchsafe_model::id::GatewayId;
use vouchsafe_runtime::connect_stream::silence;
use vouchsafe_runtime::limits::HANDSHAKE_TIMEOUT;

use crate::connector::Shared;
use crate::dial::Stream;
use crate::state::Kept;
use crate::stream;

/// Streams of one connection.
const MAX_STREAMS: u32 = 512;
const MAX_PENDING_RESETS: usize = 512;
/// Bytes of one stream that may be under way. An upstream that reads slowly holds back its own stream at this
/// point, and the connection's window has room for all streams, so it holds back no other's.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;
/// Bytes of one stream that wait to be written.
const SEND_BUFFER: usize = 256 * 1024;
/// Largest head, bytes.
const MAX_HEAD: u32 = 8 * 1024;
/// How often the gateway is asked whether it is still there, and how long it may take.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_PATIENCE: Duration = Duration::from_secs(5);

type Open = Connection<TlsStream<Box<dyn Stream>>, Bytes>;

/// Why a connection is over for its link.
pub(crate) enum Ended {
    /// There is a new certificate; what is open goes on.
    Renewed,
    /// The connector stops, and nothing is open any more.
    Drained,
    /// It broke, or the gateway ended it.
    Lost(String),
}

/// Begins HTTP/2.
pub(crate) async fn begin(stream: TlsStream<Box<dyn Stream>>) -> Result<Open, h2::Error> {
    let handshake = Builder::new()
        .max_concurrent_streams(MAX_STREAMS)
        // A policy that changes may cut all of them at once, also those that have just begun.
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEAD)
        .max_send_buffer_size(SEND_BUFFER)
        .handshake(stream);
    tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake)
        .await
        .unwrap_or_else(|_| Err(h2::Reason::SETTINGS_TIMEOUT.into()))
}

/// Serves until the connection ends, the connector stops, or there is a new certificate.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    mut connection: Open,
    gateway: GatewayId,
    kept: &mut watch::Receiver<Arc<Kept>>,
) -> Ended {
    let pings = connection.ping_pong();
    let mut silent: Silent = Box::pin(async {
        match pings {
            Some(pings) => silence(pings, PING_EVERY, PING_PATIENCE).await,
            None => std::future::pending().await,
        }
    });
    let why = tokio::select! {
        why = streams(shared, &mut connection, &mut silent, gateway) => Ended::Lost(why),
        () = shared.tasks.draining() => Ended::Drained,
        _ = kept.changed() => Ended::Renewed,
    };
    // The gateway is told (GOAWAY) that nothing new is taken here; what is open goes on.
    match why {
        Ended::Lost(_) => {}
        Ended::Renewed => {
            connection.graceful_shutdown();
            let rest = Arc::clone(shared);
            shared.tasks.spawn("former connection", async move {
                streams(&rest, &mut connection, &mut silent, gateway).await;
            });
        }
        Ended::Drained => {
            connection.graceful_shutdown();
            streams(shared, &mut connection, &mut silent, gateway).await;
        }
    }
    why
}

type Silent = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes streams until there are no more; says why.
async fn streams(shared: &Arc<Shared>, connection: &mut Open, silent: &mut Silent, gateway: GatewayId) -> String {
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            () = silent.as_mut() => return "the gateway gives no sign of life".to_owned(),
        };
        match accepted {
            Some(Ok((request, respond))) => {
                shared.tasks.spawn("stream", stream::serve(Arc::clone(shared), gateway, request, respond));
            }
            Some(Err(error)) => return error.to_string(),
            None => return "the gateway ended it".to_owned(),
        }
    }
}
