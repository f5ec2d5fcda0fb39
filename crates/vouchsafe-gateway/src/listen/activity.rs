//! Whether anything goes on on a connection, and since when nothing does.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::Notify;
use vouchsafe_runtime::body::{Body, BodyError, boxed};

/// What goes on on one connection.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<State>,
    ended: Notify,
    /// All that was written has left; kept up by [`super::tended::Tended`].
    pub(super) flushed: AtomicBool,
}

#[derive(Debug)]
struct State {
    open: usize,
    served: bool,
    closing: bool,
    since: Instant,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        let state = Mutex::new(State { open: 0, served: false, closing: false, since: Instant::now() });
        Arc::new(Self { state, ended: Notify::new(), flushed: AtomicBool::new(true) })
    }

    /// Something goes on until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        let mut state = self.state.lock();
        state.open += 1;
        state.served = true;
        Busy(Arc::clone(self))
    }

    /// Forgets what was served: what comes now may be the rest of a request that never ends.
    pub(super) fn begin_anew(&self) {
        let mut state = self.state.lock();
        state.served = false;
        state.closing = false;
        state.since = Instant::now();
    }

    /// One side has said that it will close the connection; nothing more is served on it.
    pub(super) fn will_close(&self) {
        self.state.lock().closing = true;
    }

    /// Whether nothing goes on now, nobody wants to close, all that was written has left, and something was served before.
    pub(super) fn is_quiet(&self) -> bool {
        let state = self.state.lock();
        state.open == 0 && state.served && !state.closing && self.flushed.load(Ordering::Relaxed)
    }

    /// Whether anything was ever asked for.
    pub(super) fn has_served(&self) -> bool {
        self.state.lock().served
    }

    /// Resolves when nothing has been going on for as long as `limit` says then. What was never
    /// asked for anything has `first` for that instead.
    pub(super) async fn idle(&self, first: Option<Duration>, limit: impl Fn() -> Duration) {
        loop {
            let (open, served, since) = {
                let state = self.state.lock();
                (state.open, state.served, state.since)
            };
            let allowed = match (open, served, first) {
                (0, true, _) => Some(limit()),
                (0, false, Some(first)) => Some(first),
                _ => None,
            };
            let Some(allowed) = allowed else {
                self.ended.notified().await;
                continue;
            };
            let left = allowed.saturating_sub(since.elapsed());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}

/// Something that goes on.
#[derive(Debug)]
pub(super) struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.open -= 1;
        state.since = Instant::now();
        if state.open == 0 {
            self.0.ended.notify_one();
        }
    }
}

/// An answer's body that keeps its connection busy until it has been sent.
pub(super) struct Answering {
    body: Body,
    _busy: Option<Busy>,
}

impl Answering {
    pub(super) fn new(body: Body, busy: Option<Busy>) -> Self {
        Self { body, _busy: busy }
    }
}

impl HttpBody for Answering {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Sets a flag once a request's body has been read to its end: only then is it known where the next
/// request on the connection begins.
pub(super) fn until_read(body: Body, whole: Arc<AtomicBool>) -> Body {
    let at_end = body.is_end_stream();
    whole.store(at_end, Ordering::Relaxed);
    if at_end { body } else { boxed(Reading { body, whole }) }
}

struct Reading {
    body: Body,
    whole: Arc<AtomicBool>,
}

impl HttpBody for Reading {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        // Whoever knows the length may not ask for more after the last byte.
        if matches!(polled, Poll::Ready(None | Some(Ok(_)))) && self.body.is_end_stream() {
            self.whole.store(true, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn idle_is_when_nothing_goes_on_any_more() {
        let activity = Activity::new();
        let limit = Duration::from_millis(5);
        assert!(!activity.is_quiet());
        // Never asked for anything: idle only where that has a limit.
        activity.idle(Some(limit), || Duration::MAX).await;
        let (one, two) = (activity.begin(), activity.begin());
        drop(one);
        let waiting = activity.idle(None, || limit);
        assert!(tokio::time::timeout(Duration::from_millis(30), waiting).await.is_err());
        drop(two);
        activity.idle(None, || limit).await;
        assert!(activity.is_quiet());
        activity.flushed.store(false, Ordering::Relaxed);
        assert!(!activity.is_quiet());
    }

    #[tokio::test]
    async fn a_body_is_whole_when_its_end_was_read() {
        use http_body_util::BodyExt;
        let whole = Arc::new(AtomicBool::new(false));
        drop(until_read(vouchsafe_runtime::body::empty(), Arc::clone(&whole)));
        assert!(whole.load(Ordering::Relaxed));
        let mut body = until_read(vouchsafe_runtime::body::full("four"), Arc::clone(&whole));
        assert!(!whole.load(Ordering::Relaxed));
        body.frame().await.unwrap().unwrap();
        assert!(whole.load(Ordering::Relaxed));
        assert!(body.frame().await.is_none());
    }
}
