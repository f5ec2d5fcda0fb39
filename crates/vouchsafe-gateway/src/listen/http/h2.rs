//! HTTP/2: streams, frames and idleness within limits.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use http::Request;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use vouchsafe_runtime::body::Body;
use vouchsafe_runtime::limits::{
    H2_SEND_BUFFER_BYTES, HEADER_TIMEOUT, MAX_H2_FORCED_RESETS, MAX_H2_STREAMS, MAX_HEAD_BYTES,
};
use vouchsafe_runtime::task::TaskGroup;

use crate::gateway::Shared;
use crate::listen::activity::Activity;
use crate::listen::frames::Metered;
use crate::route::Connection;

/// How long a client that never asked for anything has to take its leave.
const FAREWELL: Duration = Duration::from_secs(1);

pub(super) async fn serve<S>(shared: Arc<Shared>, stream: S, connection: Arc<Connection>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let tasks = shared.tasks.clone();
    let place = Arc::clone(&connection.place);
    let activity = Activity::new();
    let service = service_fn(move |request: Request<Incoming>| {
        super::answer(Arc::clone(&shared), Arc::clone(&connection), request.map(Body::from)).map(Ok::<_, Infallible>)
    });
    let mut builder = Builder::new(Streams { tasks: tasks.clone(), activity: Arc::clone(&activity) });
    builder
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(MAX_H2_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(MAX_H2_FORCED_RESETS)
        .max_send_buf_size(H2_SEND_BUFFER_BYTES)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_frame_size(64 * 1024)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    let mut serving = Box::pin(builder.serve_connection(TokioIo::new(Metered::client(stream)), service));
    let result = tokio::select! {
        result = serving.as_mut() => result,
        () = tasks.draining() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
        // GOAWAY, not a cut: a request that crosses it is still answered. A client that doesn't
        // take part in that is noticed by the keep-alive.
        () = activity.idle(Some(HEADER_TIMEOUT), || place.idle_limit()) => {
            serving.as_mut().graceful_shutdown();
            if activity.has_served() {
                serving.await
            } else {
                // It may not even have sent its preface, which the library waits for without limit.
                tokio::time::timeout(FAREWELL, serving).await.unwrap_or(Ok(()))
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended with an error");
    }
}

/// Runs the library's tasks, which are the connection's streams, in our group, and counts them.
#[derive(Clone)]
struct Streams {
    tasks: TaskGroup,
    activity: Arc<Activity>,
}

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        let busy = self.activity.begin();
        self.tasks.spawn("http/2 stream", future.map(move |_| drop(busy)));
    }
}
