//! How a browser's connections leave the machine: directly, or through a device's tunnel.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use vouchsafe_runtime::internal::BoxFuture;

/// Longest wait for a connection.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Opens connections to host names.
pub trait Dial: Send + Sync {
    /// Opens one connection to `host:port`.
    ///
    /// # Errors
    /// Whatever stands between; a refusal by the gateway is [`io::ErrorKind::PermissionDenied`].
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;
}

/// Connects every host name to one address: a browser whose name service points at the gateway.
#[derive(Debug, Clone, Copy)]
pub struct Direct {
    /// Where the gateway listens.
    pub gateway: SocketAddr,
    /// Source address to come from; `None` lets the system choose.
    pub from: Option<IpAddr>,
}

impl Direct {
    /// To the gateway on this machine's loopback address.
    #[must_use]
    pub fn loopback(port: u16) -> Self {
        Self { gateway: SocketAddr::from(([127, 0, 0, 1], port)), from: None }
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let socket = if self.gateway.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(from) = self.from {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        let stream = socket.connect(self.gateway).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Dial for Direct {
    fn dial<'a>(&'a self, _host: &'a str, _port: u16) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async {
            match tokio::time::timeout(DIAL_TIMEOUT, self.connect()).await {
                Ok(stream) => Ok(Box::new(stream?) as Box<dyn Stream>),
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the gateway did not answer in time")),
            }
        })
    }
}
