//! From a name to a TCP connection.
//!
//! Names under `.localhost` are this very machine (RFC 6761 §6.3). The C library asks the DNS for
//! them, so they are resolved here; every other name is the system's business.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpStream;
use vouchsafe_runtime::limits::CONNECT_TIMEOUT;

/// Failure to connect.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No address of that name accepted a connection.
    #[error("`{host}:{port}` does not answer")]
    Unreachable {
        /// Host as asked for.
        host: String,
        /// Port as asked for.
        port: u16,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Nothing answered in time.
    #[error("`{host}:{port}` did not answer within {} s", CONNECT_TIMEOUT.as_secs())]
    TimedOut {
        /// Host as asked for.
        host: String,
        /// Port as asked for.
        port: u16,
    },
}

/// Connects to a name, without delaying small writes.
///
/// # Errors
/// [`DialError`].
pub async fn dial(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let connecting = async {
        if is_localhost(host) {
            let addresses: [SocketAddr; 2] = loopbacks().map(|address| SocketAddr::new(address, port));
            TcpStream::connect(&addresses[..]).await
        } else {
            TcpStream::connect((host, port)).await
        }
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Err(_) => Err(DialError::TimedOut { host: host.to_owned(), port }),
        Ok(connected) => connected
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|source| DialError::Unreachable { host: host.to_owned(), port, source }),
    }
}

fn loopbacks() -> [IpAddr; 2] {
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
}

fn is_localhost(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_under_localhost_are_this_machine_on_both_families() {
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = tokio::net::TcpListener::bind(bind).await else { continue };
            let port = listener.local_addr().unwrap().port();
            let stream = dial("gw.vouchsafe.localhost", port).await.unwrap();
            assert!(stream.peer_addr().unwrap().ip().is_loopback());
        }
    }

    #[test]
    fn only_whole_labels_count() {
        assert!(is_localhost("a.localhost") && is_localhost("localhost"));
        assert!(!is_localhost("notlocalhost") && !is_localhost("localhost.example"));
    }

    #[tokio::test]
    async fn a_closed_port_is_named() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let error = dial("a.localhost", port).await.unwrap_err();
        assert_eq!(error.to_string(), format!("`a.localhost:{port}` does not answer"));
    }
}
