//! An HTTP/3 connection: its control streams, its requests, its datagrams, and its orderly end.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use parking_lot::Mutex;
use quinn::{RecvStream, SendDatagramError, SendStream, VarInt};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use vouchsafe_runtime::limits::{HEADER_TIMEOUT, MAX_HEAD_BYTES};
use vouchsafe_wire::http3::{Frame, code, frame, read_settings, setting, stream, write_head, write_settings};
use vouchsafe_wire::varint;

use super::barren::{self, Barren};
use super::request;
use super::stream::{Ends, Incoming, Outgoing, StreamError};
use super::takers::{Taken, Takers};
use crate::gateway::Shared;
use crate::listen::activity::{Activity, Busy};
use crate::route::Connection;
use crate::take_up::Datagrams;

/// Bytes of one datagram beyond its payload: the number of its stream.
const NUMBER_BYTES: usize = 8;

/// What the streams of one connection share.
pub(super) struct Session {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    quic: quinn::Connection,
    takers: Takers,
    /// Whether the client takes datagrams, once its settings have said so.
    takes_datagrams: watch::Sender<Option<bool>>,
    /// Requests, and what was taken up by them.
    open: TaskTracker,
    activity: Arc<Activity>,
    /// Types of the client's streams of which there may be only one, as they were opened.
    critical: Mutex<HashSet<u64>>,
    /// What carries nothing must be earned.
    barren: Arc<Barren>,
}

/// Something on a connection that is open until this is dropped: the connection is neither idle nor
/// drained.
pub(super) struct Open {
    _token: TaskTrackerToken,
    _busy: Busy,
}

impl Session {
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Counts as one open stream.
    pub(super) fn open(&self) -> Open {
        Open { _token: self.open.token(), _busy: self.activity.begin() }
    }

    /// A stream ended before its answer, by the client's will or fault.
    pub(super) fn ended_barren(&self) {
        self.barren.stream();
    }

    /// Ends the connection for a rule that the client broke.
    pub(super) fn close(&self, code: u32, why: &dyn std::fmt::Display) {
        tracing::debug!(ip = %self.connection.ip, %why, "HTTP/3 connection ended for an error");
        self.quic.close(VarInt::from_u32(code), &[]);
    }

    /// The datagrams of a stream; `None` when the client doesn't take any. Its settings may come later
    /// than its first request, and are waited for (RFC 9297 §2.1.1).
    pub(super) async fn datagrams(&self, number: u64) -> Option<Datagrams> {
        let mut takes = self.takes_datagrams.subscribe();
        let takes = tokio::time::timeout(HEADER_TIMEOUT, takes.wait_for(Option::is_some)).await;
        let takes = matches!(takes, Ok(Ok(takes)) if *takes == Some(true));
        if !takes || self.quic.max_datagram_size().is_none() {
            return None;
        }
        let quarter = number / 4;
        let incoming = self.takers.add(quarter, Instant::now());
        let quic = self.quic.clone();
        let send = Box::new(move |payload: &[u8]| {
            let mut datagram = Vec::with_capacity(NUMBER_BYTES + payload.len());
            varint::write(&mut datagram, quarter);
            datagram.extend_from_slice(payload);
            // The oldest give way when the buffer is full, and what doesn't fit is lost (RFC 9298 §6).
            !matches!(quic.send_datagram(datagram.into()), Err(SendDatagramError::ConnectionLost(_)))
        });
        Some(Datagrams { incoming, send })
    }

    fn dispatch(&self, mut datagram: Bytes) -> bool {
        let Some((quarter, length)) = varint::read(&datagram) else { return false };
        datagram.advance(length);
        match self.takers.give(quarter, datagram, Instant::now()) {
            Taken::ByItsFlow | Taken::TooLate => {}
            Taken::ByNobody => self.barren.frames(1),
        }
        true
    }
}

/// Serves a connection whose handshake is over.
pub(super) async fn serve(shared: Arc<Shared>, quic: quinn::Connection, connection: Arc<Connection>) {
    let (activity, place) = (Activity::new(), Arc::clone(&connection.place));
    let barren = Arc::new(Barren::new(quic.clone(), connection.ip));
    let session = Arc::new(Session {
        shared: Arc::clone(&shared),
        connection,
        quic: quic.clone(),
        takers: Takers::default(),
        takes_datagrams: watch::Sender::new(None),
        open: TaskTracker::new(),
        activity: Arc::clone(&activity),
        critical: Mutex::default(),
        barren: Arc::clone(&barren),
    });
    let Some(mut control) = open_control(&quic).await else { return };
    let mut next = 0;
    let mut look = tokio::time::interval(barren::LOOK);
    let mut idle = std::pin::pin!(activity.idle(Some(HEADER_TIMEOUT), || place.idle_limit()));
    loop {
        tokio::select! {
            accepted = quic.accept_bi() => {
                let Ok((send, recv)) = accepted else { return };
                let number = u64::from(VarInt::from(recv.id()));
                next = next.max(number + 4);
                barren.request();
                let incoming = Incoming::new(recv, Arc::clone(&barren));
                let serving = request::serve(Arc::clone(&session), number, Outgoing::new(send), incoming);
                let open = session.open();
                shared.tasks.spawn("http/3 stream", serving.map(move |()| drop(open)));
            }
            accepted = quic.accept_uni() => {
                let Ok(recv) = accepted else { return };
                shared.tasks.spawn("http/3 control", read_unidirectional(Arc::clone(&session), recv));
            }
            received = quic.read_datagram() => {
                let Ok(datagram) = received else { return };
                if !session.dispatch(datagram) {
                    return session.close(code::DATAGRAM_ERROR, &"a datagram without the number of its stream");
                }
            }
            _ = look.tick() => barren.look(),
            () = &mut idle => break,
            () = shared.tasks.draining() => break,
        }
    }
    // Requests up to here are answered; the client may send the others elsewhere (RFC 9114 §5.2).
    let (mut goaway, mut content) = (Vec::new(), Vec::new());
    varint::write(&mut content, next);
    write_head(&mut goaway, frame::GOAWAY, content.len());
    goaway.extend(content);
    let _ = control.write_all(&goaway).await;
    session.open.close();
    let late = async {
        while let Ok((send, mut recv)) = quic.accept_bi().await {
            let _ = recv.stop(VarInt::from_u32(code::REQUEST_REJECTED));
            Outgoing::new(send).reset(code::REQUEST_REJECTED);
        }
    };
    let datagrams = async {
        while let Ok(datagram) = quic.read_datagram().await {
            session.dispatch(datagram);
        }
    };
    let looking = async {
        loop {
            look.tick().await;
            barren.look();
        }
    };
    tokio::select! {
        () = session.open.wait() => quic.close(VarInt::from_u32(code::NO_ERROR), &[]),
        () = late => {}
        () = datagrams => {}
        () = looking => {}
    }
    quic.closed().await;
}

async fn open_control(quic: &quinn::Connection) -> Option<SendStream> {
    let mut control = quic.open_uni().await.ok()?;
    let mut opening = Vec::new();
    varint::write(&mut opening, stream::CONTROL);
    let settings = [
        (setting::MAX_FIELD_SECTION_SIZE, MAX_HEAD_BYTES as u64),
        (setting::ENABLE_CONNECT_PROTOCOL, 1),
        (setting::H3_DATAGRAM, 1),
    ];
    write_settings(&mut opening, &settings);
    control.write_all(&opening).await.ok()?;
    Some(control)
}

/// A stream of the client's that carries no request.
async fn read_unidirectional(session: Arc<Session>, mut recv: RecvStream) {
    let kind = tokio::time::timeout(HEADER_TIMEOUT, read_varint(&mut recv)).await;
    let Ok(Some(kind)) = kind else { return session.ended_barren() };
    let is_critical = matches!(kind, stream::CONTROL | stream::QPACK_ENCODER | stream::QPACK_DECODER);
    if is_critical && !session.critical.lock().insert(kind) {
        return session.close(code::STREAM_CREATION_ERROR, &"a stream is there twice of which there is one");
    }
    match kind {
        stream::CONTROL => {
            let error = read_control(&session, Incoming::new(recv, Arc::clone(&session.barren))).await;
            match error {
                // It may end only with the connection (RFC 9114 §6.2.1).
                StreamError::Incomplete | StreamError::Broken(_) => {
                    session.close(code::CLOSED_CRITICAL_STREAM, &"the control stream ended");
                }
                error => session.close(connection_code(&error), &error),
            }
        }
        stream::PUSH => session.close(code::STREAM_CREATION_ERROR, &"a client can't push"),
        stream::QPACK_ENCODER => {
            // There is no table to fill. A capacity of zero may be said, and nothing else.
            let mut byte = [0; 1];
            while recv.read_exact(&mut byte).await.is_ok() {
                session.barren.frames(1);
                if byte != [0x20] {
                    return session.close(code::QPACK_ENCODER_STREAM_ERROR, &"there is no dynamic table");
                }
            }
            session.close(code::CLOSED_CRITICAL_STREAM, &"the encoder's stream ended");
        }
        stream::QPACK_DECODER => {
            // Acknowledgements of entries that we never made mean nothing; they are not kept.
            let mut sink = [0; 64];
            while let Ok(Some(read @ 1..)) = recv.read(&mut sink).await {
                session.barren.frames(u32::try_from(read).unwrap_or(u32::MAX));
            }
            session.close(code::CLOSED_CRITICAL_STREAM, &"the decoder's stream ended");
        }
        _ => {
            session.ended_barren();
            let _ = recv.stop(VarInt::from_u32(code::STREAM_CREATION_ERROR));
        }
    }
}

fn connection_code(error: &StreamError) -> u32 {
    match error.code() {
        (code, Ends::Connection) => code,
        (_, Ends::Stream) => code::FRAME_ERROR,
    }
}

/// Reads the control stream until it can't be read on.
async fn read_control(session: &Session, mut control: Incoming) -> StreamError {
    let mut has_settings = false;
    loop {
        match control.next().await {
            Ok(Some(Frame::Whole { kind: frame::SETTINGS, content })) if !has_settings => {
                has_settings = true;
                let Some(settings) = read_settings(&content) else {
                    session.close(code::SETTINGS_ERROR, &"the settings contradict themselves");
                    return StreamError::Incomplete;
                };
                let takes = settings.contains(&(setting::H3_DATAGRAM, 1));
                session.takes_datagrams.send_replace(Some(takes));
            }
            Ok(Some(_)) if !has_settings => {
                session.close(code::MISSING_SETTINGS, &"no settings came first");
                return StreamError::Incomplete;
            }
            Ok(Some(Frame::Whole { kind: frame::GOAWAY | frame::MAX_PUSH_ID | frame::CANCEL_PUSH, .. })) => {
                session.barren.frames(1);
            }
            Ok(Some(Frame::Whole { kind, .. })) => return StreamError::Unexpected(kind),
            Ok(Some(Frame::Data(_))) => return StreamError::Unexpected(frame::DATA),
            Ok(None) => return StreamError::Incomplete,
            Err(error) => return error,
        }
    }
}

async fn read_varint(recv: &mut RecvStream) -> Option<u64> {
    let mut bytes = Vec::with_capacity(8);
    while bytes.len() < 8 {
        bytes.push(recv.read_u8().await.ok()?);
        if let Some((value, _)) = varint::read(&bytes) {
            return Some(value);
        }
    }
    None
}
