//! Connects to an upstream: the only place that opens connections, and only for an admission (I2); through
//! connectors `reach` goes.
//!
//! Names are looked up here, at every connection, and the address that is used is the one that was
//! checked: a name can't lead to this machine or to link-local addresses (A159).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use vouchsafe_model::name::SiteName;
use vouchsafe_model::resource::{Endpoint, ResourceSpec, UpstreamHost, embedded_v4, never_by_name, never_upstream};
use vouchsafe_policy::Admission;
use vouchsafe_runtime::datagrams;
use vouchsafe_runtime::limits::CONNECT_TIMEOUT;
use vouchsafe_runtime::resolve::Resolver;

use crate::connectors::RelayError;

/// Failure to reach an upstream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The name could not be looked up.
    #[error("`{host}` can't be looked up")]
    Lookup {
        host: String,
        #[source]
        source: io::Error,
    },
    /// Every address of the name is one that no upstream may have.
    #[error("`{host}` leads to {address}, which can't be an upstream: {why}")]
    Forbidden { host: String, address: IpAddr, why: &'static str },
    /// The upstream is this gateway itself.
    #[error("the upstream {address} is this gateway itself")]
    Loop { address: SocketAddr },
    /// No address answered.
    #[error("`{endpoint}` refuses the connection")]
    Connect {
        endpoint: String,
        #[source]
        source: io::Error,
    },
    /// No address answered in time.
    #[error("`{endpoint}` doesn't answer within {after:?}")]
    TimedOut { endpoint: String, after: Duration },
    /// The upstream's certificate or TLS is not acceptable.
    #[error("TLS with `{endpoint}` failed")]
    Tls {
        endpoint: String,
        #[source]
        source: io::Error,
    },
    /// It has to speak HTTP/2, and did not choose it.
    #[error("`{endpoint}` does not choose HTTP/2")]
    NoHttp2 { endpoint: String },
    /// No connector of the site opened a stream.
    #[error("`{endpoint}` is not reached via the site `{site}`")]
    Via {
        site: SiteName,
        endpoint: String,
        #[source]
        source: RelayError,
    },
    /// A resource of this kind has no upstream.
    #[error("this resource has no upstream")]
    NoUpstream,
}

/// Opens TCP to the upstream of the permitted resource. `own_ports` are
/// those that this gateway is reached under.
pub(crate) async fn connect(
    admission: &Admission,
    resolver: &Resolver,
    own_ports: &[u16],
) -> Result<TcpStream, DialError> {
    let (endpoint, patience) = match &admission.resource().spec {
        ResourceSpec::Http(http) => (&http.upstream, http.connect_timeout),
        ResourceSpec::Tcp(tcp) => (&tcp.upstream, CONNECT_TIMEOUT),
        ResourceSpec::Udp(_) | ResourceSpec::Console => return Err(DialError::NoUpstream),
    };
    let timed_out = |_| DialError::TimedOut { endpoint: endpoint.to_string(), after: patience };
    tokio::time::timeout(patience, connect_any(endpoint, resolver, own_ports)).await.map_err(timed_out)?
}

async fn connect_any(endpoint: &Endpoint, resolver: &Resolver, own_ports: &[u16]) -> Result<TcpStream, DialError> {
    let addresses = addresses(endpoint, resolver).await?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        let address = SocketAddr::new(address, endpoint.port);
        if own_ports.contains(&endpoint.port) && embedded_v4(address.ip()).is_loopback() {
            return Err(DialError::Loop { address });
        }
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Whatever its address is, it is this very machine: a name that leads here would make somebody
                // from anywhere one of our own network.
                if own_ports.contains(&endpoint.port) && is_here(stream.local_addr(), stream.peer_addr()) {
                    return Err(DialError::Loop { address });
                }
                // Without it, small messages wait for an acknowledgement of the one before.
                let _ = stream.set_nodelay(true);
                // A peer that is gone without a word is noticed within minutes.
                let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60));
                let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(DialError::Connect { endpoint: endpoint.to_string(), source: last })
}

/// A UDP socket that sends to, and takes from, the upstream of the permitted resource alone. Nothing
/// is sent. Broadcast addresses are refused by the kernel, since the socket never asks for them.
pub(crate) async fn connect_udp(
    admission: &Admission,
    resolver: &Resolver,
    own_ports: &[u16],
) -> Result<UdpSocket, DialError> {
    let ResourceSpec::Udp(udp) = &admission.resource().spec else { return Err(DialError::NoUpstream) };
    let endpoint = &udp.upstream;
    let timed_out = |_| DialError::TimedOut { endpoint: endpoint.to_string(), after: CONNECT_TIMEOUT };
    let addresses = tokio::time::timeout(CONNECT_TIMEOUT, addresses(endpoint, resolver)).await.map_err(timed_out)??;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        let address = SocketAddr::new(address, endpoint.port);
        if own_ports.contains(&endpoint.port) && embedded_v4(address.ip()).is_loopback() {
            return Err(DialError::Loop { address });
        }
        match datagrams::connected(address) {
            Ok(socket) if own_ports.contains(&endpoint.port) && is_here(socket.local_addr(), socket.peer_addr()) => {
                return Err(DialError::Loop { address });
            }
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(DialError::Connect { endpoint: endpoint.to_string(), source: last })
}

/// Whether a socket leads to the machine that it is on; also where that can't be known.
fn is_here(local: io::Result<SocketAddr>, peer: io::Result<SocketAddr>) -> bool {
    match (local, peer) {
        (Ok(local), Ok(peer)) => local.ip() == peer.ip(),
        (Ok(_) | Err(_), Ok(_) | Err(_)) => true,
    }
}

/// Addresses that may be connected to, in the resolver's order.
async fn addresses(endpoint: &Endpoint, resolver: &Resolver) -> Result<Vec<IpAddr>, DialError> {
    let name = match &endpoint.host {
        // The administrator wrote the address down; only what can't be anybody's is refused.
        UpstreamHost::Ip(address) => {
            return match never_upstream(*address) {
                Some(why) => Err(DialError::Forbidden { host: address.to_string(), address: *address, why }),
                None => Ok(vec![*address]),
            };
        }
        // `localhost` names this machine in words and needs no resolver (RFC 6761 §6.3).
        UpstreamHost::Name(name) if name == "localhost" => {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        UpstreamHost::Name(name) => name,
    };
    let found = resolver.look_up(name).await.map_err(|source| DialError::Lookup { host: name.clone(), source })?;
    let mut allowed = Vec::new();
    let mut refused = None;
    for address in found {
        match never_by_name(address) {
            Some(why) => refused = Some(DialError::Forbidden { host: name.clone(), address, why }),
            None => allowed.push(address),
        }
    }
    match (allowed.is_empty(), refused) {
        (true, Some(error)) => Err(error),
        _ => Ok(allowed),
    }
}

/// TLS on an open connection; the certificate must be for the host that the administrator named.
/// The caller bounds the time it may take.
pub(crate) async fn secure<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    endpoint: &Endpoint,
    config: Arc<ClientConfig>,
) -> Result<TlsStream<S>, DialError> {
    let failed = |source| DialError::Tls { endpoint: endpoint.to_string(), source };
    let name = match &endpoint.host {
        UpstreamHost::Ip(address) => ServerName::IpAddress((*address).into()),
        UpstreamHost::Name(name) => {
            ServerName::try_from(name.clone()).map_err(|error| failed(io::Error::other(error)))?
        }
    };
    TlsConnector::from(config).connect(name, stream).await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_leads_to_this_machine_is_refused() {
        // Every machine's own name in /etc/hosts is as good as a rebinding resolver here.
        let endpoint = Endpoint { host: UpstreamHost::Name("ip6-localhost".into()), port: 1 };
        assert!(matches!(
            addresses(&endpoint, &Resolver::default()).await,
            Err(DialError::Forbidden { .. } | DialError::Lookup { .. })
        ));
    }

    #[tokio::test]
    async fn this_machine_is_known_by_whatever_address_it_was_reached() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        for (from, here) in [("127.0.0.1:0", true), ("127.0.0.2:0", false)] {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(from.parse().unwrap()).unwrap();
            let stream = socket.connect(to).await.unwrap();
            assert_eq!(is_here(stream.local_addr(), stream.peer_addr()), here, "{from}");
        }
        assert!(is_here(Err(io::ErrorKind::NotConnected.into()), Ok(to)), "what isn't known is no way out");
    }

    #[tokio::test]
    async fn the_gateway_itself_is_no_upstream() {
        let endpoint = Endpoint::parse("127.0.0.1:8443").unwrap();
        assert!(matches!(
            connect_any(&endpoint, &Resolver::default(), &[443, 8443]).await,
            Err(DialError::Loop { .. })
        ));
    }
}
