//! `POST /add-checkpoint`. Anybody may ask: what a log has signed says whether it counts. So everything that is asked has a
//! limit, of size, time, and number at once in all and from one address.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use vouchsafe_runtime::body::{Body, full};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::limits::{HANDSHAKE_TIMEOUT, HEADER_TIMEOUT};
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_runtime::tls::{self, ClientCertificates, Shown, TlsError};
use vouchsafe_tlog::witness::{AddCheckpoint, MAX_REQUEST_BYTES, Refusal};

use super::Witness;
use super::memory::Refused;

/// Connections at once; more wait in the system's queue.
pub const MAX_CONNECTIONS: usize = 256;
/// Of them, those from one address; more are closed.
pub const MAX_CONNECTIONS_PER_SOURCE: usize = 32;
/// Longest life of one connection.
const CONNECTION_LIFE: Duration = Duration::from_secs(120);
/// Longest time for one request's body to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait after a failed accept, such as for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Type of an answer that tells a size.
const SIZE_TYPE: &str = "text/x.tlog.size";
const TEXT_TYPE: &str = "text/plain; charset=utf-8";

/// A witness can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The port is not to be had.
    #[error("can't listen on {address}; is another program using it? choose another with `--listen`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Certificate and key won't do.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Connections by source.
type Sources = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// One connection's place; it is given back when it goes.
struct Place {
    ip: IpAddr,
    sources: Sources,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn take(ip: IpAddr, sources: &Sources, permit: OwnedSemaphorePermit) -> Option<Self> {
        let mut counts = sources.lock();
        let count = counts.entry(ip).or_default();
        if *count >= MAX_CONNECTIONS_PER_SOURCE {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Self { ip, sources: Arc::clone(sources), _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.sources.lock();
        if let Some(count) = counts.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.ip);
            }
        }
    }
}

impl Witness {
    /// Listens there and answers until the drain; over TLS where there is a certificate to show. Gives the address.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn serve(
        self: &Arc<Self>,
        address: SocketAddr,
        shown: Option<Arc<Shown>>,
        tasks: &TaskGroup,
    ) -> Result<SocketAddr, ServeError> {
        let acceptor = match shown {
            Some(shown) => {
                let config = tls::server(shown, &ClientCertificates::NotAsked, &[b"http/1.1"])?;
                Some(TlsAcceptor::from(Arc::new(config)))
            }
            None => None,
        };
        let failed = |source| ServeError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        tasks.spawn_vital("witness", Arc::clone(self).accept(listener, acceptor, tasks.clone()));
        Ok(address)
    }

    async fn accept(self: Arc<Self>, listener: TcpListener, acceptor: Option<TlsAcceptor>, tasks: TaskGroup) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let sources = Sources::default();
        loop {
            let accepted = async {
                // INVARIANT: it is never closed.
                let permit = Arc::clone(&places).acquire_owned().await.ok()?;
                Some((permit, listener.accept().await))
            };
            let accepted = tokio::select! {
                accepted = accepted => accepted,
                () = tasks.draining() => return,
            };
            match accepted {
                None => return,
                Some((permit, Ok((stream, from)))) => {
                    let Some(place) = Place::take(from.ip().to_canonical(), &sources, permit) else {
                        tracing::debug!(%from, "too many connections from one address");
                        continue;
                    };
                    let (witness, acceptor, group) = (Arc::clone(&self), acceptor.clone(), tasks.clone());
                    tasks.spawn("witness connection", async move {
                        let served = tokio::time::timeout(CONNECTION_LIFE, witness.connection(stream, acceptor, group));
                        if served.await.is_err() {
                            tracing::debug!(%from, "a connection lived too long");
                        }
                        drop(place);
                    });
                }
                Some((_, Err(error))) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, acceptor: Option<TlsAcceptor>, tasks: TaskGroup) {
        match acceptor {
            None => self.exchange(stream, tasks).await,
            Some(acceptor) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => self.exchange(stream, tasks).await,
                Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
                Err(_) => tracing::debug!("a handshake took too long"),
            },
        }
    }

    async fn exchange<S>(self: Arc<Self>, stream: S, tasks: TaskGroup)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |request: Request<Incoming>| {
            let witness = Arc::clone(&self);
            async move { Ok::<_, Infallible>(witness.answer(request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(16 * 1024)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = tasks.draining() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(%error, "a connection ended");
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        if request.uri().path() != "/add-checkpoint" {
            return told(StatusCode::NOT_FOUND, TEXT_TYPE, "This is a witness: there is /add-checkpoint.\n");
        }
        if request.method() != Method::POST {
            let mut refused = told(StatusCode::METHOD_NOT_ALLOWED, TEXT_TYPE, "It is asked by POST.\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return refused;
        }
        let body = Limited::new(request.into_body(), MAX_REQUEST_BYTES).collect();
        let body = match tokio::time::timeout(BODY_TIMEOUT, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                return told(StatusCode::PAYLOAD_TOO_LARGE, TEXT_TYPE, "The request is too long.\n");
            }
            Ok(Err(_)) => return told(StatusCode::BAD_REQUEST, TEXT_TYPE, "The request is not whole.\n"),
            Err(_) => return told(StatusCode::REQUEST_TIMEOUT, TEXT_TYPE, "The request took too long.\n"),
        };
        // It waits for the disk.
        let judged = tokio::task::spawn_blocking(move || self.judge(&body)).await;
        judged.unwrap_or_else(|_| told(StatusCode::INTERNAL_SERVER_ERROR, TEXT_TYPE, "The witness failed.\n"))
    }

    fn judge(&self, body: &[u8]) -> Response<Body> {
        let now = clock::unix_seconds(clock::now());
        let cosigned = AddCheckpoint::parse(body)
            .map_err(Refused::from)
            .and_then(|asked| self.memory.cosign(&asked, &self.signer, now));
        match cosigned {
            Ok(signature) => told(StatusCode::OK, TEXT_TYPE, signature.to_string()),
            Err(Refused::Refusal(refusal)) => {
                let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
                match refusal {
                    Refusal::Conflict { size } => told(status, SIZE_TYPE, format!("{size}\n")),
                    Refusal::Malformed | Refusal::UnknownOrigin | Refusal::Unsigned | Refusal::Inconsistent => {
                        told(status, TEXT_TYPE, format!("{refusal}\n"))
                    }
                }
            }
            Err(Refused::State(error)) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a checkpoint can't be kept, so it isn't cosigned"
                );
                told(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    TEXT_TYPE,
                    "The witness can't keep it, so it doesn't cosign it.\n",
                )
            }
        }
    }
}

fn told(status: StatusCode, kind: &'static str, body: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
