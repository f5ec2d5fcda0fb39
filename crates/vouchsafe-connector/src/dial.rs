//! The way to a gateway: TCP, through an HTTP proxy (CONNECT, RFC 9110 §9.3.6) where one has to be.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use vouchsafe_model::resource::UpstreamHost;
use vouchsafe_runtime::body;
use vouchsafe_runtime::roster::may_be_dialled;
use vouchsafe_runtime::task::TaskGroup;
use zeroize::Zeroizing;

use crate::connector::Origin;

/// Longest time to connect, proxy included.
const CONNECT: Duration = Duration::from_secs(10);
/// Port of a proxy whose URL has none.
const PROXY_PORT: u16 = 3128;

/// Bytes both ways.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Host and port of a gateway or proxy, in the connector's own network.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// Name or address, IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// Failure to read an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not `{expected}`")]
pub struct AddressError {
    /// The text as given, shortened.
    pub given: String,
    /// What is possible.
    pub expected: &'static str,
}

impl Address {
    /// Reads `host:port`; an IPv6 address stands in brackets.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError { given: text.chars().take(100).collect(), expected: "host:port" };
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        let host = match UpstreamHost::parse(host).map_err(|_| wrong())? {
            UpstreamHost::Ip(address) => address.to_string(),
            UpstreamHost::Name(name) => name,
        };
        Ok(Self { host, port })
    }

    /// The addresses that it leads to. Names under `.localhost` are this machine (RFC 6761 §6.3).
    pub(crate) async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        if self.host == "localhost" || self.host.ends_with(".localhost") {
            let here: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            return Ok(here.map(|address| SocketAddr::new(address, self.port)).into());
        }
        Ok(tokio::net::lookup_host((self.host.as_str(), self.port)).await?.collect())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A proxy between the connector and its gateways.
#[derive(Clone)]
pub struct Proxy {
    address: Address,
    /// `user:password`.
    credentials: Option<Zeroizing<String>>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", self.address)
    }
}

impl Proxy {
    /// Reads `http://host[:port]`, the port 3128 where there is none.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError { given: text.chars().take(100).collect(), expected: "http://host[:port]" };
        let rest = text.strip_prefix("http://").ok_or_else(wrong)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let with_port = if rest.rsplit_once(':').is_some_and(|_| !rest.ends_with(']')) {
            rest.to_owned()
        } else {
            format!("{rest}:{PROXY_PORT}")
        };
        Ok(Self { address: Address::parse(&with_port).map_err(|_| wrong())?, credentials: None })
    }

    /// With `user:password` for it, which stands in that file.
    ///
    /// # Errors
    /// The file's.
    pub fn with_credentials_of(self, file: &Path) -> io::Result<Self> {
        let text = Zeroizing::new(std::fs::read_to_string(file)?);
        let credentials = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
        Ok(Self { credentials: Some(credentials), ..self })
    }

    /// Asks it for a tunnel.
    async fn tunnel(&self, to: &Address, tasks: &TaskGroup) -> io::Result<Box<dyn Stream>> {
        let stream = direct(&self.address.resolve().await?).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tasks.spawn("proxy connection", async move { drop(connection.with_upgrades().await) });
        let mut request = Request::new(body::empty());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = Uri::builder().authority(to.to_string()).build().map_err(io::Error::other)?;
        let host = HeaderValue::from_str(&to.to_string()).map_err(io::Error::other)?;
        request.headers_mut().insert(HOST, host);
        if let Some(credentials) = &self.credentials {
            let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(credentials.as_bytes())));
            let mut value = HeaderValue::from_maybe_shared(Bytes::copy_from_slice(text.as_bytes()))
                .map_err(|_| io::ErrorKind::InvalidInput)?;
            value.set_sensitive(true);
            request.headers_mut().insert(PROXY_AUTHORIZATION, value);
        }
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        if response.status() != StatusCode::OK {
            return Err(io::Error::other(format!("the proxy {} answers {}", self.address, response.status())));
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(io::Error::other)?;
        Ok(Box::new(TokioIo::new(upgraded)))
    }
}

/// One way to a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    /// Straight to an address.
    Direct(SocketAddr),
    /// By its name, which the proxy looks up.
    Proxied(Address),
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Way::Direct(address) => write!(f, "{address}"),
            Way::Proxied(address) => write!(f, "{address} through the proxy"),
        }
    }
}

impl Way {
    /// Every way to that gateway.
    pub(crate) async fn all(gateway: &Address, origin: Origin, proxy: Option<&Proxy>) -> io::Result<Vec<Self>> {
        if proxy.is_some() {
            return Ok(vec![Way::Proxied(gateway.clone())]);
        }
        let mut found = gateway.resolve().await?;
        if origin == Origin::Listed {
            // No gateway has this machine dial itself, whatever name it gives.
            found.retain(|address| may_be_dialled(address.ip()));
        }
        Ok(found.into_iter().map(Way::Direct).collect())
    }

    /// Connects.
    pub(crate) async fn connect(&self, proxy: Option<&Proxy>, tasks: &TaskGroup) -> io::Result<Box<dyn Stream>> {
        let connecting = async {
            match (self, proxy) {
                (Way::Direct(address), _) => Ok(Box::new(direct(&[*address]).await?) as Box<dyn Stream>),
                (Way::Proxied(address), Some(proxy)) => proxy.tunnel(address, tasks).await,
                (Way::Proxied(_), None) => Err(io::ErrorKind::InvalidInput.into()),
            }
        };
        tokio::time::timeout(CONNECT, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

async fn direct(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addresses).await?;
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60));
    let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_proxies_have_one_reading() {
        for good in ["gw.corp.example:443", "10.0.0.5:8443", "[fd00::5]:8443"] {
            assert_eq!(Address::parse(good).unwrap().to_string(), good);
        }
        for bad in ["gw.corp.example", "gw:0", ":443", "gw:https", "a b:1", "http://gw:1"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
        for (given, address) in [
            ("http://proxy.corp.example:8080", "proxy.corp.example:8080"),
            ("http://proxy.corp.example/", "proxy.corp.example:3128"),
            ("http://[fd00::5]", "[fd00::5]:3128"),
        ] {
            assert_eq!(Proxy::parse(given).unwrap().address.to_string(), address);
        }
        // A secret in an argument is one that every process on the machine can read.
        for bad in ["proxy:8080", "https://proxy:8080", "http://user:secret@proxy:8080", "http://"] {
            assert!(Proxy::parse(bad).is_err(), "{bad}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "user:secret\n").unwrap();
        let proxy = Proxy::parse("http://proxy:1").unwrap().with_credentials_of(file.path()).unwrap();
        assert_eq!(proxy.credentials.as_ref().unwrap().as_str(), "user:secret");
        assert!(!format!("{proxy:?}").contains("secret"));
    }
}
