//! Streams: places, such as a SIEM, that get every record of the audit log (`docs/guide/export.md`).
//!
//! A stream is a position in the log that moves on only when what is before it was taken. So nothing waits in memory, no
//! crash loses a record, and a place that is slow or down holds up nothing: it only falls behind. What it gets more than
//! once has the same `uid` each time.

mod otlp;
mod run;
mod settled;
mod syslog;
mod target;

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::watch;
use vouchsafe_model::name::{NameError, StreamName};
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{NewStream, StreamDoc, StreamTried};
use vouchsafe_wire::audit::Kind;

pub(crate) use self::run::start;
use self::target::Target;
use crate::ca::CaError;
use crate::context::Context;
use crate::directory::Actor;
use crate::store::{StoreError, streams};

/// Most streams.
const MOST: usize = 10;

/// Failure to administer streams.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// Its name breaks the rule.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Nothing can be sent there.
    #[error("records can't go to this address: {why}")]
    Address {
        /// Why not.
        why: String,
    },
    /// There is no such record yet.
    #[error("the log has {size} records, so a stream can't begin at {from}")]
    From {
        /// Where it was to begin.
        from: u64,
        /// Records of the log.
        size: u64,
    },
    /// There is one of that name.
    #[error("there is a stream `{name}` already")]
    Taken {
        /// Its name.
        name: String,
    },
    /// There is none of that name.
    #[error("there is no stream `{name}`")]
    Missing {
        /// Its name.
        name: String,
    },
    /// There are as many as may be.
    #[error("there are {MOST} streams already")]
    TooMany,
    /// What is sealed doesn't open.
    #[error(transparent)]
    Seal(#[from] CaError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl StreamError {
    /// What to do next.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            StreamError::Address { .. } => Some(
                "give `host:port` for syslog; `https://host`, or `http://` with a loopback address, for OTLP"
                    .to_owned(),
            ),
            StreamError::From { .. } => Some("leave it out to begin with what comes from now on".to_owned()),
            StreamError::Taken { .. } => Some("remove it first, or choose another name".to_owned()),
            StreamError::Missing { .. } => Some("see `vouchsafe audit stream list`".to_owned()),
            StreamError::TooMany => Some("remove one with `vouchsafe audit stream remove`".to_owned()),
            StreamError::Name(_) | StreamError::Seal(_) | StreamError::Store(_) => None,
        }
    }
}

/// What is known of the streams since the start.
#[derive(Debug)]
pub(crate) struct Streams {
    figures: Mutex<BTreeMap<String, Figures>>,
    /// One was added or removed.
    changed: watch::Sender<()>,
}

/// What was counted of one stream.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    /// Records that were sent, again too.
    pub(crate) sent: u64,
    /// Attempts that failed.
    pub(crate) failures: u64,
    /// Position up to which all was taken.
    pub(crate) next: u64,
}

impl Default for Streams {
    fn default() -> Self {
        Self { figures: Mutex::default(), changed: watch::Sender::new(()) }
    }
}

impl Streams {
    /// All of them by name.
    pub(crate) fn figures(&self) -> BTreeMap<String, Figures> {
        self.figures.lock().clone()
    }

    fn note(&self, name: &str, change: impl FnOnce(&mut Figures)) {
        change(self.figures.lock().entry(name.to_owned()).or_default());
    }
}

/// Adds one.
pub(crate) async fn add(context: &Context, new: &NewStream, by: &Actor) -> Result<StreamDoc, StreamError> {
    let name = StreamName::parse(&new.name)?;
    let target = Target::new(new).map_err(|why| StreamError::Address { why })?;
    let sealed = context.ca.seal_stream(&context.settings, name.as_str(), &target.to_sealed())?;
    let size = context.store.log().size();
    let next = match new.from {
        Some(from) if from > size => return Err(StreamError::From { from, size }),
        // Older ones are kept no longer.
        Some(from) => from.max(context.store.log().first()),
        None => size,
    };
    let stream = StreamDoc {
        name: name.to_string(),
        kind: new.kind,
        address: target.shown(),
        format: new.format,
        by: by.label(),
        created: clock::unix_seconds(clock::now()),
        next,
        behind: size.saturating_sub(next),
        last: None,
        last_at: None,
        failures: 0,
        rejected: 0,
    };
    let mut write = context.store.write().await?;
    let there = streams::list(write.connection()).await?;
    if there.iter().any(|other| other.doc.name == stream.name) {
        return Err(StreamError::Taken { name: stream.name });
    }
    if there.len() >= MOST {
        return Err(StreamError::TooMany);
    }
    streams::insert(write.connection(), &stream, &sealed).await?;
    // It reads the whole log from there on, which is recorded here once and for all.
    let detail =
        format!("{} to {}, as {}, from record {next} on", new.kind.as_str(), stream.address, new.format.as_str());
    write.audit(by.changed("audit.stream.add", format!("stream/{name}"), detail));
    write.commit().await?;
    context.streams.changed.send_replace(());
    Ok(stream)
}

/// All of them.
pub(crate) async fn list(context: &Context) -> Result<Vec<StreamDoc>, StreamError> {
    let found = streams::list(&mut *context.store.read().await?).await?;
    let size = context.store.log().size();
    let behind = |stream: streams::Numbered| StreamDoc { behind: size.saturating_sub(stream.doc.next), ..stream.doc };
    Ok(found.into_iter().map(behind).collect())
}

/// One of them.
pub(crate) async fn show(context: &Context, name: &str) -> Result<StreamDoc, StreamError> {
    let name = StreamName::parse(name)?;
    let found = list(context).await?.into_iter().find(|stream| stream.name == name.as_str());
    found.ok_or_else(|| StreamError::Missing { name: name.to_string() })
}

/// Removes one: nothing more is sent there.
pub(crate) async fn remove(context: &Context, name: &str, by: &Actor) -> Result<(), StreamError> {
    let name = StreamName::parse(name)?;
    let mut write = context.store.write().await?;
    if !streams::remove(write.connection(), name.as_str()).await? {
        return Err(StreamError::Missing { name: name.to_string() });
    }
    write.audit(by.changed("audit.stream.remove", format!("stream/{name}"), String::new()));
    write.commit().await?;
    context.streams.figures.lock().remove(name.as_str());
    context.streams.changed.send_replace(());
    Ok(())
}

/// Reaches it once with what is no record, and tells what came of it.
pub(crate) async fn try_out(context: &Context, name: &str, by: &Actor) -> Result<StreamTried, StreamError> {
    let name = StreamName::parse(name)?;
    let mut read = context.store.read().await?;
    let missing = || StreamError::Missing { name: name.to_string() };
    let all = streams::list(&mut read).await?;
    let id = all.iter().find(|stream| stream.doc.name == name.as_str()).ok_or_else(missing)?.id;
    let (found, sealed) = streams::find(&mut read, id).await?.ok_or_else(missing)?;
    drop(read);
    let target = Target::open(context, &found.doc, &sealed)?;
    let outcome = target.try_out(context).await;
    let mut record = by.record(Kind::Admin, clock::now());
    record.action = Some("audit.stream.test".to_owned());
    record.target = Some(format!("stream/{name}"));
    record.outcome = Some(if outcome.is_ok() { "ok" } else { "failed" }.to_owned());
    record.detail = outcome.clone().err();
    let mut write = context.store.write().await?;
    write.audit(record);
    write.commit().await?;
    Ok(StreamTried { reached: outcome.is_ok(), outcome: outcome.err().unwrap_or_else(|| "taken".to_owned()) })
}
