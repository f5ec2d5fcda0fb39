//! Bytes both ways between two streams, with half-close and backpressure.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use tokio_util::sync::CancellationToken;

use crate::limits::{HALF_OPEN_IDLE, RELAY_BUFFER_BYTES};

/// Bytes that went each way so far. Kept outside the relay, so that they are known also when it
/// is cut.
#[derive(Debug, Default)]
pub struct Traffic {
    /// From the client to the upstream.
    pub inward: AtomicU64,
    /// From the upstream to the client.
    pub outward: AtomicU64,
}

/// Copies until both directions have ended. The end of one direction is passed on (half-close)
/// and the other goes on, as long as it is not silent for [`HALF_OPEN_IDLE`].
///
/// # Errors
/// The first failure of either stream, or that silence; the other direction is then given up.
pub async fn relay<C, U>(client: C, upstream: U, traffic: &Traffic) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let (mut client_read, mut client_write) = tokio::io::split(client);
    let (mut upstream_read, mut upstream_write) = tokio::io::split(upstream);
    let half_open = CancellationToken::new();
    let inward = copy(&mut client_read, &mut upstream_write, &traffic.inward, &half_open);
    let outward = copy(&mut upstream_read, &mut client_write, &traffic.outward, &half_open);
    tokio::try_join!(inward, outward).map(|((), ())| ())
}

/// Reads, but not for longer than [`HALF_OPEN_IDLE`] once the other direction has ended.
async fn read<R: AsyncRead + Unpin>(
    from: &mut R,
    buffer: &mut [u8],
    half_open: &CancellationToken,
) -> io::Result<usize> {
    let silence = async {
        half_open.cancelled().await;
        tokio::time::sleep(HALF_OPEN_IDLE).await;
    };
    tokio::select! {
        biased;
        length = from.read(buffer) => length,
        () = silence => Err(io::Error::new(io::ErrorKind::TimedOut, "one direction ended and the other was silent")),
    }
}

async fn copy<R, W>(from: &mut R, to: &mut W, count: &AtomicU64, half_open: &CancellationToken) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; RELAY_BUFFER_BYTES];
    loop {
        let length = read(from, &mut buffer, half_open).await?;
        if length == 0 {
            half_open.cancel();
            return match to.shutdown().await {
                // The other side is gone already: nothing left to tell it.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
                other => other,
            };
        }
        to.write_all(buffer.get(..length).unwrap_or_default()).await?;
        to.flush().await?;
        count.fetch_add(length as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_half_open_tunnel_that_is_silent_ends() {
        let (client, client_far) = tokio::io::duplex(64);
        let (_upstream, upstream_far) = tokio::io::duplex(64);
        drop(client);
        let traffic = Traffic::default();
        let error = relay(client_far, upstream_far, &traffic).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn half_close_passes_and_the_answer_still_comes() {
        let (client, client_far) = tokio::io::duplex(64);
        let (upstream, upstream_far) = tokio::io::duplex(64);
        let traffic = Traffic::default();
        let server = async {
            let mut stream = upstream_far;
            let mut asked = Vec::new();
            stream.read_to_end(&mut asked).await.unwrap();
            stream.write_all(&asked).await.unwrap();
        };
        let asker = async {
            let (mut read, mut write) = tokio::io::split(client);
            let question = vec![7; 100_000];
            write.write_all(&question).await.unwrap();
            write.shutdown().await.unwrap();
            let mut answer = Vec::new();
            read.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, question);
        };
        let (result, (), ()) = tokio::join!(relay(client_far, upstream, &traffic), server, asker);
        result.unwrap();
        assert_eq!(traffic.inward.load(Ordering::Relaxed), 100_000);
        assert_eq!(traffic.outward.load(Ordering::Relaxed), 100_000);
    }
}
