//! HTTP to the authority: our own TLS and verifier, one connection for each request, every answer
//! bounded in size and time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use vouchsafe_runtime::body::boxed;
use vouchsafe_runtime::http_client;
use vouchsafe_runtime::task::TaskGroup;

/// Longest time of one request with its answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest answer, bytes: a chain of certificates has a few thousand.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// Speaks HTTP with one authority.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) tls: Arc<ClientConfig>,
    pub(super) tasks: TaskGroup,
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            match tokio::time::timeout(PATIENCE, client.exchange(request)).await {
                Ok(Ok(response)) => Ok(response.into()),
                Ok(Err(error)) => Err(Error::Other(error)),
                Err(_) => Err(Error::Other(format!("no answer within {PATIENCE:?}").into())),
            }
        })
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Client {
    async fn exchange(&self, request: Request<BodyWrapper<Bytes>>) -> Result<Response<Full<Bytes>>, BoxError> {
        let (mut parts, body) = request.into_parts();
        if parts.uri.scheme_str() != Some("https") {
            return Err("the authority is asked over https only".into());
        }
        let authority = parts.uri.authority().cloned().ok_or("the authority's address names no host")?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let tcp = TcpStream::connect((host.as_str(), authority.port_u16().unwrap_or(443))).await?;
        let tls = TlsConnector::from(Arc::clone(&self.tls)).connect(ServerName::try_from(host)?, tcp).await?;
        parts.headers.insert(HOST, HeaderValue::from_str(authority.as_str())?);
        parts.uri = Uri::builder().path_and_query(parts.uri.path_and_query().map_or("/", |it| it.as_str())).build()?;
        let body = body.collect().await?.to_bytes();
        let request = Request::from_parts(parts, boxed(Full::new(body)));
        let (parts, body) = http_client::send(tls, request, &self.tasks).await?.into_parts();
        let body = http_client::collect(body, MAX_ANSWER_BYTES).await?;
        Ok(Response::from_parts(parts, Full::new(body)))
    }
}
