//! The framing guard on a connection: what it refuses never reaches the HTTP library as anything
//! but the end of the connection's requests.
//!
//! [`Guarded`] stands between TLS and the library and lets pass what [`Guard`] lets pass. In place of
//! a head that is refused the library gets a fixed harmless one, so that it answers in turn, behind
//! what was asked before. [`Framing`] is the other end, beside the library: it counts the requests
//! that the library hands out. One that the guard has not let through is the harmless one (or the
//! two disagree about what a request is, which is refused as well). Nothing that a client can send
//! plays a part in telling them apart.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use vouchsafe_runtime::limits::{MAX_HEAD_BYTES, MAX_HEADERS, MAX_TRAILER_BYTES};
use vouchsafe_wire::framing::{Answered, Fault, Guard, Limits, Next, Place};

/// Stands for the head that was refused.
const IN_PLACE: &[u8] = b"GET / HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";
/// Most bytes kept of what a client sends on before its request for another protocol is answered.
const MAX_EARLY_BYTES: usize = 16 * 1024;

/// What both ends of the library know of a connection's requests.
#[derive(Debug)]
pub(crate) struct Framing(Mutex<State>);

#[derive(Debug)]
struct State {
    guard: Guard,
    /// Requests that the library has handed out.
    begun: u64,
    refused: Option<(Fault, Place)>,
    /// Who waits for [`Framing::answered`].
    reader: Option<Waker>,
}

impl Default for Framing {
    fn default() -> Self {
        // The library has room for a head of just that size, so that it never refuses one itself.
        let limits = Limits { head_bytes: MAX_HEAD_BYTES - 1, fields: MAX_HEADERS, trailer_bytes: MAX_TRAILER_BYTES };
        Self(Mutex::new(State { guard: Guard::new(limits), begun: 0, refused: None, reader: None }))
    }
}

impl Framing {
    /// Counts a request that the library hands out.
    ///
    /// # Errors
    /// The fault of the head that was refused, when the request stands in its place.
    pub(super) fn begin(&self) -> Result<(), Fault> {
        let mut state = self.0.lock();
        state.begun += 1;
        if state.begun > state.guard.heads() {
            return Err(state.refused.map_or(Fault::RequestLine, |(fault, _)| fault));
        }
        Ok(())
    }

    /// Says what became of the request that was handed out last.
    pub(super) fn answered(&self, answered: Answered) {
        let mut state = self.0.lock();
        state.guard.answered(answered);
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    /// The fault in the body of the request that is being served, if there is one.
    pub(crate) fn body_fault(&self) -> Option<Fault> {
        match self.0.lock().refused {
            Some((fault, Place::Body)) => Some(fault),
            Some((_, Place::Head)) | None => None,
        }
    }
}

/// A connection whose incoming bytes pass the guard. Outgoing bytes pass as they are.
#[derive(Debug)]
pub(super) struct Guarded<S> {
    inner: S,
    framing: Arc<Framing>,
    /// Read, and not handed over yet: the beginning of a head, or what came too early.
    held: BytesMut,
    /// How much of that may be handed over.
    approved: usize,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Reading,
    /// Nothing may pass before an answer.
    Waiting,
    /// A head was refused, and nothing was put in its place yet.
    Refusing,
    /// The harmless head is on its way, or has gone.
    Refused,
    /// A body was refused in its midst.
    Broken(Fault),
    /// Everything passes.
    Opaque,
}

impl<S> Guarded<S> {
    pub(super) fn new(inner: S, framing: Arc<Framing>) -> Self {
        Self { inner, framing, held: BytesMut::new(), approved: 0, stage: Stage::Reading }
    }

    /// Asks the guard about bytes that begin where the last ones that passed ended. Gives how many
    /// of them pass.
    fn inspect(framing: &Framing, stage: &mut Stage, bytes: &[u8], reader: &Waker) -> usize {
        let mut state = framing.0.lock();
        let seen = state.guard.inspect(bytes);
        *stage = match seen.next {
            Next::More if state.guard.is_opaque() => Stage::Opaque,
            Next::More => Stage::Reading,
            Next::Answer => {
                state.reader = Some(reader.clone());
                Stage::Waiting
            }
            Next::Refused(fault, place) => {
                state.refused = Some((fault, place));
                match place {
                    Place::Head => Stage::Refusing,
                    Place::Body => Stage::Broken(fault),
                }
            }
        };
        seen.pass
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.approved > 0 {
                let length = this.approved.min(buf.remaining());
                buf.put_slice(this.held.get(..length).unwrap_or_default());
                this.held.advance(length);
                this.approved -= length;
                return Poll::Ready(Ok(()));
            }
            match this.stage {
                Stage::Opaque if this.held.is_empty() => return Pin::new(&mut this.inner).poll_read(cx, buf),
                Stage::Reading if this.held.is_empty() => {
                    // The usual case: whole requests pass where they lie, and nothing is copied.
                    let before = buf.filled().len();
                    ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
                    let new = buf.filled().get(before..).unwrap_or_default();
                    if new.is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    let pass = Self::inspect(&this.framing, &mut this.stage, new, cx.waker());
                    this.held.extend_from_slice(new.get(pass..).unwrap_or_default());
                    buf.set_filled(before + pass);
                    if pass > 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                Stage::Refusing => {
                    this.held.clear();
                    this.held.extend_from_slice(IN_PLACE);
                    this.approved = this.held.len();
                    this.stage = Stage::Refused;
                }
                // Not the end: the library would take that for a client who left before the answer.
                // It says that it closes, and does.
                Stage::Refused => return Poll::Pending,
                Stage::Broken(fault) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault))),
                Stage::Reading | Stage::Waiting | Stage::Opaque => {
                    if this.stage == Stage::Waiting {
                        // The answer may have come since; if not, its coming wakes this task.
                        this.approved = Self::inspect(&this.framing, &mut this.stage, &this.held, cx.waker());
                        if this.stage != Stage::Waiting || this.approved > 0 {
                            continue;
                        }
                        if this.held.len() >= MAX_EARLY_BYTES {
                            return Poll::Pending;
                        }
                    }
                    let mut space = [MaybeUninit::uninit(); 4096];
                    let mut more = ReadBuf::uninit(&mut space);
                    ready!(Pin::new(&mut this.inner).poll_read(cx, &mut more))?;
                    if more.filled().is_empty() {
                        // The end: half a head is no request, and nobody waits for what came early.
                        return Poll::Ready(Ok(()));
                    }
                    this.held.extend_from_slice(more.filled());
                    this.approved = Self::inspect(&this.framing, &mut this.stage, &this.held, cx.waker());
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn through(input: &[u8]) -> (Vec<u8>, io::Result<usize>, Arc<Framing>) {
        let framing = Arc::<Framing>::default();
        let mut guarded = Guarded::new(input, Arc::clone(&framing));
        let mut out = Vec::new();
        let result = tokio::select! {
            biased;
            result = guarded.read_to_end(&mut out) => result,
            () = tokio::task::yield_now() => Ok(out.len()),
        };
        (out, result, framing)
    }

    #[tokio::test]
    async fn a_refused_head_is_replaced_and_known_by_its_turn() {
        let good = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
        let (out, result, framing) =
            through(&[good.as_slice(), b"GET /smuggled HTTP/1.0\r\n\r\n", good].concat()).await;
        assert!(result.is_ok());
        assert_eq!(out, [good.as_slice(), IN_PLACE].concat());
        assert_eq!(framing.begin(), Ok(()));
        assert_eq!(framing.begin(), Err(Fault::Version));
        assert_eq!(framing.begin(), Err(Fault::Version), "nor anything behind it");
        assert_eq!(framing.body_fault(), None);
    }

    #[tokio::test]
    async fn a_client_cannot_send_what_stands_in_place() {
        let (out, _, framing) = through(IN_PLACE).await;
        assert_eq!((out.as_slice(), framing.begin()), (IN_PLACE, Ok(())));
    }

    #[tokio::test]
    async fn a_broken_body_ends_the_connection_with_an_error() {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc";
        let (out, result, framing) = through(format!("{head}X\r\n0\r\n\r\n").as_bytes()).await;
        assert_eq!(out, head.as_bytes());
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(framing.body_fault(), Some(Fault::Chunk));
    }

    #[tokio::test]
    async fn what_comes_too_early_waits_for_the_answer() {
        for answered in [Answered::Switched, Answered::Stayed] {
            let (mut client, server) = tokio::io::duplex(1 << 16);
            let framing = Arc::<Framing>::default();
            let mut guarded = Guarded::new(server, Arc::clone(&framing));
            let connect = b"CONNECT db:1 HTTP/1.1\r\nHost: db:1\r\n\r\n";
            client.write_all(&[connect.as_slice(), b"early"].concat()).await.unwrap();
            let mut buffer = [0; 1024];
            assert_eq!(guarded.read(&mut buffer).await.unwrap(), connect.len());
            let (told, client) = tokio::join!(guarded.read(&mut buffer), async {
                tokio::task::yield_now().await;
                framing.answered(answered);
                client.write_all(b", later\r\n").await.unwrap();
                client.shutdown().await.unwrap();
                client
            });
            let length = told.unwrap();
            match answered {
                Answered::Switched => assert_eq!(&buffer[..length], b"early"),
                Answered::Stayed => assert_eq!(&buffer[..length], IN_PLACE, "`early, later` is no request line"),
            }
            drop(client);
        }
    }

    #[tokio::test]
    async fn a_head_arrives_whole_however_it_was_sent() {
        let input = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n";
        let (mut client, server) = tokio::io::duplex(1);
        let mut guarded = Guarded::new(server, Arc::default());
        let (mut first, mut rest) = ([0; 1024], Vec::new());
        let read = async {
            let length = guarded.read(&mut first).await.unwrap();
            guarded.read_to_end(&mut rest).await.unwrap();
            length
        };
        let (length, ()) = tokio::join!(read, async {
            client.write_all(input).await.unwrap();
            drop(client);
        });
        assert_eq!(&first[..length], &input[..38]);
        assert_eq!([&first[..length], &rest].concat(), input);
    }
}
