//! Bodies under watch: they count what passes, filter trailers, and end at once when their flow does.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Sleep;
use vouchsafe_runtime::body::{Body, BodyError};
use vouchsafe_runtime::task::TaskGroup;

use crate::forward::headers;
use crate::forward::upstream::Lease;
use crate::watch::{Flow, Way};

/// How long a client that waits for "100 Continue" waits for a silent upstream: some never say it
/// (RFC 9110 §10.1.1).
const CONTINUE_PATIENCE: Duration = Duration::from_secs(1);

/// How long the rest of a request is kept whose answer is over, and how much of it is read.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// Why a body ends before its end. HTTP/2 peers see a reset of their stream (CANCEL), peers of
/// HTTP/1.1 a connection that is closed in the middle of a body.
#[derive(Debug, thiserror::Error)]
enum Broken {
    /// The flow was cut.
    #[error("access ended while the body was passing")]
    Cut(#[source] h2::Error),
    /// The answer is over.
    #[error("the answer was over before the request")]
    AnswerOver(#[source] h2::Error),
}

impl Broken {
    fn cut() -> BodyError {
        Box::new(Self::Cut(h2::Reason::CANCEL.into()))
    }

    fn answer_over() -> BodyError {
        Box::new(Self::AnswerOver(h2::Reason::CANCEL.into()))
    }
}

/// What became of a request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upload {
    /// It was sent whole, or there was none.
    Whole,
    /// It is still under way, or was given up.
    Open,
    /// The client broke it off, or framed it wrongly.
    Broken,
}

/// A request body on its way in.
pub(crate) struct Inward {
    inner: Body,
    flow: Arc<Flow>,
    gate: Option<Gate>,
    /// Bytes still to come, where the head said how many there are.
    left: Option<u64>,
    tasks: TaskGroup,
}

impl Inward {
    /// `gate` holds the body back until the upstream wants it.
    pub(crate) fn new(inner: Body, flow: Arc<Flow>, gate: Option<Gate>, tasks: TaskGroup) -> Self {
        flow.set_upload(Upload::Open);
        let left = inner.size_hint().exact();
        Self { inner, flow, gate, left, tasks }
    }
}

impl Drop for Inward {
    fn drop(&mut self) {
        let given_up = self.flow.upload() == Upload::Open && self.flow.cut().ended().is_none();
        // A body that was never asked for with "100 Continue" is not on its way.
        if given_up && self.gate.is_none() && !self.inner.is_end_stream() {
            let rest = std::mem::take(&mut self.inner);
            self.tasks.spawn("rest of a request", linger(rest));
        }
    }
}

/// Keeps a body for a moment that nobody reads any more. A client that is refused in the middle of
/// its upload must come to read why, before its stream or connection is reset.
async fn linger(mut body: Body) {
    let reading = async {
        let mut read = 0;
        while let Some(Ok(frame)) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read >= LINGER_BYTES {
                return std::future::pending().await;
            }
        }
    };
    let _: Result<(), _> = tokio::time::timeout(LINGER, reading).await;
}

impl HttpBody for Inward {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let cut = this.flow.cut();
        cut.watch(Way::Inward, cx);
        if cut.ended().is_some() {
            return Poll::Ready(Some(Err(Broken::cut())));
        }
        if cut.is_upload_over() {
            return Poll::Ready(Some(Err(Broken::answer_over())));
        }
        if let Some(gate) = &mut this.gate {
            ready!(gate.poll(cx));
            this.gate = None;
        }
        loop {
            return Poll::Ready(match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                None => {
                    this.flow.set_upload(Upload::Whole);
                    None
                }
                Some(Err(error)) => {
                    this.flow.set_upload(Upload::Broken);
                    Some(Err(error))
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        this.flow.traffic().inward.fetch_add(data.len() as u64, Ordering::Relaxed);
                        this.left = this.left.map(|left| left.saturating_sub(data.len() as u64));
                        // Nobody asks for the end of a body whose length is known.
                        if this.left == Some(0) || this.inner.is_end_stream() {
                            this.flow.set_upload(Upload::Whole);
                        }
                        Some(Ok(Frame::data(data)))
                    }
                    Err(frame) => match frame.into_trailers().map(headers::trailers_to_upstream) {
                        Ok(trailers) if !trailers.is_empty() => {
                            this.flow.set_upload(Upload::Whole);
                            Some(Ok(Frame::trailers(trailers)))
                        }
                        // Nothing is left of them, or it is a frame that nobody knows.
                        Ok(_) | Err(_) => continue,
                    },
                },
            });
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body on its way out.
pub(crate) struct Outward<B> {
    inner: B,
    flow: Arc<Flow>,
    /// The upstream connection, which is free again once the body has ended whole.
    lease: Option<Lease>,
}

impl<B: HttpBody> Outward<B> {
    pub(crate) fn new(inner: B, flow: Arc<Flow>, lease: Option<Lease>) -> Self {
        Self { inner, flow, lease }
    }
}

impl<B> Outward<B> {
    fn whole(&mut self) {
        if let Some(lease) = self.lease.take() {
            finish(&self.flow, lease);
        }
    }
}

/// The answer is whole. A connection can serve another request only if its own went out whole as
/// well; else the rest of it is given up, as nobody is left who would read it.
pub(crate) fn finish(flow: &Flow, lease: Lease) {
    match flow.upload() {
        Upload::Whole => lease.give_back(),
        Upload::Open | Upload::Broken => {
            drop(lease);
            flow.cut().end_upload();
        }
    }
}

impl<B> Drop for Outward<B> {
    fn drop(&mut self) {
        if self.lease.take().is_some() {
            // The client went away in the middle of the answer.
            self.flow.cut().end_upload();
        }
    }
}

impl<B> HttpBody for Outward<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let cut = this.flow.cut();
        cut.watch(Way::Outward, cx);
        if cut.ended().is_some() {
            return Poll::Ready(Some(Err(Broken::cut())));
        }
        loop {
            let polled = match &mut this.lease {
                Some(lease) => lease.poll_with(cx, |cx| Pin::new(&mut this.inner).poll_frame(cx)),
                None => Pin::new(&mut this.inner).poll_frame(cx),
            };
            return Poll::Ready(match ready!(polled) {
                None => {
                    this.whole();
                    None
                }
                Some(Err(error)) => {
                    let error = error.into();
                    this.flow.set_detail(format!("the answer broke off: {error}"));
                    Some(Err(error))
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        this.flow.traffic().outward.fetch_add(data.len() as u64, Ordering::Relaxed);
                        if this.inner.is_end_stream() {
                            this.whole();
                        }
                        Some(Ok(Frame::data(data)))
                    }
                    Err(frame) => match frame.into_trailers().map(headers::trailers_from_upstream) {
                        Ok(trailers) if !trailers.is_empty() => {
                            this.whole();
                            Some(Ok(Frame::trailers(trailers)))
                        }
                        Ok(_) | Err(_) => continue,
                    },
                },
            });
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Holds a request body back until the upstream asks for it with "100 Continue". Its final answer
/// may come first; then the body is never asked of the client.
pub(crate) struct Gate {
    signal: Arc<Signal>,
    patience: Pin<Box<Sleep>>,
}

/// Opens a [`Gate`], or shuts it for good.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    state: AtomicU8,
    waiting: AtomicWaker,
}

const OPEN: u8 = 1;
const SHUT: u8 = 2;

impl Signal {
    pub(crate) fn open(&self) {
        self.state.fetch_or(OPEN, Ordering::AcqRel);
        self.waiting.wake();
    }

    /// Without effect once it is open.
    pub(crate) fn shut(&self) {
        self.state.fetch_or(SHUT, Ordering::AcqRel);
    }
}

impl Gate {
    pub(crate) fn new() -> (Self, Arc<Signal>) {
        let signal = Arc::<Signal>::default();
        (Self { signal: Arc::clone(&signal), patience: Box::pin(tokio::time::sleep(CONTINUE_PATIENCE)) }, signal)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.signal.waiting.register(cx.waker());
        match self.signal.state.load(Ordering::Acquire) {
            0 => self.patience.as_mut().poll(cx),
            SHUT => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }
}
