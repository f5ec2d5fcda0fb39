//! One request stream: its frames as they come, its content as a body or as plain bytes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame as BodyFrame, SizeHint};
use parking_lot::Mutex;
use quinn::{RecvStream, SendStream, VarInt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use vouchsafe_runtime::body::BodyError;
use vouchsafe_runtime::limits::{MAX_HEAD_BYTES, MAX_HEADERS};
use vouchsafe_wire::http3::head::{self, HeadError};
use vouchsafe_wire::http3::{Frame, FrameError, FrameReader, code, frame, write_head};
use vouchsafe_wire::qpack::{self, QpackError};

use super::barren::Barren;
use super::connection::Open;

/// Bytes that are asked for at once.
const READ_BYTES: usize = 16 * 1024;

/// Failure to read a stream.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    #[error("the client broke the stream off")]
    Broken(#[source] io::Error),
    #[error("the stream ended within a frame or before a request")]
    Incomplete,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("a frame of type {0:#x} came where none may be")]
    Unexpected(u64),
    #[error(transparent)]
    Fields(#[from] QpackError),
    #[error(transparent)]
    Head(#[from] HeadError),
    #[error("the content is not as long as announced")]
    Length,
}

impl StreamError {
    /// What to say, and whether it ends the connection or only the stream (RFC 9114 §8).
    pub(super) fn code(&self) -> (u32, Ends) {
        match self {
            StreamError::Broken(_) => (code::REQUEST_CANCELLED, Ends::Stream),
            StreamError::Incomplete => (code::REQUEST_INCOMPLETE, Ends::Stream),
            StreamError::Frame(FrameError::Unexpected(_)) | StreamError::Unexpected(_) => {
                (code::FRAME_UNEXPECTED, Ends::Connection)
            }
            StreamError::Frame(FrameError::TooLong { .. }) | StreamError::Fields(QpackError::TooLarge) => {
                (code::EXCESSIVE_LOAD, Ends::Stream)
            }
            StreamError::Fields(_) => (code::QPACK_DECOMPRESSION_FAILED, Ends::Connection),
            StreamError::Head(_) | StreamError::Length => (code::MESSAGE_ERROR, Ends::Stream),
        }
    }
}

/// How far an error reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    Stream,
    Connection,
}

/// Frames of the client's half of a stream.
pub(super) struct Incoming {
    stream: RecvStream,
    barren: Arc<Barren>,
    reader: FrameReader,
    input: BytesMut,
    finished: bool,
}

impl Incoming {
    pub(super) fn new(stream: RecvStream, barren: Arc<Barren>) -> Self {
        Self { stream, barren, reader: FrameReader::new(MAX_HEAD_BYTES), input: BytesMut::new(), finished: false }
    }

    /// The next frame; `None` at the end of the stream.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame>, StreamError>> {
        loop {
            let next = self.reader.next(&mut self.input);
            self.barren.frames(self.reader.barren());
            if let Some(frame) = next? {
                return Poll::Ready(Ok(Some(frame)));
            }
            if self.finished {
                let whole = self.input.is_empty() && self.reader.is_between_frames();
                return Poll::Ready(if whole { Ok(None) } else { Err(StreamError::Incomplete) });
            }
            let mut room = [0; READ_BYTES];
            let mut buffer = ReadBuf::new(&mut room);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)).map_err(StreamError::Broken)?;
            self.input.extend_from_slice(buffer.filled());
            self.finished = buffer.filled().is_empty();
        }
    }

    pub(super) async fn next(&mut self) -> Result<Option<Frame>, StreamError> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Asks the client to send no more.
    pub(super) fn stop(&mut self, code: u32) {
        let _ = self.stream.stop(VarInt::from_u32(code));
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.finished {
            // The rest is not needed, which is no error of the client's (RFC 9114 §4.1).
            self.stop(code::NO_ERROR);
        }
    }
}

/// Tells the stream's task that the client broke a rule while its content was read.
#[derive(Debug, Clone, Default)]
pub(super) struct Fault(Arc<Mutex<Option<(u32, Ends)>>>);

impl Fault {
    fn set(&self, fault: (u32, Ends)) {
        *self.0.lock() = Some(fault);
    }

    pub(super) fn get(&self) -> Option<(u32, Ends)> {
        *self.0.lock()
    }
}

/// Content of a request. It ends well only when it is whole and as long as was announced.
pub(super) struct Content {
    incoming: Incoming,
    announced: Option<u64>,
    seen: u64,
    /// Read ahead by [`Content::settle`].
    ahead: Option<Option<Frame>>,
    /// They are handed on when nothing came behind them.
    trailers: Option<HeaderMap>,
    fault: Fault,
    over: bool,
    /// Told when somebody first asks for content: a client may wait for just that.
    wanted: Option<oneshot::Sender<()>>,
}

/// How long [`Content::settle`] waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Until it is known whether there is any content.
    UntilKnown,
    /// Not at all.
    None,
}

impl Content {
    pub(super) fn new(incoming: Incoming, announced: Option<u64>, fault: Fault) -> Self {
        Self { incoming, announced, seen: 0, ahead: None, trailers: None, fault, over: false, wanted: None }
    }

    /// Resolves when the content is first asked for.
    pub(super) fn wanted(&mut self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.wanted = Some(sender);
        receiver
    }

    /// Reads one frame ahead, to know whether there is content at all.
    pub(super) async fn settle(&mut self, patience: Patience) -> Result<(), StreamError> {
        let first = std::future::poll_fn(|cx| {
            loop {
                return match (self.incoming.poll_next(cx), patience) {
                    (Poll::Ready(Ok(Some(Frame::Data(data)))), _) if data.is_empty() => continue,
                    (Poll::Pending, Patience::None) => Poll::Ready(Ok(None)),
                    (polled, _) => polled.map(|result| result.map(Some)),
                };
            }
        });
        self.ahead = first.await?;
        if self.ahead == Some(None) {
            self.over = true;
            return if self.announced.unwrap_or(0) == 0 { Ok(()) } else { Err(StreamError::Length) };
        }
        match (&self.ahead, self.announced) {
            (Some(Some(Frame::Data(data))), Some(announced)) if data.len() as u64 > announced => {
                Err(StreamError::Length)
            }
            _ => Ok(()),
        }
    }

    /// Whether there is none.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<BodyFrame<Bytes>>, StreamError>> {
        if self.over {
            return Poll::Ready(Ok(None));
        }
        if let Some(wanted) = self.wanted.take() {
            let _ = wanted.send(());
        }
        loop {
            let next = match self.ahead.take() {
                Some(next) => next,
                None => ready!(self.incoming.poll_next(cx))?,
            };
            return Poll::Ready(match next {
                Some(Frame::Data(_)) if self.trailers.is_some() => Err(StreamError::Unexpected(frame::DATA)),
                Some(Frame::Data(data)) if data.is_empty() => continue,
                Some(Frame::Data(data)) => {
                    self.seen = self.seen.saturating_add(data.len() as u64);
                    match self.announced {
                        Some(announced) if self.seen > announced => Err(StreamError::Length),
                        Some(_) | None => Ok(Some(BodyFrame::data(data))),
                    }
                }
                Some(Frame::Whole { kind: frame::HEADERS, content }) if self.trailers.is_none() => {
                    let fields = qpack::decode(&content, MAX_HEAD_BYTES)?;
                    self.trailers = Some(head::trailers(fields, MAX_HEADERS)?);
                    continue;
                }
                Some(Frame::Whole { kind, .. }) => Err(StreamError::Unexpected(kind)),
                None if self.announced.is_some_and(|announced| self.seen != announced) => Err(StreamError::Length),
                None => {
                    self.over = true;
                    Ok(self.trailers.take().map(BodyFrame::trailers))
                }
            });
        }
    }
}

impl HttpBody for Content {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<BodyFrame<Bytes>, BodyError>>> {
        match ready!(self.poll_content(cx)) {
            Ok(frame) => Poll::Ready(frame.map(Ok)),
            Err(error) => {
                let (code, ends) = error.code();
                self.fault.set((code, ends));
                self.incoming.stop(code);
                self.over = true;
                Poll::Ready(Some(Err(error.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }

    fn size_hint(&self) -> SizeHint {
        match self.announced {
            Some(announced) => SizeHint::with_exact(announced.saturating_sub(self.seen)),
            None => SizeHint::default(),
        }
    }
}

/// Our half of a stream. Dropped before its end it is reset: nobody takes a part for the whole.
pub(super) struct Outgoing {
    stream: SendStream,
    ended: bool,
}

impl Outgoing {
    pub(super) fn new(stream: SendStream) -> Self {
        Self { stream, ended: false }
    }

    /// Sends a field section.
    pub(super) async fn fields(&mut self, section: &[u8]) -> io::Result<()> {
        let mut framed = Vec::with_capacity(section.len() + 8);
        write_head(&mut framed, frame::HEADERS, section.len());
        framed.extend_from_slice(section);
        self.stream.write_all(&framed).await.map_err(io::Error::other)
    }

    /// Sends content.
    pub(super) async fn content(&mut self, data: Bytes) -> io::Result<()> {
        let mut head = Vec::with_capacity(9);
        write_head(&mut head, frame::DATA, data.len());
        self.stream.write_all_chunks(&mut [head.into(), data]).await.map_err(io::Error::other)
    }

    pub(super) fn finish(&mut self) {
        self.ended = true;
        let _ = self.stream.finish();
    }

    pub(super) fn reset(&mut self, code: u32) {
        self.ended = true;
        let _ = self.stream.reset(VarInt::from_u32(code));
    }

    /// Resolves when the client has all of it, wants no more, or is gone.
    pub(super) fn unwanted(&self) -> impl Future<Output = ()> + Send + 'static {
        let stopped = self.stream.stopped();
        async move {
            let _ = stopped.await;
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if !self.ended {
            self.reset(code::REQUEST_CANCELLED);
        }
    }
}

/// A stream that was taken up: content both ways, as plain bytes.
pub(super) struct Bytewise {
    incoming: Incoming,
    /// What was read and not yet handed on.
    data: Bytes,
    outgoing: Outgoing,
    /// Head of the DATA frame that is being sent, and how much of its content is still to come.
    head: Vec<u8>,
    left: usize,
    /// Ends when the client has everything that was sent.
    delivery: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    _open: Open,
}

impl Bytewise {
    pub(super) fn new(content: Content, outgoing: Outgoing, open: Open) -> Self {
        let data = match content.ahead {
            Some(Some(Frame::Data(data))) => data,
            _ => Bytes::new(),
        };
        Self { incoming: content.incoming, data, outgoing, head: Vec::new(), left: 0, delivery: None, _open: open }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.head.is_empty() {
            let sent =
                ready!(Pin::new(&mut self.outgoing.stream).poll_write(cx, &self.head)).map_err(io::Error::other)?;
            self.head.drain(..sent);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Bytewise {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.data.is_empty() {
            match ready!(self.incoming.poll_next(cx)).map_err(io::Error::other)? {
                Some(Frame::Data(data)) => self.data = data,
                Some(Frame::Whole { kind, .. }) => {
                    // Only DATA may follow a CONNECT (RFC 9114 §4.4).
                    return Poll::Ready(Err(io::Error::other(StreamError::Unexpected(kind))));
                }
                None => return Poll::Ready(Ok(())),
            }
        }
        let now = self.data.len().min(buf.remaining());
        buf.put_slice(&self.data.split_to(now));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bytewise {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if self.left == 0 {
            let mut head = Vec::with_capacity(9);
            write_head(&mut head, frame::DATA, buf.len());
            (self.head, self.left) = (head, buf.len());
        }
        ready!(self.poll_head(cx))?;
        let now = buf.get(..self.left.min(buf.len())).unwrap_or_default();
        let sent = ready!(Pin::new(&mut self.outgoing.stream).poll_write(cx, now)).map_err(io::Error::other)?;
        self.left -= sent;
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.left > 0 || !this.head.is_empty() {
            this.outgoing.reset(code::REQUEST_CANCELLED);
            return Poll::Ready(Ok(()));
        }
        if !this.outgoing.ended {
            this.outgoing.finish();
            this.delivery = Some(Box::pin(this.outgoing.unwanted()));
        }
        // During a drain the connection is closed once nothing is open, and takes along what the
        // client doesn't have by then.
        if let Some(delivery) = &mut this.delivery {
            ready!(delivery.as_mut().poll(cx));
            this.delivery = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Bytewise {
    fn drop(&mut self) {
        self.incoming.stop(code::REQUEST_CANCELLED);
    }
}
