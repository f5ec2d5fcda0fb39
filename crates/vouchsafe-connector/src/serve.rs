//! One connection to a gateway: HTTP/2 with the parts exchanged, so that the gateway asks and the connector
//! answers, though it dialled.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, Connection, SendResponse};
use http::{Method, Request, Response, StatusCode};
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio_rustls::client::TlsStream;
use vouchsafe_model::id::GatewayId;
use vouchsafe_runtime::connect_stream::silence;
use vouchsafe_runtime::limits::HANDSHAKE_TIMEOUT;
use vouchsafe_wire::connector::ROSTER;
use vouchsafe_wire::roster::MAX_ROSTER_BYTES;

use crate::connector::Shared;
use crate::dial::Stream;
use crate::roster::Taken;
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
        // Datagrams are asked for by `:protocol` (RFC 8441).
        .enable_connect_protocol()
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
    let doubts = Arc::clone(shared);
    let mut over: Over = Box::pin(async move {
        let silent = async {
            match pings {
                Some(pings) => silence(pings, PING_EVERY, PING_PATIENCE).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = silent => "the gateway gives no sign of life",
            why = doubts.rosters.doubted(gateway) => why,
        }
    });
    let why = tokio::select! {
        why = streams(shared, &mut connection, &mut over, gateway) => Ended::Lost(why),
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
                streams(&rest, &mut connection, &mut over, gateway).await;
            });
        }
        Ended::Drained => {
            connection.graceful_shutdown();
            streams(shared, &mut connection, &mut over, gateway).await;
        }
    }
    why
}

/// Resolves when the connection must end, and says why.
type Over = Pin<Box<dyn Future<Output = &'static str> + Send>>;

/// Takes streams until there are no more; says why.
async fn streams(shared: &Arc<Shared>, connection: &mut Open, over: &mut Over, gateway: GatewayId) -> String {
    let hearing = Arc::new(Semaphore::new(1));
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            why = over.as_mut() => return why.to_owned(),
        };
        match accepted {
            Some(Ok((request, respond))) if request.method() == Method::PUT => {
                let (shared, hearing) = (Arc::clone(shared), Arc::clone(&hearing));
                let tasks = shared.tasks.clone();
                tasks.spawn("list of gateways", hear(shared, gateway, hearing, request, respond));
            }
            Some(Ok((request, respond))) => {
                shared.tasks.spawn("stream", stream::serve(Arc::clone(shared), gateway, request, respond));
            }
            Some(Err(error)) => return error.to_string(),
            None => return "the gateway ended it".to_owned(),
        }
    }
}

/// Takes in what a gateway hands over: the list of gateways. Answers whether it is one of them.
async fn hear(
    shared: Arc<Shared>,
    gateway: GatewayId,
    hearing: Arc<Semaphore>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let status = match hearing.try_acquire() {
        // One at a time: each may be long.
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
        Ok(_one) => heard(&shared, gateway, request).await,
    };
    let mut response = Response::new(());
    *response.status_mut() = status;
    // Nobody may be there to hear it.
    let _ = respond.send_response(response, true);
}

async fn heard(shared: &Shared, gateway: GatewayId, request: Request<RecvStream>) -> StatusCode {
    if request.uri().path() != ROSTER {
        return StatusCode::NOT_FOUND;
    }
    let Ok(Some(list)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, whole(request.into_body())).await else {
        return StatusCode::BAD_REQUEST;
    };
    match shared.rosters.take(&list) {
        Err(error) => {
            tracing::error!(%gateway, error = &error as &dyn std::error::Error, "a list of gateways is refused");
            StatusCode::BAD_REQUEST
        }
        Ok(Taken::New | Taken::Known) if shared.rosters.believes(gateway) => StatusCode::NO_CONTENT,
        Ok(Taken::New | Taken::Known) => StatusCode::FORBIDDEN,
    }
}

/// A body that is no longer than a list may be.
async fn whole(mut body: RecvStream) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.ok()?;
        if all.len().saturating_add(piece.len()) > MAX_ROSTER_BYTES {
            return None;
        }
        all.extend_from_slice(&piece);
        body.flow_control().release_capacity(piece.len()).ok()?;
    }
    Some(all)
}
