//! Where a stream goes, and what goes along; sealed, for parts of it are secrets.

use std::time::Duration;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::Url;
use vouchsafe_model::resource::never_upstream;
use vouchsafe_runtime::tls::{self, Credentials, Oldest, ServerTrust};
use vouchsafe_wire::api::{NewStream, StreamDoc, StreamFormat, StreamKind};
use vouchsafe_wire::otlp::LOGS_PATH;
use zeroize::{Zeroize, Zeroizing};

use super::StreamError;
use super::otlp::Collector;
use super::syslog::Receiver;
use crate::context::Context;
use crate::outward::{self, chain};
use crate::store::StoreError;

/// Longest time until it is connected, and of one batch.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Longest time of a try.
const TRY_PATIENCE: Duration = Duration::from_secs(10);
/// Longest address.
const MAX_ADDRESS_BYTES: usize = 2_000;
/// Longest roots, certificate or key.
const MAX_PEM_BYTES: usize = 64 * 1024;
/// Most header fields, and their length together.
const MAX_HEADERS: usize = 16;
const MAX_HEADER_BYTES: usize = 8 * 1024;
/// Port of syslog over TLS (RFC 5425 §4.1).
const SYSLOG_PORT: u16 = 6_514;

/// Where records go.
pub(super) struct Target {
    pub(super) kind: StreamKind,
    pub(super) format: StreamFormat,
    url: Url,
    port: u16,
    sealed: Sealed,
}

/// What is sealed of it.
#[derive(Serialize, Deserialize)]
struct Sealed {
    address: String,
    headers: Vec<(String, String)>,
    roots_pem: Option<String>,
    certificate_pem: Option<String>,
    key_pem: Option<String>,
}

impl Drop for Sealed {
    fn drop(&mut self) {
        self.headers.iter_mut().for_each(|(_, value)| value.zeroize());
        self.key_pem.zeroize();
    }
}

impl Target {
    /// Says why nothing can be sent there.
    pub(super) fn new(new: &NewStream) -> Result<Self, String> {
        let NewStream { name: _, kind, address, format, from: _, headers, roots_pem, certificate_pem, key_pem } = new;
        let sealed = Sealed {
            address: address.clone(),
            headers: headers.clone(),
            roots_pem: roots_pem.clone(),
            certificate_pem: certificate_pem.clone(),
            key_pem: key_pem.clone(),
        };
        Self::of(*kind, *format, sealed)
    }

    /// One out of the database.
    pub(super) fn open(context: &Context, stream: &StreamDoc, sealed: &[u8]) -> Result<Self, StreamError> {
        let corrupt = || StreamError::Store(StoreError::Corrupt { what: "stream" });
        let opened = context.ca.open_stream(&context.settings, &stream.name, sealed)?;
        let sealed: Sealed = serde_json::from_slice(&opened).map_err(|_| corrupt())?;
        Self::of(stream.kind, stream.format, sealed).map_err(|_| corrupt())
    }

    fn of(kind: StreamKind, format: StreamFormat, sealed: Sealed) -> Result<Self, String> {
        let pems = [&sealed.roots_pem, &sealed.certificate_pem, &sealed.key_pem];
        let long = pems.into_iter().flatten().any(|pem| pem.len() > MAX_PEM_BYTES);
        if long || sealed.address.len() > MAX_ADDRESS_BYTES {
            return Err("it, or what goes along, is too long".to_owned());
        }
        if sealed.certificate_pem.is_some() != sealed.key_pem.is_some() {
            return Err("a certificate needs its key, and a key its certificate".to_owned());
        }
        let (url, port) = match kind {
            StreamKind::Syslog => syslog_place(&sealed.address)?,
            StreamKind::Otlp => otlp_place(&sealed.address)?,
        };
        if let Some(why) = outward::literal(&url).and_then(never_upstream) {
            return Err(why.to_owned());
        }
        let target = Self { kind, format, url, port, sealed };
        target.headers()?;
        if target.is_secure() {
            target.config()?;
        }
        Ok(target)
    }

    /// What is to be sealed.
    pub(super) fn to_sealed(&self) -> Zeroizing<Vec<u8>> {
        // INVARIANT: texts are always JSON.
        Zeroizing::new(serde_json::to_vec(&self.sealed).unwrap_or_default())
    }

    /// What of the address may be shown.
    pub(super) fn shown(&self) -> String {
        match self.kind {
            StreamKind::Syslog => self.authority(),
            StreamKind::Otlp => self.url.origin().ascii_serialization(),
        }
    }

    pub(super) fn authority(&self) -> String {
        format!("{}:{}", self.url.host_str().unwrap_or_default(), self.port)
    }

    pub(super) fn path(&self) -> &str {
        self.url.path()
    }

    /// Whether it is reached by TLS.
    pub(super) fn is_secure(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Header fields that go along.
    pub(super) fn headers(&self) -> Result<HeaderMap, String> {
        let given = &self.sealed.headers;
        if !given.is_empty() && self.kind == StreamKind::Syslog {
            return Err("syslog has no header fields".to_owned());
        }
        let bytes: usize = given.iter().map(|(name, value)| name.len() + value.len()).sum();
        if given.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
            return Err("there are too many header fields".to_owned());
        }
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            let name = HeaderName::try_from(name).map_err(|_| "the name of a header field is none".to_owned())?;
            if [HOST, CONTENT_TYPE, CONTENT_LENGTH, TRANSFER_ENCODING].contains(&name) {
                return Err(format!("the header field `{name}` is set already"));
            }
            let mut value =
                HeaderValue::try_from(value).map_err(|_| format!("the header field `{name}` has no such value"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }

    fn config(&self) -> Result<ClientConfig, String> {
        let Sealed { address: _, headers: _, roots_pem, certificate_pem, key_pem } = &self.sealed;
        let trust = match roots_pem {
            Some(pem) => ServerTrust::Roots(tls::roots(pem, "root of the stream").map_err(|error| chain(&error))?),
            None => ServerTrust::Public,
        };
        let own = match (certificate_pem, key_pem) {
            (Some(chain_pem), Some(key_pem)) => Some(Credentials { chain_pem, key_pem }),
            (Some(_) | None, _) => None,
        };
        // Receivers of syslog are often older than TLS 1.3, which RFC 9662 doesn't ask of them.
        let (oldest, protocols): (_, &[&[u8]]) = match self.kind {
            StreamKind::Syslog => (Oldest::Tls12, &[]),
            StreamKind::Otlp => (Oldest::Tls13, &[b"http/1.1"]),
        };
        tls::client_since(oldest, trust, own.as_ref(), protocols).map_err(|error| chain(&error))
    }

    /// Connects, and verifies who answers.
    pub(super) async fn tcp(&self) -> Result<TcpStream, String> {
        let addresses = outward::addresses(&self.url, self.port).await?;
        TcpStream::connect(&*addresses).await.map_err(|error| format!("can't connect: {error}"))
    }

    /// TLS over it.
    pub(super) async fn tls(&self, tcp: TcpStream) -> Result<TlsStream<TcpStream>, String> {
        let name = ServerName::try_from(outward::host(&self.url)).map_err(|_| "its name is none of TLS".to_owned())?;
        let connector = TlsConnector::from(std::sync::Arc::new(self.config()?));
        connector.connect(name, tcp).await.map_err(|error| chain(&error))
    }

    /// Reaches it once, with what is no record.
    pub(super) async fn try_out(&self, context: &Context) -> Result<(), String> {
        let tried = async {
            match self.kind {
                StreamKind::Syslog => Receiver::connect(self, context, 0).await?.try_out().await,
                StreamKind::Otlp => Collector::new(self, context)?.try_out().await,
            }
        };
        match tokio::time::timeout(TRY_PATIENCE, tried).await {
            Ok(tried) => tried,
            Err(_) => Err(format!("no answer within {} s", TRY_PATIENCE.as_secs())),
        }
    }
}

/// `host:port`, always by TLS.
fn syslog_place(address: &str) -> Result<(Url, u16), String> {
    let wrong = || "it is no `host:port`".to_owned();
    let url = Url::parse(&format!("https://{address}")).map_err(|_| wrong())?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !bare || address.ends_with('/') || !url.username().is_empty() || url.password().is_some() {
        return Err(wrong());
    }
    // A URL leaves out the port that is its scheme's own.
    let port = url.port().unwrap_or(if address.ends_with(":443") { 443 } else { SYSLOG_PORT });
    Ok((url, port))
}

fn otlp_place(address: &str) -> Result<(Url, u16), String> {
    let mut url = Url::parse(address).map_err(|error| error.to_string())?;
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() || url.query().is_some() {
        return Err("it has a user, a password, a query or a fragment".to_owned());
    }
    match url.scheme() {
        "https" => {}
        "http" if outward::literal(&url).is_some_and(|address| address.is_loopback()) => {}
        "http" => return Err("without TLS it must be a loopback address".to_owned()),
        _ => return Err("it is neither https nor http".to_owned()),
    }
    if url.path() == "/" {
        url.set_path(LOGS_PATH);
    }
    let port = url.port_or_known_default().ok_or("it has no port")?;
    Ok((url, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(kind: StreamKind, address: &str) -> NewStream {
        NewStream {
            name: "siem".to_owned(),
            kind,
            address: address.to_owned(),
            format: StreamFormat::Ocsf,
            from: None,
            headers: Vec::new(),
            roots_pem: None,
            certificate_pem: None,
            key_pem: None,
        }
    }

    #[test]
    fn addresses_are_of_their_kind_and_never_where_clouds_keep_secrets() {
        for (kind, given, shown) in [
            (StreamKind::Syslog, "logs.example.org:6515", "logs.example.org:6515"),
            (StreamKind::Syslog, "logs.example.org", "logs.example.org:6514"),
            (StreamKind::Syslog, "logs.example.org:443", "logs.example.org:443"),
            (StreamKind::Syslog, "[2001:db8::1]:6514", "[2001:db8::1]:6514"),
            (StreamKind::Otlp, "https://otel.example.org/secret/v1/logs", "https://otel.example.org"),
            (StreamKind::Otlp, "http://127.0.0.1:4318", "http://127.0.0.1:4318"),
        ] {
            let target = Target::new(&new(kind, given)).unwrap();
            assert_eq!(target.shown(), shown);
        }
        assert_eq!(Target::new(&new(StreamKind::Otlp, "http://127.0.0.1:4318")).unwrap().path(), "/v1/logs");
        for (kind, given) in [
            (StreamKind::Syslog, "https://logs.example.org"),
            (StreamKind::Syslog, "logs.example.org:6514/x"),
            (StreamKind::Syslog, "169.254.169.254:6514"),
            (StreamKind::Syslog, ""),
            (StreamKind::Otlp, "http://otel.example.org"),
            (StreamKind::Otlp, "https://user:word@otel.example.org"),
            (StreamKind::Otlp, "https://169.254.169.254/"),
            (StreamKind::Otlp, "ftp://otel.example.org"),
        ] {
            assert!(Target::new(&new(kind, given)).is_err(), "{given}");
        }
    }

    #[test]
    fn what_goes_along_is_checked_before_it_is_kept() {
        let mut stream = new(StreamKind::Otlp, "https://otel.example.org");
        stream.headers = vec![("authorization".to_owned(), "Bearer x".to_owned())];
        assert!(Target::new(&stream).is_ok());
        stream.headers = vec![("host".to_owned(), "other".to_owned())];
        assert!(Target::new(&stream).is_err(), "it would be another's");
        stream.headers = vec![("x".to_owned(), "a\r\nb: c".to_owned())];
        assert!(Target::new(&stream).is_err());
        let mut stream = new(StreamKind::Syslog, "logs.example.org");
        stream.certificate_pem = Some("x".to_owned());
        assert!(Target::new(&stream).is_err(), "a certificate without its key");
    }
}
