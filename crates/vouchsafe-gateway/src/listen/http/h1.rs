//! HTTP/1.1: served while there are requests, parked while there are none.
//!
//! The library's state for a connection is larger than the TLS session beneath it, and most
//! connections are idle most of the time. So once a connection has been quiet for a moment, it is
//! taken apart: HTTP is dropped, TLS waits alone, and HTTP is put on again at the next byte. That is
//! done only where the next byte is certain to begin a request: the last one was read to its end, its
//! answer has left, neither side wants to close, and nothing was read ahead.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderMap, Request, Version};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use vouchsafe_runtime::body::Body;
use vouchsafe_runtime::limits::{HEADER_TIMEOUT, MAX_HEAD_BYTES, MAX_HEADERS, PARK_AFTER};

use crate::gateway::Shared;
use crate::listen::activity::{Activity, Answering, until_read};
use crate::listen::guarded::Guarded;
use crate::listen::tended::Tended;
use crate::route::Connection;

/// How long to say goodbye.
const FAREWELL: Duration = Duration::from_secs(1);

pub(super) async fn serve<S>(shared: Arc<Shared>, stream: S, connection: Arc<Connection>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Activity::new();
    let stream = Guarded::new(stream, Arc::clone(&connection.framing));
    let mut stream = Tended::new(stream, Arc::clone(&activity));
    loop {
        // Boxed, so that it takes no memory while the connection is parked.
        let attending = Box::pin(attend(&shared, &connection, stream));
        match attending.await {
            Some(quiet) => stream = quiet,
            None => return,
        }
        if !stream.has_ahead() && !another(&shared, &connection, &mut stream).await {
            return;
        }
    }
}

/// Waits for the first bytes of another request; says whether there are some.
async fn another<S>(shared: &Shared, connection: &Connection, stream: &mut Tended<S>) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut first = [0; 32];
    let read = tokio::select! {
        read = stream.read(&mut first) => read,
        () = tokio::time::sleep(connection.place.idle_limit()) => Ok(0),
        () = shared.tasks.draining() => Ok(0),
    };
    match read {
        Ok(length @ 1..) => {
            stream.put_back(first.get(..length).unwrap_or_default());
            true
        }
        Ok(_) => {
            let _ = tokio::time::timeout(FAREWELL, stream.shutdown()).await;
            false
        }
        Err(_) => false,
    }
}

/// Serves requests until the connection ends, or is quiet: then it gives the stream back.
async fn attend<S>(shared: &Arc<Shared>, connection: &Arc<Connection>, stream: Tended<S>) -> Option<Tended<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = stream.attend_anew();
    let certain = Arc::new(AtomicBool::new(false));
    let service = service_fn({
        let (shared, connection) = (Arc::clone(shared), Arc::clone(connection));
        let (activity, certain) = (Arc::clone(&activity), Arc::clone(&certain));
        move |request: Request<Incoming>| {
            let (busy, activity) = (activity.begin(), Arc::clone(&activity));
            let closes = request.version() != Version::HTTP_11 || says_close(request.headers());
            let whole = Arc::clone(&certain);
            let request = request.map(|body| until_read(Body::from(body), Arc::clone(&whole)));
            let answering = super::answer(Arc::clone(&shared), Arc::clone(&connection), request);
            async move {
                let response = answering.await;
                if closes || says_close(response.headers()) {
                    activity.will_close();
                }
                Ok::<_, Infallible>(response.map(|body| Answering::new(body, Some(busy))))
            }
        }
    });
    let mut builder = Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD_BYTES)
        .half_close(false);
    let mut serving = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut may_park = true;
    let result = loop {
        tokio::select! {
            result = &mut serving => break result,
            () = shared.tasks.draining() => {
                std::pin::Pin::new(&mut serving).graceful_shutdown();
                break serving.await;
            }
            () = activity.idle(None, || PARK_AFTER), if may_park => {}
        }
        if activity.is_quiet() && certain.load(Ordering::Relaxed) {
            let parts = serving.into_parts()?;
            let mut stream = parts.io.into_inner();
            stream.put_back(&parts.read_buf);
            connection.familiar.forget();
            return Some(stream);
        }
        // Something is unfinished that only the library can finish; its own time limits hold.
        may_park = false;
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended with an error");
    }
    None
}

fn says_close(headers: &HeaderMap) -> bool {
    let values = headers.get_all(CONNECTION).iter();
    values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).any(|option| {
        let option = option.trim_ascii();
        option.eq_ignore_ascii_case(b"close")
    })
}
