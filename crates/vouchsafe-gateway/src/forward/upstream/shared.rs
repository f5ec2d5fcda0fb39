//! HTTP/2 connections to upstreams, shared by many exchanges.

use std::error::Error as _;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use vouchsafe_model::id::ConnectorId;
use vouchsafe_runtime::body::Body;
use vouchsafe_runtime::limits::MAX_HEAD_BYTES;
use vouchsafe_runtime::task::TaskGroup;

use crate::forward::http::ForwardError;
use crate::forward::upstream::{Again, Failed, IDLE};
use crate::listen::{Metered, Requests};

/// Most exchanges on one connection at a time.
const MAX_STREAMS: usize = 100;
/// Bytes that one answer may have under way. A slow reader holds back its own stream at this point;
/// the connection's window has room for all streams, so it holds back no other's.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * 100;
/// Bytes of one request body that wait to be written.
const SEND_BUFFER: usize = 256 * 1024;
/// Silence after which the upstream is asked whether it is still there, and how long it may take.
const PING_AFTER: Duration = Duration::from_secs(30);
const PING_PATIENCE: Duration = Duration::from_secs(20);
/// How often a new connection is asked whether its settings have come.
const SETTINGS_POLL: Duration = Duration::from_millis(5);

/// What the upstream has said in its settings.
struct Peer {
    /// Most exchanges at a time.
    streams: AtomicUsize,
    /// It takes WebSockets on streams.
    websockets: AtomicBool,
    /// It has said goodbye, and takes no more.
    leaving: AtomicBool,
    /// Wakes the task that reads the settings.
    look: AtomicWaker,
}

/// Where requests are handed over; nothing once the connection takes no more.
///
/// There is this one handle and no copy. The library keeps a request that is handed over in the very
/// moment in which the connection ends until the last handle is gone, and only then says that it failed:
/// exchanges that each kept a copy while they waited would wait for one another.
type Sender = Arc<Mutex<Option<SendRequest<Body>>>>;

/// One connection.
pub(super) struct Multiplexed {
    sender: Sender,
    peer: Arc<Peer>,
    requests: Requests,
    streams: Arc<AtomicUsize>,
    used: Mutex<Instant>,
    /// Through which it goes, when it isn't ours.
    connector: Option<ConnectorId>,
}

impl Multiplexed {
    pub(super) async fn start<S>(tasks: &TaskGroup, stream: S, connector: Option<ConnectorId>) -> hyper::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let requests = Requests::default();
        let stream = Metered::upstream(stream, requests.clone());
        let (sender, connection) = http2::Builder::new(InGroup(tasks.clone()))
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_PATIENCE)
            .handshake(TokioIo::new(stream))
            .await?;
        let peer = Arc::new(Peer {
            streams: AtomicUsize::new(MAX_STREAMS),
            websockets: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            look: AtomicWaker::new(),
        });
        let told = Arc::clone(&peer);
        let sender = Arc::new(Mutex::new(Some(sender)));
        let last = Arc::clone(&sender);
        tasks.spawn("upstream connection", async move {
            let mut connection = std::pin::pin!(connection);
            let ended = std::future::poll_fn(|cx| {
                told.look.register(cx.waker());
                let ended = connection.as_mut().poll(cx);
                told.streams.store(connection.current_max_send_streams(), Ordering::Relaxed);
                told.websockets.store(connection.is_extended_connect_protocol_enabled(), Ordering::Relaxed);
                ended
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "upstream connection ended");
            }
            *last.lock() = None;
        });
        Ok(Self { sender, peer, requests, streams: Arc::default(), used: Mutex::new(Instant::now()), connector })
    }

    /// The place of the exchange for which it was opened.
    pub(super) fn first(&self) -> Stream {
        self.stream(false)
    }

    fn stream(&self, reused: bool) -> Stream {
        self.streams.fetch_add(1, Ordering::Relaxed);
        *self.used.lock() = Instant::now();
        Stream {
            sender: Arc::clone(&self.sender),
            peer: Arc::clone(&self.peer),
            requests: self.requests.clone(),
            streams: Arc::clone(&self.streams),
            connector: self.connector,
            reused,
        }
    }

    fn has_room(&self) -> bool {
        // One place stays free, so that no request waits inside the library for another's end.
        let allowed = self.peer.streams.load(Ordering::Relaxed).saturating_sub(1).clamp(1, MAX_STREAMS);
        self.streams.load(Ordering::Relaxed) < allowed
    }

    /// Whether it is open, and used or not idle for long.
    pub(super) fn is_of_use(&self) -> bool {
        let used = self.streams.load(Ordering::Relaxed) > 0 || self.used.lock().elapsed() < IDLE;
        used && !self.is_over()
    }

    fn is_over(&self) -> bool {
        is_closed(&self.sender) || self.peer.leaving.load(Ordering::Relaxed)
    }
}

fn is_closed(sender: &Sender) -> bool {
    sender.lock().as_ref().is_none_or(SendRequest::is_closed)
}

/// A place on the first connection that has room. An upstream that says goodbye (GOAWAY) is not
/// asked for more on that connection; exchanges that it has begun go on.
pub(super) fn take(connections: &Mutex<Vec<Multiplexed>>) -> Option<Stream> {
    let mut connections = connections.lock();
    if connections.iter().any(Multiplexed::is_over) {
        connections.retain(|connection| !connection.is_over());
    }
    connections.iter().find(|connection| connection.has_room()).map(|connection| connection.stream(true))
}

/// One exchange's place on a connection.
pub(crate) struct Stream {
    sender: Sender,
    peer: Arc<Peer>,
    requests: Requests,
    streams: Arc<AtomicUsize>,
    connector: Option<ConnectorId>,
    /// Others came before it on this connection.
    reused: bool,
}

impl Stream {
    /// The connector that it goes through.
    pub(super) fn connector(&self) -> Option<ConnectorId> {
        self.connector
    }

    pub(super) async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>, Failed> {
        self.requests.sent();
        let answer = match &mut *self.sender.lock() {
            Some(sender) => sender.try_send_request(request),
            None => return Err(Failed { error: ForwardError::Ended, unsent: Some(request), again: Again::Always }),
        };
        answer.await.map_err(|mut failed| {
            let unsent = failed.take_message();
            let error = failed.into_error();
            let again = again(&error, self.reused);
            // Nobody else is to come here, though the connection's own task may not have seen its end yet.
            if unsent.is_some() || again != Again::Never {
                self.peer.leaving.store(true, Ordering::Relaxed);
            }
            Failed { error: error.into(), unsent, again }
        })
    }

    /// Whether the upstream takes WebSockets on streams (RFC 8441 §3). Its settings are the first
    /// thing that it sends, so on a new connection they are waited for.
    pub(crate) async fn takes_websockets(&self, patience: Duration) -> bool {
        let begun = Instant::now();
        while !self.peer.websockets.load(Ordering::Relaxed) {
            if is_closed(&self.sender) || begun.elapsed() >= patience {
                return false;
            }
            self.peer.look.wake();
            tokio::time::sleep(SETTINGS_POLL).await;
        }
        true
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is known of a request that failed without an answer. Of a connection that was used before, the
/// end may have crossed it on the way: an upstream that closes at once leaves its goodbye unread behind
/// what we can no longer write.
fn again(error: &hyper::Error, reused: bool) -> Again {
    // It waited for a place among the upstream's streams when the connection ended: the library's word is
    // that nobody sends it any more.
    if error.is_user() {
        return Again::Always;
    }
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            let refused = h2.is_reset() && h2.is_remote() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
            let goodbye = h2.is_go_away() && h2.is_remote() && h2.reason() == Some(h2::Reason::NO_ERROR);
            return if refused || goodbye { Again::Always } else { Again::Never };
        }
        if reused && cause.is::<io::Error>() {
            return Again::IfIdempotent;
        }
        source = cause.source();
    }
    Again::Never
}

/// Runs the library's tasks in our group.
#[derive(Clone)]
struct InGroup(TaskGroup);

impl<F> Executor<F> for InGroup
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        self.0.spawn("upstream stream", async move {
            future.await;
        });
    }
}
