//! Webhooks: places, such as chat tools, that are told what happens (`docs/spec/webhooks.md`).
//!
//! What they are told is what is recorded: the message is made of the audit record, in the transaction of both
//! ([`Event`]). It is delivered at least once, signed, and given up after three days. Of a webhook's address only the
//! origin is shown, for the rest of it may be a secret.

mod deliver;
mod event;
mod signature;

use std::sync::atomic::{AtomicU64, Ordering};

use vouchsafe_model::name::{NameError, WebhookName};
use vouchsafe_runtime::clock;
use vouchsafe_wire::api::{NewWebhook, WebhookAdded, WebhookDoc, WebhookTried};

pub(crate) use self::deliver::start;
use self::deliver::{Attempt, Target};
pub(crate) use self::event::{Event, EventKind};
use self::signature::Secret;
use crate::ca::CaError;
use crate::context::Context;
use crate::directory::Actor;
use crate::store::{StoreError, webhooks};

/// Most webhooks.
const MOST: usize = 20;

/// Failure to administer webhooks.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebhookError {
    /// Its name breaks the rule.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Nothing can be sent there.
    #[error("messages can't go to this address: {why}")]
    Address {
        /// Why not.
        why: String,
    },
    /// There is no such event.
    #[error("there is no event `{given}`")]
    Event {
        /// As it was given, shortened.
        given: String,
    },
    /// There is one of that name.
    #[error("there is a webhook `{name}` already")]
    Taken {
        /// Its name.
        name: String,
    },
    /// There is none of that name.
    #[error("there is no webhook `{name}`")]
    Missing {
        /// Its name.
        name: String,
    },
    /// There are as many as may be.
    #[error("there are {MOST} webhooks already")]
    TooMany,
    /// What is sealed doesn't open.
    #[error(transparent)]
    Seal(#[from] CaError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl WebhookError {
    /// What to do next.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            WebhookError::Address { .. } => Some(
                "give `https://host/path`, or `http://` with a loopback address such as `http://127.0.0.1:8065/hooks/x`"
                    .to_owned(),
            ),
            WebhookError::Event { .. } => {
                let all: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
                Some(format!("events are {}", all.join(", ")))
            }
            WebhookError::Taken { .. } => Some("remove it first, or choose another name".to_owned()),
            WebhookError::Missing { .. } => Some("see `vouchsafe webhook list`".to_owned()),
            WebhookError::TooMany => Some("remove one with `vouchsafe webhook remove`".to_owned()),
            WebhookError::Name(_) | WebhookError::Seal(_) | WebhookError::Store(_) => None,
        }
    }
}

/// What was counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    delivered: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    waiting: AtomicU64,
}

impl Counted {
    /// Messages that were taken, attempts that failed, messages that were given up, and those that wait.
    pub(crate) fn figures(&self) -> [u64; 4] {
        [&self.delivered, &self.failed, &self.dropped, &self.waiting].map(|count| count.load(Ordering::Relaxed))
    }
}

/// Adds one. Its secret is told this once.
pub(crate) async fn add(context: &Context, new: &NewWebhook, by: &Actor) -> Result<WebhookAdded, WebhookError> {
    let NewWebhook { name, url, events, roots_pem } = new;
    let name = WebhookName::parse(name)?;
    for given in events {
        if EventKind::from_word(given).is_none_or(|kind| kind == EventKind::Test) {
            return Err(WebhookError::Event { given: given.chars().take(80).collect() });
        }
    }
    let target =
        Target::new(url, roots_pem.as_deref(), Secret::fresh()).map_err(|why| WebhookError::Address { why })?;
    let sealed = context.ca.seal_webhook(&context.settings, name.as_str(), &target.to_sealed())?;
    let webhook = WebhookDoc {
        name: name.to_string(),
        origin: target.origin(),
        events: events.clone(),
        by: by.label(),
        created: clock::unix_seconds(clock::now()),
        last: None,
        last_at: None,
        failures: 0,
        waiting: 0,
        dropped: 0,
    };
    let mut write = context.store.write().await?;
    let there = webhooks::list(write.connection()).await?;
    if there.iter().any(|other| other.name == webhook.name) {
        return Err(WebhookError::Taken { name: webhook.name });
    }
    if there.len() >= MOST {
        return Err(WebhookError::TooMany);
    }
    webhooks::insert(write.connection(), &webhook, &sealed).await?;
    let told = if events.is_empty() { "everything".to_owned() } else { events.join(", ") };
    write.audit(by.changed("webhook.add", format!("webhook/{name}"), format!("{}: {told}", webhook.origin)));
    write.commit().await?;
    Ok(WebhookAdded { webhook, secret: target.secret().expose().to_string() })
}

/// All of them.
pub(crate) async fn list(context: &Context) -> Result<Vec<WebhookDoc>, WebhookError> {
    Ok(webhooks::list(&mut *context.store.read().await?).await?)
}

/// Removes one, with what waits for it.
pub(crate) async fn remove(context: &Context, name: &str, by: &Actor) -> Result<(), WebhookError> {
    let name = WebhookName::parse(name)?;
    let mut write = context.store.write().await?;
    if !webhooks::remove(write.connection(), &name).await? {
        return Err(WebhookError::Missing { name: name.to_string() });
    }
    write.audit(by.changed("webhook.remove", format!("webhook/{name}"), String::new()));
    Ok(write.commit().await?)
}

/// Sends a message of its own right now, once, and tells what came of it.
pub(crate) async fn try_out(context: &Context, name: &str, by: &Actor) -> Result<WebhookTried, WebhookError> {
    let name = WebhookName::parse(name)?;
    let sealed = webhooks::sealed(&mut *context.store.read().await?, &name).await?;
    let sealed = sealed.ok_or_else(|| WebhookError::Missing { name: name.to_string() })?;
    let target = Target::open(context, &name, &sealed)?;
    let record = by.changed("webhook.test", format!("webhook/{name}"), String::new());
    let Some(Event { body, .. }) = Event::of(&record) else {
        return Err(StoreError::Corrupt { what: "event" }.into());
    };
    let outcome = target.send(&Attempt::fresh(body), &context.tasks).await;
    let mut write = context.store.write().await?;
    let words = outcome.as_ref().copied().map_err(String::as_str);
    webhooks::note(write.connection(), &name, words, false, clock::unix_seconds(clock::now())).await?;
    let mut record = by.record(vouchsafe_wire::audit::Kind::Admin, clock::now());
    record.action = Some("webhook.test".to_owned());
    record.target = Some(format!("webhook/{name}"));
    record.outcome = Some(if outcome.is_ok() { "ok" } else { "failed" }.to_owned());
    record.detail = outcome.clone().err();
    write.audit(record);
    write.commit().await?;
    Ok(WebhookTried { delivered: outcome.is_ok(), outcome: outcome.err().unwrap_or_else(|| "delivered".to_owned()) })
}
