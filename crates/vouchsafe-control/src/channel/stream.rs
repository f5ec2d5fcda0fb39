//! One attached gateway: what it is told, and what it asks.
//!
//! Two halves that never wait for each other: one reads what comes and lets it be answered, the other tells
//! of changes (`tell`).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::{Semaphore, mpsc, watch};
use vouchsafe_model::id::GatewayId;
use vouchsafe_runtime::body::Body;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::grpc::{self, Incomings, OUTGOING, StreamError};
use vouchsafe_runtime::link::{ControlLink as _, Credential, LinkError, RecordBatch, RedeemedCode, codec};
use vouchsafe_wire::control::message::{
    Answer, AnswerKind, Ask, DownKind, Hello, Nothing, Ping, Question, Records, Redeem, Redeemed, Up, UpKind, era_of,
};
use vouchsafe_wire::control::{MAX_UP_BYTES, VERSION};

use super::attached::Place;
use super::tell::{Beginning, Teller, send};
use super::{Channel, Peer};
use crate::checkpoints::compare_with_gateway;
use crate::context::Context;
use crate::store::{StoreError, gateways};

/// How long a gateway may take to say hello.
const HELLO: Duration = Duration::from_secs(10);
/// Questions of one gateway that are answered side by side; more wait in its stream.
const SIDE_BY_SIDE: usize = 64;

/// Why a stream ended before its time.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the gateway says hello twice")]
    Protocol,
    #[error("the gateway was removed")]
    Removed,
    #[error("its certificate has ended")]
    Expired,
    #[error("the gateway went away")]
    Gone,
    #[error("the gateway attached again, from {by}")]
    Replaced { by: IpAddr },
}

/// Answers `Attach`.
pub(super) async fn attach(channel: &Arc<Channel>, peer: Peer, request: Request<Incoming>) -> Response<Body> {
    let Peer { gateway, ip, .. } = peer;
    let mut incoming = Incomings::new(request.into_body(), MAX_UP_BYTES);
    let mut hello = match tokio::time::timeout(HELLO, incoming.next::<Up>()).await {
        Ok(Ok(Some(Up { kind: Some(UpKind::Hello(hello)) }))) => hello,
        Ok(_) | Err(_) => return grpc::refusal(grpc::Status::FailedPrecondition),
    };
    if !hello.versions.contains(&VERSION) {
        tracing::error!(%gateway, software = %shortened(&hello.software), "a gateway speaks no version that we know");
        return grpc::refusal(grpc::Status::FailedPrecondition);
    }
    if !hello.era.is_empty() && era_of(&channel.eras, hello.snapshot_sequence) != Some(&hello.era) {
        tracing::error!(%gateway, %ip, "a gateway comes from another history than this database's; was it restored?");
        // It is told everything, and with it whether this is a history that it can follow.
        (hello.last_sequence, hello.snapshot_sequence) = (0, 0);
    }
    // Taken before it is looked up: a removal behind that point is read there.
    let beginning = match Beginning::of(&channel.context, gateway, ip, &hello).await {
        Ok(Some(beginning)) => beginning,
        Ok(None) => {
            tracing::warn!(%gateway, %ip, "a gateway that was removed wants to attach");
            return grpc::refusal(grpc::Status::PermissionDenied);
        }
        Err(error) => {
            tracing::error!(%gateway, error = &error as &dyn std::error::Error, "a gateway can't attach");
            return grpc::refusal(grpc::Status::Unavailable);
        }
    };
    compare_checkpoints(&channel.context, gateway, std::mem::take(&mut hello.checkpoints));
    let (out, messages) = mpsc::channel(OUTGOING);
    let channel = Arc::clone(channel);
    channel.context.tasks.clone().spawn("gateway stream", async move {
        tracing::info!(%gateway, %ip, software = %shortened(&hello.software), "a gateway attaches");
        let place = channel.attached.enter(gateway, ip);
        match serve(&channel, peer, &hello, beginning, incoming, out, &place).await {
            Ok(()) => tracing::info!(%gateway, "a gateway was let go"),
            Err(error) => {
                tracing::warn!(%gateway, %ip, error = &error as &dyn std::error::Error, "a gateway is detached");
            }
        }
    });
    grpc::answer(messages)
}

/// Holds what the gateway kept of the audit log against what is here; nothing waits for it.
fn compare_checkpoints(context: &Context, gateway: GatewayId, kept: Vec<Bytes>) {
    if kept.is_empty() {
        return;
    }
    let context = context.clone();
    context.tasks.clone().spawn("checkpoints of a gateway", async move {
        let found = async { gateways::find(&mut *context.store.read().await?, &gateway).await };
        let name = match found.await {
            Ok(Some((name, _))) => name,
            Ok(None) | Err(_) => gateway.to_string(),
        };
        compare_with_gateway(&context, &name, &kept).await;
    });
}

fn shortened(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(40).collect()
}

async fn serve(
    channel: &Arc<Channel>,
    peer: Peer,
    hello: &Hello,
    beginning: Beginning,
    incoming: Incomings,
    out: mpsc::Sender<Bytes>,
    place: &Place,
) -> Result<(), Ended> {
    let (pings, to_answer) = watch::channel(None);
    let valid = peer.not_after.duration_since(clock::now()).unwrap_or_default();
    let snapshots = channel.snapshots.clone();
    let mut teller = Teller::new(&channel.context, peer.gateway, hello, beginning, snapshots, out.clone());
    tokio::select! {
        ended = teller.tell(channel.lease, to_answer) => ended.map(|never| match never {}),
        ended = listen(channel, peer.gateway, incoming, out, pings, place) => ended,
        // Who has renewed it comes back with the next.
        () = tokio::time::sleep(valid) => Err(Ended::Expired),
        () = channel.context.tasks.draining() => Ok(()),
        by = place.replaced() => Err(Ended::Replaced { by }),
    }
}

/// The half that listens.
async fn listen(
    channel: &Arc<Channel>,
    gateway: GatewayId,
    mut incoming: Incomings,
    out: mpsc::Sender<Bytes>,
    pings: watch::Sender<Option<u64>>,
    place: &Place,
) -> Result<(), Ended> {
    let places = Arc::new(Semaphore::new(SIDE_BY_SIDE));
    while let Some(Up { kind }) = incoming.next().await? {
        let (call, asked) = match kind {
            Some(UpKind::Hello(_)) => return Err(Ended::Protocol),
            Some(UpKind::Ping(Ping { nonce, sequence, connectors })) => {
                place.acknowledged(sequence);
                place.told_of(&connectors);
                pings.send_replace(Some(nonce));
                continue;
            }
            Some(UpKind::Ask(Ask { call, question })) => (call, question.map(Asked::Question)),
            Some(UpKind::Records(Records { call, first_seq, count, frames })) => {
                (call, Some(Asked::Records(RecordBatch { first_seq, count, frames })))
            }
            None => continue,
        };
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Err(Ended::Gone) };
        let (channel, out) = (Arc::clone(channel), out.clone());
        channel.context.tasks.clone().spawn("question of a gateway", async move {
            let kind = match asked {
                Some(asked) => Some(match &channel.spans {
                    None => answer(&channel, gateway, asked).await,
                    Some(spans) => {
                        let failed = |kind: &AnswerKind| matches!(kind, AnswerKind::Failed(_));
                        spans.of_question(asked.kind(), answer(&channel, gateway, asked), failed).await
                    }
                }),
                None => None,
            };
            let _ = send(&out, DownKind::Answer(Answer { call, kind })).await;
            drop(place);
        });
    }
    Err(Ended::Gone)
}

enum Asked {
    Question(Question),
    Records(RecordBatch),
}

impl Asked {
    /// What it is called in spans.
    const fn kind(&self) -> &'static str {
        match self {
            Asked::Question(Question::AppCookie(_)) => "app_cookie",
            Asked::Question(Question::Session(_)) => "session",
            Asked::Question(Question::Device(_)) => "device",
            Asked::Question(Question::Redeem(_)) => "redeem",
            Asked::Records(_) => "records",
        }
    }
}

async fn answer(channel: &Channel, gateway: GatewayId, asked: Asked) -> AnswerKind {
    let answered = match asked {
        Asked::Question(question) => ask(channel, question).await,
        // Whose records they are, the certificate says.
        Asked::Records(batch) => channel.link.deliver(gateway, batch).await.map(AnswerKind::Taken),
    };
    answered.unwrap_or_else(|LinkError { why }| AnswerKind::Failed(why))
}

async fn ask(channel: &Channel, question: Question) -> Result<AnswerKind, LinkError> {
    let malformed = || LinkError { why: "the question can't be read".to_owned() };
    let link = &channel.link;
    let credential = match question {
        Question::AppCookie(hash) => Credential::AppCookie(hash[..].try_into().map_err(|_| malformed())?),
        Question::Session(id) => Credential::Session(id.parse().map_err(|_| malformed())?),
        Question::Device(id) => {
            let device = link.device(id.parse().map_err(|_| malformed())?).await?;
            return Ok(device.map_or(AnswerKind::NoDevice(Nothing {}), |device| AnswerKind::Device((&device).into())));
        }
        Question::Redeem(Redeem { code, label, device, ip }) => {
            let device = if device.is_empty() { None } else { Some(device.parse().map_err(|_| malformed())?) };
            let ip = ip.parse().map_err(|_| malformed())?;
            return Ok(match link.redeem(code, label, device, ip).await? {
                Some(RedeemedCode { cookie, max_age_seconds }) => {
                    AnswerKind::Redeemed(Redeemed { cookie, max_age_seconds })
                }
                None => AnswerKind::NotRedeemed(Nothing {}),
            });
        }
    };
    Ok(match link.subject(credential).await? {
        Ok(known) => AnswerKind::Subject(Box::new(codec::subject(known))),
        Err(nobody) => AnswerKind::NoSubject(codec::nobody(nobody)),
    })
}
