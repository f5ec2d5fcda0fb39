//! One stream of HTTP/2 as plain bytes both ways: what a CONNECT carries (RFC 9113 §8.5) between a gateway and
//! a connector.
//!
//! The library's own upgrade takes a reset for an orderly end, and ends a stream in order that is dropped in
//! its middle. Here a stream that is dropped before both ends were seen is reset, and the other side's reset
//! is an error at once, also to who only writes, or waits for something else ([`ConnectStream::reset`]).

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use h2::{Ping, PingPong, Reason, RecvStream, SendStream};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is written at once at most, bytes.
const MOST: usize = 64 * 1024;

/// A stream, open both ways.
pub struct ConnectStream {
    send: Arc<Mutex<SendStream<Bytes>>>,
    receive: RecvStream,
    /// Came, and was not read yet.
    left: Bytes,
    /// The other side's end was seen.
    heard: bool,
    /// Ours was said.
    said: bool,
}

impl ConnectStream {
    /// Of both halves of a stream whose CONNECT was agreed to.
    #[must_use]
    pub fn new(send: SendStream<Bytes>, receive: RecvStream) -> Self {
        Self { send: Arc::new(Mutex::new(send)), receive, left: Bytes::new(), heard: false, said: false }
    }

    /// Resolves when the other side resets the stream, or the connection is gone. To be waited for in the task
    /// that writes to the stream: there is one waker for both.
    pub fn reset(&self) -> impl Future<Output = ()> + Send + use<> {
        let send = Arc::clone(&self.send);
        poll_fn(move |cx| send.lock().poll_reset(cx).map(drop))
    }
}

impl AsyncRead for ConnectStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.left.is_empty() {
            if self.heard {
                return Poll::Ready(Ok(()));
            }
            match ready!(self.receive.poll_data(cx)) {
                None => self.heard = true,
                Some(Ok(bytes)) => self.left = bytes,
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            }
        }
        let count = self.left.len().min(buffer.remaining());
        buffer.put_slice(self.left.get(..count).unwrap_or_default());
        self.left.advance(count);
        // Only what was taken makes room for more: that is the back-pressure.
        self.receive.flow_control().release_capacity(count).map_err(broken)?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ConnectStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut send = self.send.lock();
        send.reserve_capacity(bytes.len().min(MOST));
        while send.capacity() == 0 {
            match ready!(send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let count = bytes.len().min(MOST).min(send.capacity());
        let piece = Bytes::copy_from_slice(bytes.get(..count).unwrap_or_default());
        send.send_data(piece, false).map_err(broken)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's own task writes what it was given.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.said {
            self.send.lock().send_data(Bytes::new(), true).map_err(broken)?;
            self.said = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for ConnectStream {
    fn drop(&mut self) {
        if !(self.heard && self.said) {
            self.send.lock().send_reset(Reason::CANCEL);
        }
    }
}

fn broken(error: h2::Error) -> io::Error {
    if error.is_reset() { io::Error::new(io::ErrorKind::ConnectionReset, error) } else { io::Error::other(error) }
}

/// Asks the other end of a connection for a sign of life now and then; resolves when none came.
pub async fn silence(mut pings: PingPong, every: Duration, patience: Duration) {
    loop {
        tokio::time::sleep(every).await;
        match tokio::time::timeout(patience, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::TaskGroup;
    use http::{Method, Request, Response, StatusCode};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const WINDOW: u32 = 64 * 1024;

    /// Two ends of one stream: the asker's and the answerer's.
    async fn pair(tasks: &TaskGroup) -> (ConnectStream, ConnectStream) {
        let (near, far) = tokio::io::duplex(1 << 20);
        let answering = async {
            let mut connection = h2::server::Builder::new().initial_window_size(WINDOW).handshake(far).await.unwrap();
            let (request, mut respond) = connection.accept().await.unwrap().unwrap();
            let send = respond.send_response(Response::new(()), false).unwrap();
            tasks.spawn("answerer", async move { while connection.accept().await.is_some() {} });
            ConnectStream::new(send, request.into_body())
        };
        let asking = async {
            let (sender, connection) = h2::client::Builder::new().handshake(near).await.unwrap();
            tasks.spawn("asker", async move { drop(connection.await) });
            let request = Request::builder().method(Method::CONNECT).uri("db.internal:5432").body(()).unwrap();
            let (response, send) = sender.ready().await.unwrap().send_request(request, false).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            ConnectStream::new(send, response.into_body())
        };
        tokio::join!(asking, answering)
    }

    #[tokio::test]
    async fn both_ways_end_apart_and_what_was_said_before_arrives() {
        let tasks = TaskGroup::new();
        let (mut one, mut other) = pair(&tasks).await;
        let long = vec![7; 300_000];
        let asking = async {
            one.write_all(&long).await.unwrap();
            one.shutdown().await.unwrap();
            let mut answer = Vec::new();
            one.read_to_end(&mut answer).await.unwrap();
            answer
        };
        let answering = async {
            let mut asked = Vec::new();
            other.read_to_end(&mut asked).await.unwrap();
            other.write_all(&asked).await.unwrap();
            other.shutdown().await.unwrap();
        };
        let (answer, ()) = tokio::join!(asking, answering);
        assert_eq!(answer, long);
        // Both ends were seen, so this is none.
        drop(one);
        assert!(tokio::time::timeout(Duration::from_millis(100), other.reset()).await.is_err());
    }

    #[tokio::test]
    async fn a_stream_that_is_dropped_in_its_middle_is_reset_and_never_read_as_whole() {
        let tasks = TaskGroup::new();
        let (mut one, mut other) = pair(&tasks).await;
        one.write_all(b"half").await.unwrap();
        let mut half = [0; 4];
        other.read_exact(&mut half).await.unwrap();
        drop(one);
        other.reset().await;
        assert_eq!(other.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn who_does_not_read_holds_the_writer_back_and_hears_of_a_reset_all_the_same() {
        let tasks = TaskGroup::new();
        let (mut one, other) = pair(&tasks).await;
        let endless = async {
            let mut written = 0;
            while let Ok(count) = one.write(&[1; 1024]).await {
                written += count;
                assert!(written <= 1 << 20, "nothing holds it back");
            }
        };
        assert!(tokio::time::timeout(Duration::from_millis(300), endless).await.is_err());
        drop(one);
        tokio::time::timeout(Duration::from_secs(5), other.reset()).await.unwrap();
    }
}
