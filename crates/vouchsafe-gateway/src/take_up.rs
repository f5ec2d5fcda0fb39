//! A connection or stream that is taken up as plain bytes once its request is answered: CONNECT,
//! CONNECT-UDP, WebSocket.
//!
//! Each version of HTTP has its own way to such bytes. HTTP/1.1 gives up the connection and HTTP/2
//! the stream, both by hyper's upgrade. The HTTP/3 listener puts an [`Offer`] into the request. All
//! that comes after sees one type.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};

/// Bytes both ways. Its two directions end apart; to drop it before its end tells the client that
/// what came is not the whole.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What was taken up.
pub(crate) struct TakenUp {
    /// The bytes.
    pub(crate) stream: Box<dyn Stream>,
    /// HTTP Datagrams that travel beside the stream (RFC 9297 §2.1), where client and version have
    /// them. Without them they travel as capsules in the stream.
    pub(crate) datagrams: Option<Datagrams>,
}

/// HTTP Datagrams of one stream. They may be lost, and are dropped where they don't fit.
pub(crate) struct Datagrams {
    /// Payloads from the client, without the stream's number; few wait, more are dropped.
    pub(crate) incoming: mpsc::Receiver<Bytes>,
    /// To the client.
    pub(crate) send: SendDatagram,
}

/// Sends a payload to the client. Never waits; `false` when the connection is gone.
pub(crate) type SendDatagram = Box<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// A request's right to take up its connection or stream.
pub(crate) struct TakeUp(Source);

enum Source {
    Hyper(OnUpgrade),
    Offered(oneshot::Receiver<TakenUp>),
}

impl TakeUp {
    /// Of this request; it can be had once. The answer that agrees must still be sent: 2xx to a
    /// CONNECT, 101 to an upgrade.
    pub(crate) fn of<B>(request: &mut Request<B>) -> Self {
        let offered = request.extensions_mut().remove::<Offer>().and_then(|offer| offer.0.lock().take());
        Self(match offered {
            Some(offered) => Source::Offered(offered),
            None => Source::Hyper(hyper::upgrade::on(request)),
        })
    }

    /// Resolves once the answer has been sent.
    ///
    /// # Errors
    /// When the client went away before, or the answer was another one.
    pub(crate) async fn taken(self) -> io::Result<TakenUp> {
        match self.0 {
            Source::Hyper(upgrade) => {
                let upgraded = upgrade.await.map_err(io::Error::other)?;
                Ok(TakenUp { stream: Box::new(TokioIo::new(upgraded)), datagrams: None })
            }
            Source::Offered(offered) => {
                offered.await.map_err(|_| io::Error::new(io::ErrorKind::ConnectionAborted, "the stream has ended"))
            }
        }
    }
}

/// What a listener without hyper's upgrade puts into the extensions of a request.
#[derive(Clone)]
pub(crate) struct Offer(Arc<Mutex<Option<oneshot::Receiver<TakenUp>>>>);

impl Offer {
    /// An offer, and where what is taken up has to go. When the sender is dropped, or says that
    /// nobody listens, the request did not take anything up.
    pub(crate) fn new() -> (Self, oneshot::Sender<TakenUp>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Arc::new(Mutex::new(Some(receiver)))), sender)
    }
}
