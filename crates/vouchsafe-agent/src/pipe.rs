//! Standard input and output as one end of a tunnel, for `ssh -o ProxyCommand` and shell pipes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, Stdin, Stdout};
use vouchsafe_runtime::relay::{Traffic, relay};

use crate::tunnel::Tunnel;

/// Copies both ways until both have ended. The end of input is passed on as a half-close; the end
/// of the resource's answer closes standard output, so that whoever reads it sees the end.
///
/// # Errors
/// The failure of either side; a tunnel that access was taken from ends as one.
pub async fn run(tunnel: Tunnel) -> io::Result<()> {
    let ends = Standard { input: tokio::io::stdin(), output: tokio::io::stdout() };
    relay(ends, tunnel, &Traffic::default()).await
}

struct Standard {
    input: Stdin,
    output: Stdout,
}

impl AsyncRead for Standard {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_read(cx, buf)
    }
}

impl AsyncWrite for Standard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.output).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.output).poll_flush(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(close_stdout()),
            other => other,
        }
    }
}

/// Closes file descriptor 1 for its reader. Its number stays taken, by nothing, so that no file
/// opened later becomes standard output.
fn close_stdout() -> io::Result<()> {
    let nothing = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    Ok(rustix::stdio::dup2_stdout(nothing)?)
}
