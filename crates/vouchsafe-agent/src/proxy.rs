//! One local listener for browsers and tools that know proxies: HTTP CONNECT, SOCKS5 and a PAC file.
//!
//! Names under the base domain become tunnels; everything else is refused, so this is no open
//! proxy. The installation's own names go the same way: the gateway ties this device to the TLS
//! connection that it finds inside the tunnel.

mod head;
pub mod pac;
mod socks;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vouchsafe_runtime::relay::{Traffic, relay};
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_wire::authority::Authority;

use self::head::{Asked, HeadError, MAX_HEAD_BYTES};
use self::socks::{Reply, Socks5, Step};
use crate::connect::{Once, Report};
use crate::local::{LocalListener, reset};
use crate::tunnel::{OpenError, Port, Tunnel, Tunnels};

/// Connections that may be open at once.
pub const MAX_CONNECTIONS: usize = 1_024;
/// Longest time for a client to say what it wants.
const HEAD_PATIENCE: Duration = Duration::from_secs(15);

struct Proxy {
    tunnels: Arc<Tunnels>,
    address: SocketAddr,
    once: Once,
}

/// Serves the listener until the group drains.
pub async fn serve(listener: LocalListener, tunnels: Arc<Tunnels>, report: Report, tasks: TaskGroup) {
    let proxy = Arc::new(Proxy { tunnels, address: listener.address(), once: Once::new(report) });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = tasks.draining() => return,
        };
        let proxy = proxy.clone();
        tasks.spawn("proxy connection", async move {
            if let Err(error) = proxy.handle(accepted.stream).await {
                tracing::debug!(%error, "proxy connection ended");
            }
            drop(accepted.place);
        });
    }
}

/// A client that was understood, and what it sent beyond its request.
enum Wish {
    Http { asked: Asked, rest: Vec<u8> },
    Socks { target: Authority, port: u16, rest: Vec<u8> },
    Nothing,
}

impl Proxy {
    async fn handle(&self, mut stream: TcpStream) -> io::Result<()> {
        let wish = tokio::time::timeout(HEAD_PATIENCE, read_wish(&mut stream));
        let wish = wish.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        match wish {
            Wish::Nothing => Ok(()),
            Wish::Socks { target, port, rest } => self.socks(stream, &target.host, port, &rest).await,
            Wish::Http { asked: Asked::Connect { target, port }, rest } => {
                self.http_connect(stream, &target.host, port, &rest).await
            }
            Wish::Http { asked: Asked::Absolute { method, target, path }, .. } => {
                self.absolute(stream, &method, &target, &path).await
            }
            Wish::Http { asked: Asked::Own { method, path, host }, .. } => {
                self.own(stream, &method, &path, &host).await
            }
        }
    }

    fn is_under_domain(&self, host: &str) -> bool {
        self.tunnels.device().domain().label_of(host).is_some()
    }

    async fn open(&self, host: &str, port: u16) -> Result<Tunnel, OpenError> {
        let opened = self.tunnels.open(host, Port::Number(port)).await;
        if let Err(error) = &opened {
            self.once.tell(error);
        }
        opened
    }

    async fn http_connect(&self, mut stream: TcpStream, host: &str, port: u16, early: &[u8]) -> io::Result<()> {
        if !self.is_under_domain(host) {
            return answer(&mut stream, "403 Forbidden", &self.foreign(host)).await;
        }
        match self.open(host, port).await {
            Ok(tunnel) => {
                stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
                pass(stream, tunnel, early).await
            }
            Err(error) => {
                // 407 would make a browser ask for a password, which nobody has.
                let status = match &error {
                    OpenError::Refused(refusal) if refusal.is_denial() => "403 Forbidden",
                    _ => "502 Bad Gateway",
                };
                answer(&mut stream, status, &words(&error)).await
            }
        }
    }

    async fn socks(&self, mut stream: TcpStream, host: &str, port: u16, early: &[u8]) -> io::Result<()> {
        if !self.is_under_domain(host) {
            return stream.write_all(&Reply::NotAllowed.message()).await;
        }
        match self.open(host, port).await {
            Ok(tunnel) => {
                stream.write_all(&Reply::Succeeded.message()).await?;
                pass(stream, tunnel, early).await
            }
            Err(error) => {
                let reply = match &error {
                    OpenError::Refused(refusal) if refusal.is_denial() => Reply::NotAllowed,
                    OpenError::Refused(_) => Reply::HostUnreachable,
                    _ => Reply::GeneralFailure,
                };
                stream.write_all(&reply.message()).await
            }
        }
    }

    /// Plain HTTP never leaves this machine: to a name of ours it is sent to the encrypted one.
    async fn absolute(&self, mut stream: TcpStream, method: &str, target: &Authority, path: &str) -> io::Result<()> {
        if !self.is_under_domain(&target.host) {
            return answer(&mut stream, "403 Forbidden", &self.foreign(&target.host)).await;
        }
        if method != "GET" && method != "HEAD" {
            let words = format!("http is not encrypted: use https://{} for this.\n", target.host);
            return answer(&mut stream, "403 Forbidden", &words).await;
        }
        let port = match target.port {
            None | Some(80) => self.tunnels.device().port(),
            Some(port) => port,
        };
        let port = if port == 443 { String::new() } else { format!(":{port}") };
        let head = format!(
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: https://{}{port}{path}\r\ncontent-length: 0\r\nconnection: \
             close\r\n\r\n",
            target.host
        );
        stream.write_all(head.as_bytes()).await?;
        stream.shutdown().await
    }

    async fn own(&self, mut stream: TcpStream, method: &str, path: &str, host: &str) -> io::Result<()> {
        if !pac::is_own_host(host, self.address) {
            return answer(&mut stream, "421 Misdirected Request", "This is not a web server.\n").await;
        }
        if method != "GET" || path != "/proxy.pac" {
            let words = format!("This is a proxy. Its configuration is at http://{}/proxy.pac\n", self.address);
            return answer(&mut stream, "404 Not Found", &words).await;
        }
        let text = pac::text(self.tunnels.device().domain(), self.address);
        respond(&mut stream, "200 OK", pac::CONTENT_TYPE, &text).await
    }

    fn foreign(&self, host: &str) -> String {
        format!("{host} is not a name under {}: this proxy leads nowhere else.\n", self.tunnels.device().domain())
    }
}

/// Reads until it is clear what the client wants.
async fn read_wish(stream: &mut TcpStream) -> io::Result<Wish> {
    let mut buffer = Vec::with_capacity(1024);
    if stream.read_buf(&mut buffer).await? == 0 {
        return Ok(Wish::Nothing);
    }
    // No HTTP method starts with a control character, so the first byte tells.
    match buffer.first() {
        Some(0..0x20) => read_socks(stream, buffer).await,
        _ => read_http(stream, buffer).await,
    }
}

async fn read_socks(stream: &mut TcpStream, mut bytes: Vec<u8>) -> io::Result<Wish> {
    let mut socks = Socks5::default();
    loop {
        match socks.handle(&bytes) {
            Step::More => {
                bytes.clear();
                if stream.read_buf(&mut (&mut bytes).limit_to(socks::MAX_MESSAGE_BYTES)).await? == 0 {
                    return Ok(Wish::Nothing);
                }
            }
            Step::Answer(answer) => {
                stream.write_all(answer).await?;
                bytes.clear();
            }
            Step::Connect { target, port, rest } => return Ok(Wish::Socks { target, port, rest }),
            Step::Refuse(last) => {
                stream.write_all(&last).await?;
                stream.shutdown().await?;
                return Ok(Wish::Nothing);
            }
        }
    }
}

async fn read_http(stream: &mut TcpStream, mut buffer: Vec<u8>) -> io::Result<Wish> {
    loop {
        match head::parse(&buffer) {
            Ok(Some(head)) => {
                let rest = buffer.split_off(head.length);
                return Ok(Wish::Http { asked: head.asked, rest });
            }
            Ok(None) => {
                if stream.read_buf(&mut (&mut buffer).limit_to(MAX_HEAD_BYTES)).await? == 0 {
                    return Ok(Wish::Nothing);
                }
            }
            Err(error) => {
                let status = match error {
                    HeadError::TooLong => "431 Request Header Fields Too Large",
                    HeadError::Malformed => "400 Bad Request",
                    HeadError::Target => "403 Forbidden",
                };
                answer(stream, status, &format!("{error}\n")).await?;
                return Ok(Wish::Nothing);
            }
        }
    }
}

/// Bytes that came early go first.
async fn pass(mut stream: TcpStream, mut tunnel: Tunnel, early: &[u8]) -> io::Result<()> {
    tunnel.write_all(early).await?;
    let ended = relay(&mut stream, tunnel, &Traffic::default()).await;
    if ended.is_err() {
        // What came so far is not the whole; an end in order would say it is.
        reset(&stream);
    }
    ended
}

/// A refusal in the words of whoever refused, for people who look at it in a browser or with curl.
fn words(error: &OpenError) -> String {
    let mut text = format!("{error}\n");
    if let OpenError::Refused(refusal) = error
        && let Some(problem) = &refusal.problem
    {
        for line in problem.detail.iter().chain(&problem.decision) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

async fn answer(stream: &mut TcpStream, status: &str, words: &str) -> io::Result<()> {
    respond(stream, status, "text/plain; charset=utf-8", words).await
}

async fn respond(stream: &mut TcpStream, status: &str, kind: &str, text: &str) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\nconnection: close\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.shutdown().await
}

/// A buffer that a peer can fill so far and no further.
trait LimitTo {
    fn limit_to(self, bytes: usize) -> bytes::buf::Limit<Self>
    where
        Self: Sized;
}

impl LimitTo for &mut Vec<u8> {
    fn limit_to(self, bytes: usize) -> bytes::buf::Limit<Self> {
        let room = bytes.saturating_sub(self.len()).max(1);
        bytes::BufMut::limit(self, room)
    }
}

#[cfg(test)]
mod tests;
