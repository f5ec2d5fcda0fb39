//! WebSockets: in the place of an HTTP/1.1 connection (RFC 6455) or on a stream (RFC 8441, towards
//! clients also RFC 9220), each side joined to the other only when both have agreed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use vouchsafe_runtime::body::{Body, empty};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::relay::relay;
use vouchsafe_wire::websocket::{Frames, POLICY_VIOLATION, close_frame};

use crate::forward::headers;
use crate::forward::http::{Asked, Forward, ForwardError, Wanted, facing, pass, request};
use crate::forward::upstream::{Demand, Lease, Reuse};
use crate::gateway::Shared;
use crate::listen::Place;
use crate::take_up::TakeUp;
use crate::watch::{Ended, Flow};

/// Longest wait for a client that was cut to take the frame that says so.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Asks the upstream for a WebSocket, and joins it with the client's once both agree.
pub(super) async fn open(
    shared: &Arc<Shared>,
    asked: &Asked<'_>,
    mut incoming: Request<Body>,
) -> Result<Response<Body>, ForwardError> {
    let Asked { admission, flow, spec, target, what } = asked;
    let client = TakeUp::of(&mut incoming);
    let facing = facing(shared, asked)?;
    let upstream = shared.upstreams.of(admission.resource());
    let mut lease = upstream.lease(shared, admission, spec, Demand::Alone, Reuse::Welcome).await?;
    flow.set_connector(lease.connector());
    lease.set_apart(&shared.tasks);
    let mut headers = headers::to_upstream(incoming.headers(), &facing);
    let theirs = headers.remove(SEC_WEBSOCKET_KEY);
    // Streams have no key, and one is made where the upstream must have one.
    let key = match (what.wanted, theirs) {
        (Wanted::WebSocket, Some(key)) => key,
        _ => HeaderValue::from_str(&STANDARD.encode(clock::random::<16>())).unwrap_or(HeaderValue::from_static("")),
    };
    let handshake = match &lease {
        Lease::Alone(_) => {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(SEC_WEBSOCKET_KEY, key.clone());
            request(target, spec, &lease, headers, empty())?
        }
        Lease::Stream(stream) => {
            if !stream.takes_websockets(spec.connect_timeout).await {
                return Err(ForwardError::NoWebSockets);
            }
            let mut handshake = request(target, spec, &lease, headers, empty())?;
            *handshake.method_mut() = Method::CONNECT;
            handshake.extensions_mut().insert(Protocol::from_static("websocket"));
            handshake
        }
    };
    let mut response = lease.send(handshake).await.map_err(|failed| failed.error)?;
    let agreed = match lease.is_h2() {
        true => response.status() == StatusCode::OK,
        false => response.status() == StatusCode::SWITCHING_PROTOCOLS,
    };
    if !agreed {
        if response.status().is_success() && what.wanted == Wanted::WebSocketStream {
            // Passed on, it would say to the client that the WebSocket is open.
            return Err(ForwardError::Switch);
        }
        return pass(asked, Demand::Alone, lease, response);
    }
    if !lease.is_h2() && !accepts(response.headers(), &key) {
        return Err(ForwardError::Switch);
    }
    join(shared, flow, client, hyper::upgrade::on(&mut response), lease, Arc::clone(&what.place));
    Ok(agree(what, &key, response))
}

/// The answer that opens the client's side.
fn agree(what: &Forward<'_>, key: &HeaderValue, response: Response<Incoming>) -> Response<Body> {
    let mut response = response.map(|_| empty());
    headers::from_upstream(response.headers_mut(), what.own_host());
    let fields = response.headers_mut();
    fields.remove(SEC_WEBSOCKET_ACCEPT);
    if what.wanted == Wanted::WebSocket {
        fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::from_str(&accept(key)) {
            fields.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
    }
    *response.status_mut() = match what.wanted {
        Wanted::WebSocket => StatusCode::SWITCHING_PROTOCOLS,
        Wanted::WebSocketStream | Wanted::Answer => StatusCode::OK,
    };
    response
}

/// Whether the upstream really speaks WebSocket, and to us (RFC 6455 §4.1).
fn accepts(headers: &HeaderMap, key: &HeaderValue) -> bool {
    let only = |name: &HeaderName| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none())
    };
    only(&UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && only(&SEC_WEBSOCKET_ACCEPT).is_some_and(|value| value.as_bytes() == accept(key).as_bytes())
}

/// RFC 6455 §4.2.2. SHA-1 proves here that the other side knows the protocol, and nothing else.
fn accept(key: &HeaderValue) -> String {
    let mut text = key.as_bytes().to_vec();
    text.extend_from_slice(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, &text))
}

/// Joins the two sides until both have ended or access does. Nothing of either reaches the other
/// before: what a client sent early waits in its own connection.
fn join(shared: &Arc<Shared>, flow: &Arc<Flow>, client: TakeUp, upstream: OnUpgrade, lease: Lease, place: Arc<Place>) {
    let flow = Arc::clone(flow);
    shared.tasks.spawn("websocket", async move {
        let upstream = async { upstream.await.map_err(io::Error::other) };
        let opening = async { tokio::try_join!(client.taken(), upstream) };
        let opened = tokio::select! {
            opened = opening => opened,
            _ = flow.cut().cancelled() => return,
        };
        let (client, upstream) = match opened {
            Ok(opened) => opened,
            Err(error) => return flow.set_detail(format!("the WebSocket was not taken up: {error}")),
        };
        let mut client = Framed { inner: client.stream, frames: Frames::default() };
        let ended = tokio::select! {
            result = relay(&mut client, TokioIo::new(upstream), flow.traffic()) => {
                flow.set_detail(match result {
                    Ok(()) => "closed".to_owned(),
                    Err(error) => format!("broke off: {error}"),
                });
                None
            }
            ended = flow.cut().cancelled() => Some(ended),
        };
        if let Some(ended) = ended {
            let _ = tokio::time::timeout(LAST_WORD, client.say_why(ended)).await;
        }
        drop((place, lease));
    });
}

/// The client's side, with a look at where frames towards it begin and end.
struct Framed<S> {
    inner: S,
    frames: Frames,
}

impl<S: AsyncWrite + Unpin> Framed<S> {
    /// Tells a client whose access ended, in a frame of its own (RFC 6455 §7.4.1). In the middle of
    /// another frame there is no place for that, and the connection just ends, or the stream is reset.
    async fn say_why(&mut self, ended: Ended) -> io::Result<()> {
        if !self.frames.may_close() {
            return Ok(());
        }
        let words = match ended {
            Ended::Revoked(reason) => reason.words(),
            Ended::Silent(_) => "Nothing moved for too long.",
        };
        self.inner.write_all(&close_frame(POLICY_VIOLATION, words)).await?;
        self.inner.flush().await?;
        self.inner.shutdown().await
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Framed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Framed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        self.frames.advance(bytes.get(..written).unwrap_or(bytes));
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_the_key_of_rfc_6455() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
