//! HTTP/1.1 and HTTP/2 on a connection whose handshake is over.

use std::future::Future;
use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;
use vouchsafe_runtime::body::Body;
use vouchsafe_runtime::limits::{HEADER_TIMEOUT, MAX_H2_STREAMS, MAX_HEAD_BYTES, MAX_HEADERS};
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_wire::framing::Answered;

use crate::gateway::Shared;
use crate::listen::guarded::Guarded;
use crate::route::{self, Connection};

/// Serves a connection until it ends or the drain has let it finish.
pub(super) async fn serve<S>(shared: Arc<Shared>, stream: TlsStream<S>, connection: Arc<Connection>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let tasks = shared.tasks.clone();
    let framing = Arc::clone(&connection.framing);
    let service = service_fn(move |request: Request<Incoming>| {
        let (shared, connection) = (Arc::clone(&shared), Arc::clone(&connection));
        async move { Ok::<_, std::convert::Infallible>(respond(shared, connection, request, is_h2).await) }
    });
    let result = if is_h2 {
        let mut builder = hyper::server::conn::http2::Builder::new(InGroup(tasks.clone()));
        builder
            .timer(TokioTimer::new())
            .enable_connect_protocol()
            .max_concurrent_streams(MAX_H2_STREAMS)
            .enable_connect_protocol()
            .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(20)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .max_frame_size(64 * 1024)
            .keep_alive_interval(std::time::Duration::from_secs(30))
            .keep_alive_timeout(std::time::Duration::from_secs(20));
        let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            result = serving.as_mut() => result,
            () = tasks.draining() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        }
    } else {
        let stream = Guarded::new(stream, framing);
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .max_header_size(MAX_HEAD_BYTES)
            .half_close(false);
        let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
        tokio::select! {
            result = serving.as_mut() => result,
            () = tasks.draining() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended with an error");
    }
}

/// Answers one request. In HTTP/1.1 the framing guard must have let it through, and is told whether
/// the connection changes its protocol.
async fn respond(
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    request: Request<Incoming>,
    is_h2: bool,
) -> Response<Body> {
    if is_h2 {
        return route::handle(shared, connection, request.map(Body::from)).await;
    }
    if let Err(fault) = connection.framing.begin() {
        return route::refuse_unframed(&shared, &connection, fault).await;
    }
    let is_connect = request.method() == Method::CONNECT;
    let response = route::handle(shared, Arc::clone(&connection), request.map(Body::from)).await;
    let switches =
        response.status() == StatusCode::SWITCHING_PROTOCOLS || (is_connect && response.status().is_success());
    connection.framing.answered(if switches { Answered::Switched } else { Answered::Stayed });
    response
}

/// Runs the library's tasks (HTTP/2 streams) in our group.
#[derive(Clone)]
struct InGroup(TaskGroup);

impl<F> Executor<F> for InGroup
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        self.0.spawn("http/2 stream", async move {
            future.await;
        });
    }
}
