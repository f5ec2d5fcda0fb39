//! HTTP on a connection whose handshake is over.

mod h1;
mod h2;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use http::header::{AUTHORIZATION, CONNECTION, COOKIE, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;
use vouchsafe_runtime::body::Body;
use vouchsafe_runtime::internal::{BoxFuture, OwnHost};
use vouchsafe_wire::framing::Answered;

use crate::answer;
use crate::gateway::Shared;
use crate::listen::census::Brings;
use crate::names::Site;
use crate::proxies::PROOF;
use crate::route::{self, Connection};

/// Serves a connection until it ends or the drain has let it finish.
pub(super) async fn serve<S>(shared: Arc<Shared>, stream: TlsStream<S>, connection: Arc<Connection>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => h2::serve(shared, stream, connection).await,
        Some(_) | None => h1::serve(shared, stream, connection).await,
    }
}

/// Answers one request, if it is taken on.
///
/// Boxed once, here: the library and the tasks around it move this future about, and a future that is
/// moved costs a copy of all its room.
pub(super) fn answer(
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    request: Request<Body>,
) -> BoxFuture<'static, Response<Body>> {
    Box::pin(answer_in_place(shared, connection, request))
}

/// In HTTP/1.1 the framing guard must have let it through,
/// and is told whether the connection changes its protocol. A panic on the way to the answer is this
/// request's alone.
async fn answer_in_place(shared: Arc<Shared>, connection: Arc<Connection>, request: Request<Body>) -> Response<Body> {
    let is_h1 = !matches!(request.version(), Version::HTTP_2 | Version::HTTP_3);
    let is_connect = request.method() == Method::CONNECT;
    let framed = if is_h1 { connection.framing.begin() } else { Ok(()) };
    let brings = match proves_a_proxy(&shared, &connection, request.headers()) {
        true => Brings::Proof,
        false => brings(request.headers()),
    };
    let mut response = match connection.place.admit(brings, Instant::now()) {
        Ok(admission) => {
            let handling = async {
                match framed {
                    Ok(()) => route::handle(&shared, &connection, request).await,
                    Err(fault) => Box::pin(route::refuse_unframed(&shared, &connection, fault)).await,
                }
            };
            let handled = AssertUnwindSafe(handling).catch_unwind().await;
            drop(admission);
            handled.unwrap_or_else(|_| {
                shared.tasks.note_panic("request");
                closing(answer::plain(StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong; it has been noted."))
            })
        }
        // The body was not looked at, so where the next request begins is unknown.
        Err(refused) => closing(answer::shed(refused)),
    };
    if !is_h1 {
        response.headers_mut().remove(CONNECTION);
    } else if framed.is_ok() {
        let switches =
            response.status() == StatusCode::SWITCHING_PROTOCOLS || (is_connect && response.status().is_success());
        connection.framing.answered(if switches { Answered::Switched } else { Answered::Stayed });
    }
    response
}

fn closing(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn proves_a_proxy(shared: &Shared, connection: &Connection, headers: &HeaderMap) -> bool {
    connection.site == Site::Own(OwnHost::Gateway) && shared.proxies.proven(headers).is_some()
}

fn brings(headers: &HeaderMap) -> Brings {
    let any = [COOKIE, AUTHORIZATION, PROXY_AUTHORIZATION, PROOF].iter().any(|name| headers.contains_key(name));
    if any { Brings::Credential } else { Brings::Nothing }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::listen::census::{Census, ConnectionLimits};

    #[test]
    fn what_could_prove_somebody_is_looked_at_in_a_flood() {
        let census = Arc::new(Census::new(ConnectionLimits { all: 8, per_source: 100 }));
        let (now, ip) = (Instant::now(), IpAddr::from([192, 0, 2, 1]));
        let come = || {
            let place = census.enter(ip, now).unwrap();
            place.arrived(None);
            place
        };
        let _flood: Vec<_> = (0..6).map(|_| come()).collect();
        let late = come();
        assert!(late.admit(brings(&HeaderMap::new()), now).is_err());
        for name in ["cookie", "authorization", "proxy-authorization", "x-vouchsafe-proxy"] {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_static("x"))]);
            assert!(late.admit(brings(&headers), now).is_ok(), "{name}");
        }
    }
}
