//! The listener for those who run the process: `/metrics`, `/livez`, `/healthz`, `/readyz`. It says how much is
//! done and how well, and nothing of who did it; still, it is nobody's business outside.

use std::convert::Infallible;
use std::fs::Permissions;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Board, page};
use crate::body::{Body, full};
use crate::limits::{HEADER_TIMEOUT, MAX_VITALS_CONNECTIONS};
use crate::task::TaskGroup;

/// Wait after a failed accept, such as for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Where it is listened for those who run the process.
#[derive(Debug, Clone)]
pub enum Where {
    /// On a port.
    Port(SocketAddr),
    /// On a Unix socket, for the owner of its directory alone.
    Socket(PathBuf),
}

/// Failure to listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The port is not to be had.
    #[error("can't listen on {address} for metrics; is another program using it? choose another with `--metrics-addr`")]
    Port {
        /// The address.
        address: SocketAddr,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The socket can't be made.
    #[error("the socket `{path}` can't be made", path = path.display())]
    Socket {
        /// Its path.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

/// Who may ask: whether the name in `Host` has to be one of this machine itself.
///
/// A page in a browser on this machine may have a name of its own lead to loopback, and then read what is
/// answered as its own ("DNS rebinding"); but it can't choose another `Host`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    OfThisMachine,
    Any,
}

impl Board {
    /// Listens there and answers until `tasks` are cut. They had better be others than those that do the work:
    /// while those drain, it is still told how it goes. Gives the address, of a port.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn serve(&self, place: Where, tasks: &TaskGroup) -> Result<Option<SocketAddr>, ListenError> {
        match place {
            Where::Port(address) => {
                let failed = |source| ListenError::Port { address, source };
                let listener = TcpListener::bind(address).await.map_err(failed)?;
                let address = listener.local_addr().map_err(failed)?;
                let names = if address.ip().is_loopback() { Names::OfThisMachine } else { Names::Any };
                let accept = async move || listener.accept().await.map(|(stream, _)| stream);
                tasks.spawn_vital("metrics", self.clone().accept(tasks.clone(), names, accept));
                Ok(Some(address))
            }
            Where::Socket(path) => {
                let listener = bind(&path).map_err(|source| ListenError::Socket { path, source })?;
                let accept = async move || listener.accept().await.map(|(stream, _)| stream);
                tasks.spawn_vital("vitals", self.clone().accept(tasks.clone(), Names::Any, accept));
                Ok(None)
            }
        }
    }

    async fn accept<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        self,
        tasks: TaskGroup,
        names: Names,
        mut accept: impl AsyncFnMut() -> io::Result<S>,
    ) {
        let places = Arc::new(Semaphore::new(MAX_VITALS_CONNECTIONS));
        // More wait in the system's queue, whose length is bounded too.
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            match accept().await {
                Ok(stream) => tasks.spawn("vitals connection", self.clone().connection(stream, names, place)),
                Err(error) => {
                    tracing::warn!(%error, "a connection for metrics could not be accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    async fn connection<S>(self, stream: S, names: Names, _place: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |request: Request<Incoming>| {
            let board = self.clone();
            async move { Ok::<_, Infallible>(board.answer(&request, names).await) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .keep_alive(false)
            .max_buf_size(8 * 1024)
            .serve_connection(TokioIo::new(stream), service);
        // Who doesn't read the answer must not keep the place either.
        match tokio::time::timeout(HEADER_TIMEOUT * 2, served).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a connection for metrics ended"),
            Err(_) => tracing::debug!("a connection for metrics took too long"),
        }
    }

    async fn answer(&self, request: &Request<Incoming>, names: Names) -> Response<Body> {
        if names == Names::OfThisMachine && !names_this_machine(request.headers()) {
            return text(StatusCode::MISDIRECTED_REQUEST, "Ask by the address of this machine, or as localhost.\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "There is only something to read here.\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        match request.uri().path() {
            "/metrics" => match self.page().await {
                Ok(page) => answer(StatusCode::OK, page::CONTENT_TYPE, page),
                Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "The figures can't be written.\n"),
            },
            "/livez" | "/healthz" if self.is_alive() => text(StatusCode::OK, "ok\n"),
            "/livez" | "/healthz" => text(StatusCode::SERVICE_UNAVAILABLE, "a part of it ended unexpectedly\n"),
            "/readyz" => {
                let health = self.health().await;
                let status = if health.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                answer(status, "application/json", serde_json::to_vec(&health).unwrap_or_default())
            }
            _ => text(StatusCode::NOT_FOUND, "There are /metrics, /livez, /healthz and /readyz.\n"),
        }
    }
}

/// Whether `Host` is an address or `localhost`.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(HOST).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let Ok(host) = value.to_str() else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

fn bind(path: &PathBuf) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Between the two calls the mode of the directory keeps others out.
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn text(status: StatusCode, words: &'static str) -> Response<Body> {
    answer(status, "text/plain; charset=utf-8", words)
}

fn answer(status: StatusCode, kind: &'static str, body: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_its_own() {
        let with = |host: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static(host));
            names_this_machine(&headers)
        };
        for own in ["127.0.0.1", "127.0.0.1:9464", "localhost:9464", "LocalHost", "[::1]:9464", "[::1]"] {
            assert!(with(own), "{own}");
        }
        for foreign in ["evil.example", "evil.example:9464", "localhost.evil.example", "", "127.0.0.1.evil.example:1"] {
            assert!(!with(foreign), "{foreign}");
        }
        assert!(!names_this_machine(&HeaderMap::new()));
        let mut twice = HeaderMap::new();
        twice.append(HOST, HeaderValue::from_static("127.0.0.1"));
        twice.append(HOST, HeaderValue::from_static("evil.example"));
        assert!(!names_this_machine(&twice));
    }
}
