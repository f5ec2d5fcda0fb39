//! Answers a public authority that asks over HTTP whether a name is ours (`http-01`, RFC 8555 §8.3),
//! and nobody anything else: no request comes from here to anything of ours.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_TYPE, HOST, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use vouchsafe_runtime::body::{Body, boxed};
use vouchsafe_wire::authority::Authority;

use crate::gateway::Shared;

const PREFIX: &str = "/.well-known/acme-challenge/";
/// Connections at once. An authority asks from a handful of places; whoever is too much is closed.
const MOST: usize = 64;
/// Longest life of a connection, which serves one request.
const LIFE: Duration = Duration::from_secs(10);
/// Longest request head, bytes.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// Accepts until the drain begins.
pub(crate) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.tasks.draining() => return,
        };
        match (accepted, Arc::clone(&places).try_acquire_owned()) {
            (Ok((stream, _)), Ok(place)) => {
                let serving = Arc::clone(&shared);
                shared.tasks.spawn("acme http connection", async move {
                    // Nothing is lost with a connection that takes too long.
                    drop(tokio::time::timeout(LIFE, serve(serving, stream)).await);
                    drop(place);
                });
            }
            (Ok(_), Err(_)) => tracing::debug!("too many connections on the port for ACME; one is closed"),
            (Err(error), _) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(shared: Arc<Shared>, stream: TcpStream) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(&shared, &request);
        async move { Ok::<_, std::convert::Infallible>(response) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection on the port for ACME ended with an error");
    }
}

fn answer(shared: &Shared, request: &Request<Incoming>) -> Response<Body> {
    let found = (request.method() == Method::GET).then(|| find(shared, request)).flatten();
    let (status, text) = match found {
        Some(answer) => (StatusCode::OK, answer),
        None => (StatusCode::NOT_FOUND, "There is nothing here.\n".to_owned()),
    };
    let mut response = Response::new(boxed(http_body_util::Full::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn find(shared: &Shared, request: &Request<Incoming>) -> Option<String> {
    let token = request.uri().path().strip_prefix(PREFIX)?;
    let mut hosts = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return None };
    let host = Authority::parse(host.to_str().ok()?).ok()?.host;
    shared.certificates.http_answer(&host, token)
}
