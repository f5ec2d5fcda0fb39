//! The audit log: taking in what gateways deliver, answering questions, and following what is new.
//! Reading it is recorded, too. The record's format: `docs/spec/audit-record.md`.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::watch;
use vouchsafe_model::id::GatewayId;
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{AuditPage, AuditQuery};
use vouchsafe_wire::audit::{Kind, Record, RecordError};

use crate::administrator::shortened;
use crate::context::Context;
use crate::directory::{Actor, DirectoryError, devices};
use crate::store::audit::{Filter, Span};
use crate::store::{StoreError, audit as rows};

/// Records that one page has unless asked otherwise.
const DEFAULT_LIMIT: u32 = 100;
/// Most records of one page.
const MAX_LIMIT: u32 = 10_000;
/// Records that a follower reads at once.
const TAIL_BATCH: u32 = 500;

/// Failure to read the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditError {
    /// A filter has a value that it can't have.
    #[error("`{member}` is `{given}`, but must be {expected}")]
    Value {
        /// The filter.
        member: &'static str,
        /// The value, shortened.
        given: String,
        /// What is possible.
        expected: &'static str,
    },
    /// The device that is filtered by isn't known.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Refusal of what a gateway delivered; nothing of the batch is kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeliveryError {
    /// Not the canonical bytes of a record.
    #[error("record {seq} of {gateway} is malformed")]
    Malformed {
        /// Who delivered it.
        gateway: GatewayId,
        /// Its number.
        seq: u64,
        /// What is wrong with it.
        #[source]
        source: RecordError,
    },
    /// The record says it is another's, or of another number.
    #[error("record {seq} of {gateway} says that it is record {claimed_seq} of `{claimed}`")]
    NotItsOwn {
        /// Who delivered it.
        gateway: GatewayId,
        /// Under which number.
        seq: u64,
        /// Whose it says it is.
        claimed: String,
        /// Which number it says it has.
        claimed_seq: u64,
    },
    /// Two records of one number.
    #[error("record {seq} of {gateway} is known already with other content")]
    Altered {
        /// Who delivered it.
        gateway: GatewayId,
        /// Its number.
        seq: u64,
    },
    /// Numbers do not rise.
    #[error("record {seq} of {gateway} follows a higher number")]
    OutOfOrder {
        /// Who delivered it.
        gateway: GatewayId,
        /// Its number.
        seq: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes in a batch from a gateway: all of it or, when any record is refused, nothing. Records that
/// are known are skipped. Returns the highest number up to which all that came are durable.
pub(crate) async fn deliver(
    context: &Context,
    gateway: GatewayId,
    records: &[(u64, Vec<u8>)],
) -> Result<u64, DeliveryError> {
    let source = gateway.to_string();
    let mut write = context.store.write().await?;
    let mut highest = rows::last_seq(write.connection(), &source).await?;
    let mut previous = None;
    for (seq, bytes) in records {
        let seq = *seq;
        if previous.is_some_and(|previous| previous >= seq) {
            return Err(DeliveryError::OutOfOrder { gateway, seq });
        }
        previous = Some(seq);
        let record =
            Record::from_canonical(bytes).map_err(|source| DeliveryError::Malformed { gateway, seq, source })?;
        if record.source != source || record.seq != seq {
            let (claimed, claimed_seq) = (shortened(&record.source), record.seq);
            return Err(DeliveryError::NotItsOwn { gateway, seq, claimed, claimed_seq });
        }
        if !rows::insert(write.connection(), &record, bytes).await? {
            match rows::bytes_of(write.connection(), &source, seq).await? {
                Some(known) if known == *bytes => {}
                Some(_) | None => return Err(DeliveryError::Altered { gateway, seq }),
            }
        }
        if seq > highest + 1 {
            // The gateway keeps what was not acknowledged, so this means a lost disk on one side.
            tracing::error!(%gateway, from = highest + 1, to = seq - 1, "audit records never arrived");
            let mut gap = Actor::Controller.record(Kind::Lifecycle, clock::now());
            gap.action = Some("audit.gap".to_owned());
            gap.outcome = Some("failed".to_owned());
            gap.target = Some(format!("gateway/{gateway}"));
            gap.detail = Some(format!("records {} to {} never arrived", highest + 1, seq - 1));
            write.audit(gap);
        }
        highest = highest.max(seq);
    }
    write.commit().await?;
    Ok(highest)
}

/// Answers a question, newest first, and records that it was asked.
pub(crate) async fn query(context: &Context, query: &AuditQuery, by: &Actor) -> Result<AuditPage, AuditError> {
    let limit = limit_of(query, DEFAULT_LIMIT)?;
    let mut read = context.store.read().await?;
    let filter = filter_of(&mut read, query).await?;
    drop(read);
    record_read(context, query, "audit.query", by).await?;
    let mut read = context.store.read().await?;
    // One more than asked for tells whether there is another page.
    let span = Span::Before(query.after.unwrap_or(u64::MAX));
    let mut found = rows::read(&mut read, &filter, span, limit + 1).await?;
    let more = found.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next = found.last().map(|(position, _)| *position).filter(|_| more);
    let records = found
        .iter()
        .map(|(_, bytes)| Record::from_canonical(bytes).map_err(|_| StoreError::Corrupt { what: "audit record" }))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(AuditPage { records, next })
}

/// Follows the log: the newest `limit` matching records (none unless asked for), or all behind
/// position `after`, and then each new one, as lines of canonical JSON. Ends when the role drains.
///
/// Lines are read from the table by position, so a reader that is slow misses nothing and holds
/// no memory: it only lags.
pub(crate) async fn tail(
    context: &Context,
    query: &AuditQuery,
    by: &Actor,
) -> Result<impl Stream<Item = Result<Bytes, StoreError>> + Send + use<>, AuditError> {
    let limit = limit_of(query, 0)?;
    let mut read = context.store.read().await?;
    let filter = filter_of(&mut read, query).await?;
    drop(read);
    record_read(context, query, "audit.tail", by).await?;
    let mut recorded = context.store.recorded();
    let newest = *recorded.borrow_and_update();
    let mut read = context.store.read().await?;
    let mut first = match query.after {
        Some(_) => Vec::new(),
        None => rows::read(&mut read, &filter, Span::Before(newest.saturating_add(1)), limit).await?,
    };
    drop(read);
    first.reverse();
    let follower = Follower {
        context: context.clone(),
        filter,
        position: query.after.unwrap_or(newest),
        recorded,
        lines: first.into_iter().map(|(_, bytes)| line(bytes)).collect(),
    };
    Ok(unfold(follower, |mut follower| async move { follower.next().await.map(|line| (line, follower)) }))
}

fn line(mut bytes: Vec<u8>) -> Bytes {
    bytes.push(b'\n');
    bytes.into()
}

struct Follower {
    context: Context,
    filter: Filter,
    position: u64,
    recorded: watch::Receiver<u64>,
    lines: VecDeque<Bytes>,
}

impl Follower {
    async fn next(&mut self) -> Option<Result<Bytes, StoreError>> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(Ok(line));
            }
            let newest = *self.recorded.borrow_and_update();
            if self.position < newest {
                if let Err(error) = self.read(newest).await {
                    return Some(Err(error));
                }
                continue;
            }
            tokio::select! {
                changed = self.recorded.changed() => changed.ok()?,
                () = self.context.tasks.draining() => return None,
            }
        }
    }

    async fn read(&mut self, newest: u64) -> Result<(), StoreError> {
        let mut read = self.context.store.read().await?;
        let found = rows::read(&mut read, &self.filter, Span::Between(self.position, newest), TAIL_BATCH).await?;
        let full = found.len() >= usize::try_from(TAIL_BATCH).unwrap_or(usize::MAX);
        self.position = found.last().map(|(position, _)| *position).filter(|_| full).unwrap_or(newest);
        self.lines.extend(found.into_iter().map(|(_, bytes)| line(bytes)));
        Ok(())
    }
}

fn limit_of(query: &AuditQuery, default: u32) -> Result<u32, AuditError> {
    match query.limit {
        None => Ok(default),
        Some(limit @ 1..=MAX_LIMIT) => Ok(limit),
        Some(other) => Err(AuditError::Value { member: "limit", given: other.to_string(), expected: "1 to 10000" }),
    }
}

async fn filter_of(connection: &mut sqlx::SqliteConnection, query: &AuditQuery) -> Result<Filter, AuditError> {
    let AuditQuery { user, device, resource, outcome, kind, reason, id, since, until, limit: _, after: _ } = query;
    if let Some(given) = kind.as_deref().filter(|given| !Kind::ALL.iter().any(|kind| kind.as_str() == *given)) {
        return Err(AuditError::Value {
            member: "kind",
            given: shortened(given),
            expected: "decision, flow_end, sign_in, session_end, passkey, device, admin, audit_read or lifecycle",
        });
    }
    if let Some(given) = outcome.as_deref().filter(|given| !["allow", "deny", "ok", "failed"].contains(given)) {
        return Err(AuditError::Value {
            member: "outcome",
            given: shortened(given),
            expected: "allow, deny, ok or failed",
        });
    }
    let device = match device {
        None => None,
        Some(text) => Some(devices::resolve(connection, text).await?.to_string()),
    };
    Ok(Filter {
        user: user.clone(),
        device,
        resource: resource.clone(),
        outcome: outcome.clone(),
        kind: kind.clone(),
        reason: reason.clone(),
        id: id.clone(),
        since_us: since.map(|seconds| seconds.saturating_mul(1_000_000)),
        until_us: until.map(|seconds| seconds.saturating_mul(1_000_000)),
    })
}

async fn record_read(context: &Context, query: &AuditQuery, verb: &str, by: &Actor) -> Result<(), StoreError> {
    let mut record = by.changed(verb, "audit".to_owned(), serde_json::to_string(query).unwrap_or_default());
    record.kind = Kind::AuditRead;
    let mut write = context.store.write().await?;
    write.audit(record);
    write.commit().await
}

#[cfg(test)]
mod tests {
    use vouchsafe_wire::spool::{Frame, push_frame, read_frame};

    use super::*;

    /// Vectors of `docs/spec/audit-record.md`: a change as the directory records it, and its frame.
    #[test]
    fn an_administrative_record_and_its_frame_match_the_published_vectors() {
        let expected = include_str!("../../../docs/spec/vectors/audit-record-2.json").trim_end_matches('\n');
        let mut record =
            Actor::Local { uid: 0 }.changed("user.add", "user/alice".to_owned(), "groups: marketing".to_owned());
        record.seq = 4;
        record.source = "controller".to_owned();
        record.time_us = 1_790_000_000_000_000;
        let bytes = record.to_canonical().unwrap();
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);
        let mut frame = Vec::new();
        push_frame(&mut frame, &bytes);
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, include_str!("../../../docs/spec/vectors/spool-frame-1.hex").trim_end());
        assert_eq!(read_frame(&frame), Frame::Whole { payload: &bytes, length: frame.len() });
    }
}
