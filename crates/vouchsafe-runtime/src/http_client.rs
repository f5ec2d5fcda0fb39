//! HTTP over a stream that is already connected and verified: Unix sockets, TLS, tunnels.

use std::io;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::body::Body;
use crate::task::TaskGroup;

/// Failure of one exchange.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The peer closed, broke the protocol, or can't be reached.
    #[error("the HTTP exchange failed")]
    Http(#[from] hyper::Error),
    /// The stream could not be opened.
    #[error("could not connect")]
    Connect(#[from] io::Error),
    /// The answer is longer than the caller wants.
    #[error("the answer is longer than {limit_bytes} bytes")]
    TooLong {
        /// The caller's limit.
        limit_bytes: usize,
    },
}

/// Sends one HTTP/1.1 request and returns the answer with its body still streaming.
///
/// # Errors
/// [`ExchangeError`].
pub async fn send<S>(stream: S, request: Request<Body>, tasks: &TaskGroup) -> Result<Response<Incoming>, ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tasks.spawn("http client connection", async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "client connection ended");
        }
    });
    Ok(sender.send_request(request).await?)
}

/// Reads a whole body of at most `limit_bytes`.
///
/// # Errors
/// [`ExchangeError`].
pub async fn collect(body: Incoming, limit_bytes: usize) -> Result<Bytes, ExchangeError> {
    match Limited::new(body, limit_bytes).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => match error.downcast::<hyper::Error>() {
            Ok(error) => Err(ExchangeError::Http(*error)),
            Err(_) => Err(ExchangeError::TooLong { limit_bytes }),
        },
    }
}
