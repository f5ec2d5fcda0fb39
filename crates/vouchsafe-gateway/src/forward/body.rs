//! Bodies under watch: they count what passes and end at once when their flow is cut.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio_util::sync::WaitForCancellationFutureOwned;
use vouchsafe_runtime::body::BodyError;

use crate::watch::Flow;

/// Which way a body goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the client to the upstream.
    Inward,
    /// From the upstream to the client.
    Outward,
}

/// The flow behind a body was cut.
#[derive(Debug, thiserror::Error)]
#[error("access ended while the body was passing")]
struct Cut;

/// A body that belongs to a flow, and keeps it open as long as it streams.
pub(crate) struct Watched<B> {
    inner: B,
    way: Way,
    flow: Arc<Flow>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Runs once when the body has ended whole.
    on_end: Option<Box<dyn FnOnce() + Send>>,
}

impl<B> Watched<B> {
    pub(crate) fn new(inner: B, way: Way, flow: Arc<Flow>) -> Self {
        let cut = Box::pin(flow.cut().clone().cancelled_owned());
        Self { inner, way, flow, cut, on_end: None }
    }

    pub(crate) fn on_end(mut self, action: impl FnOnce() + Send + 'static) -> Self {
        self.on_end = Some(Box::new(action));
        self
    }

    fn ended(&mut self) {
        if let Some(action) = self.on_end.take() {
            action();
        }
    }
}

impl<B> HttpBody for Watched<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(Box::new(Cut))));
        }
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                this.ended();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    let traffic = this.flow.traffic();
                    let count = match this.way {
                        Way::Inward => &traffic.inward,
                        Way::Outward => &traffic.outward,
                    };
                    count.fetch_add(data.len() as u64, Ordering::Relaxed);
                }
                if this.inner.is_end_stream() {
                    this.ended();
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
