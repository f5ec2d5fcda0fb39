//! One request on a stream of its own, answered by the same code as in every other version.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::header::EXPECT;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame as BodyFrame};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use vouchsafe_runtime::body::{Body, BodyError, boxed, empty};
use vouchsafe_runtime::limits::{HALF_OPEN_IDLE, HEADER_TIMEOUT, MAX_HEAD_BYTES, MAX_HEADERS};
use vouchsafe_wire::http3::head::{self, HeadError, Protocol};
use vouchsafe_wire::http3::{Frame, code, frame};
use vouchsafe_wire::qpack::{self, QpackError};

use super::connection::Session;
use super::stream::{Bytewise, Content, Ends, Fault, Incoming, Outgoing, Patience, StreamError};
use crate::listen::http as serving;
use crate::take_up::{Offer, TakenUp};

/// Serves one stream from its first frame to its end.
pub(super) async fn serve(session: Arc<Session>, number: u64, mut outgoing: Outgoing, mut incoming: Incoming) {
    let read = tokio::time::timeout(HEADER_TIMEOUT, read_head(&mut incoming)).await;
    let request = match read {
        Ok(Ok(request)) => request,
        Ok(Err(error)) => return refuse(&session, outgoing, incoming, &error).await,
        Err(_) => {
            incoming.stop(code::REQUEST_CANCELLED);
            session.ended_barren();
            return outgoing.reset(code::REQUEST_CANCELLED);
        }
    };
    let is_connect = request.method() == Method::CONNECT;
    let is_head = request.method() == Method::HEAD;
    let announced = match head::content_length(request.headers()) {
        Ok(_) if is_connect => None,
        Ok(announced) => announced,
        Err(error) => return refuse(&session, outgoing, incoming, &error.into()).await,
    };
    let fault = Fault::default();
    let mut content = Content::new(incoming, announced, fault.clone());
    if is_connect {
        return Box::pin(connect(session, number, outgoing, content, request)).await;
    }
    // Whether there is content must be known before the request is sent on. Only the methods that
    // usually have some are not waited for: theirs may come while the answer is already under way.
    // Nor who waits to be asked for it.
    let expects = request.headers().contains_key(EXPECT);
    let streams = expects || matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    let patience = if streams && announced != Some(0) { Patience::None } else { Patience::UntilKnown };
    match tokio::time::timeout(HEADER_TIMEOUT, content.settle(patience)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return end(&session, outgoing, &error),
        Err(_) => {
            session.ended_barren();
            return outgoing.reset(code::REQUEST_CANCELLED);
        }
    }
    let wanted = if expects { Some(content.wanted()) } else { None };
    let body = if content.is_over() { empty() } else { boxed(content) };
    let answering =
        serving::answer(Arc::clone(session.shared()), Arc::clone(session.connection()), request.map(|()| body));
    let Some(response) = unless_unwanted(&mut outgoing, answering, wanted).await else {
        session.ended_barren();
        return outgoing.reset(code::REQUEST_CANCELLED);
    };
    if let Some((code, ends)) = fault.get() {
        // What the client sent was malformed: it gets that, and no answer.
        return end_with(&session, outgoing, code, ends);
    }
    answer(outgoing, response, is_head).await;
}

/// The answer, unless the client wants none any more. Who waits for "100 Continue" gets it when the
/// content is first asked for.
async fn unless_unwanted(
    outgoing: &mut Outgoing,
    answering: impl Future<Output = Response<Body>>,
    wanted: Option<oneshot::Receiver<()>>,
) -> Option<Response<Body>> {
    let mut answering = pin!(answering);
    let mut unwanted = pin!(outgoing.unwanted());
    if let Some(wanted) = wanted {
        tokio::select! {
            response = &mut answering => return Some(response),
            () = &mut unwanted => return None,
            // An error says that the content is gone, so that nobody will ask for it.
            Ok(()) = wanted => {
                let interim = head::answer(StatusCode::CONTINUE, &HeaderMap::new());
                outgoing.fields(&interim).await.ok()?;
            }
        }
    }
    tokio::select! {
        response = answering => Some(response),
        () = unwanted => None,
    }
}

async fn read_head(incoming: &mut Incoming) -> Result<Request<()>, StreamError> {
    match incoming.next().await? {
        Some(Frame::Whole { kind: frame::HEADERS, content }) => {
            let (mut request, protocol) = head::request(qpack::decode(&content, MAX_HEAD_BYTES)?, MAX_HEADERS)?;
            if let Some(protocol) = protocol {
                // What the library says of a stream of HTTP/2.
                request.extensions_mut().insert(hyper::ext::Protocol::from_static(match protocol {
                    Protocol::ConnectUdp => "connect-udp",
                    Protocol::WebSocket => "websocket",
                }));
            }
            Ok(request)
        }
        Some(Frame::Whole { kind, .. }) => Err(StreamError::Unexpected(kind)),
        Some(Frame::Data(_)) => Err(StreamError::Unexpected(frame::DATA)),
        None => Err(StreamError::Incomplete),
    }
}

/// CONNECT in all its forms: when the answer agrees, the stream is taken up.
async fn connect(session: Arc<Session>, number: u64, mut outgoing: Outgoing, content: Content, request: Request<()>) {
    let (offer, taker) = Offer::new();
    let mut request = request.map(|()| empty());
    let protocol = request.extensions().get::<hyper::ext::Protocol>();
    let with_datagrams = protocol.is_some_and(|protocol| protocol.as_str() == "connect-udp");
    request.extensions_mut().insert(offer);
    // Datagrams that come before the answer wait, a few of them.
    let datagrams = if with_datagrams { session.datagrams(number).await } else { None };
    let answering = serving::answer(Arc::clone(session.shared()), Arc::clone(session.connection()), request);
    let Some(response) = unless_unwanted(&mut outgoing, answering, None).await else {
        session.ended_barren();
        return outgoing.reset(code::REQUEST_CANCELLED);
    };
    if !response.status().is_success() {
        return answer(outgoing, response, false).await;
    }
    if taker.is_closed() {
        // Access ended before the stream was taken up; it must not look like an open one that ended.
        return outgoing.reset(code::REQUEST_CANCELLED);
    }
    if outgoing.fields(&head::answer(response.status(), response.headers())).await.is_ok() {
        let stream = Box::new(Bytewise::new(content, outgoing, session.open()));
        let _ = taker.send(TakenUp { stream, datagrams });
    }
}

/// Sends an answer; when its body fails or nobody wants it any more, the stream is reset and not ended.
async fn answer(mut outgoing: Outgoing, response: Response<Body>, is_head: bool) {
    // A client may take its leave while there is nothing to send.
    let unwanted = outgoing.unwanted();
    let whole = tokio::select! {
        whole = pass(&mut outgoing, response, is_head) => whole,
        () = unwanted => None,
    };
    match whole {
        Some(()) => deliver(outgoing).await,
        None => outgoing.reset(code::REQUEST_CANCELLED),
    }
}

/// Sends head, content and trailers; `None` when they are not whole.
async fn pass(outgoing: &mut Outgoing, response: Response<Body>, is_head: bool) -> Option<()> {
    let (parts, mut body) = response.into_parts();
    outgoing.fields(&head::answer(parts.status, &parts.headers)).await.ok()?;
    if is_head || body.is_end_stream() {
        return Some(());
    }
    let mut trailers: Option<HeaderMap> = None;
    let mut next = body.frame().await;
    loop {
        let data = match next {
            None => break,
            // The upstream broke off or access ended.
            Some(Err(_)) => return None,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => data,
                Err(frame) => {
                    trailers = frame.into_trailers().ok();
                    break;
                }
            },
        };
        next = send(outgoing, data, &mut body).await?;
    }
    if let Some(trailers) = trailers {
        outgoing.fields(&head::answer_trailers(&trailers)).await.ok()?;
    }
    Some(())
}

/// Ends a stream and waits until the client has it all: during a drain the connection is closed once
/// nothing is open. What nobody fetches is not kept for ever.
async fn deliver(mut outgoing: Outgoing) {
    outgoing.finish();
    if tokio::time::timeout(HALF_OPEN_IDLE, outgoing.unwanted()).await.is_err() {
        outgoing.reset(code::REQUEST_CANCELLED);
    }
}

/// Sends content and asks the body on while the client takes its time, so that a cut is seen at
/// once. `None` when the client is gone.
async fn send(
    outgoing: &mut Outgoing,
    data: Bytes,
    body: &mut Body,
) -> Option<Option<Result<BodyFrame<Bytes>, BodyError>>> {
    if data.is_empty() {
        return Some(body.frame().await);
    }
    let sending = std::pin::pin!(outgoing.content(data));
    let asking = std::pin::pin!(body.frame());
    match select(sending, asking).await {
        Either::Left((Ok(()), asking)) => Some(asking.await),
        Either::Left((Err(_), _)) => None,
        Either::Right((Some(Err(error)), _)) => Some(Some(Err(error))),
        Either::Right((next, sending)) => sending.await.ok().map(|()| next),
    }
}

/// A request that can't be read: too much is answered in words, everything else is an error of the
/// stream or the connection.
async fn refuse(session: &Session, mut outgoing: Outgoing, mut incoming: Incoming, error: &StreamError) {
    let status = match error {
        StreamError::Fields(QpackError::TooLarge) | StreamError::Head(HeadError::TooMany) => {
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
        }
        StreamError::Head(HeadError::Protocol) => StatusCode::NOT_IMPLEMENTED,
        error => {
            incoming.stop(error.code().0);
            return end(session, outgoing, error);
        }
    };
    session.ended_barren();
    incoming.stop(code::NO_ERROR);
    if outgoing.fields(&head::answer(status, &HeaderMap::new())).await.is_ok() {
        deliver(outgoing).await;
    }
}

fn end(session: &Session, outgoing: Outgoing, error: &StreamError) {
    let (code, ends) = error.code();
    tracing::debug!(%error, "a stream can't be read");
    end_with(session, outgoing, code, ends);
}

fn end_with(session: &Session, mut outgoing: Outgoing, code: u32, ends: Ends) {
    match ends {
        Ends::Connection => session.close(code, &"a stream broke the rules"),
        Ends::Stream => session.ended_barren(),
    }
    outgoing.reset(code);
}
