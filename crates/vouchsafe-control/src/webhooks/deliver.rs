//! Delivery: at least once, each message signed anew for each attempt, further apart each time, for three days.
//!
//! Who adds a webhook chooses where the controller connects to. So it is HTTPS with a verified certificate (or HTTP to a
//! loopback address that is written out), redirects are not followed, nothing but the status of an answer is looked at,
//! and not every address is dialled ([`crate::outward`]).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{Request, StatusCode};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;
use vouchsafe_model::id::MessageId;
use vouchsafe_model::name::WebhookName;
use vouchsafe_model::resource::never_upstream;
use vouchsafe_runtime::body::full;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::http_client;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_runtime::tls::{self, ServerTrust};
use zeroize::Zeroizing;

use super::WebhookError;
use super::signature::Secret;
use crate::context::Context;
use crate::directory::Actor;
use crate::outward::{self, chain};
use crate::store::webhooks::{self, Message};
use crate::store::{StoreError, Write};

/// Longest time of one attempt.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked for what is due, when nothing new comes.
const PERIOD: Duration = Duration::from_secs(2);
/// Seconds until the next attempt, by how many failed.
const PAUSES: [u64; 9] = [5, 30, 120, 600, 1_800, 7_200, 18_000, 36_000, 72_000];
/// Seconds after which a message is given up: three days.
const LIFE_SECONDS: u64 = 259_200;
/// Longest address.
const MAX_URL_BYTES: usize = 2_000;
/// Longest roots.
const MAX_ROOTS_BYTES: usize = 64 * 1024;

/// Where messages go, and what signs them.
#[derive(Debug)]
pub(super) struct Target {
    url: Url,
    roots_pem: Option<String>,
    secret: Secret,
}

/// The same, as it is sealed.
#[derive(Serialize, Deserialize)]
struct Sealed {
    url: String,
    roots_pem: Option<String>,
    secret: String,
}

/// One message as it is sent.
pub(super) struct Attempt {
    id: String,
    body: String,
}

impl Attempt {
    /// A message that was never sent.
    pub(super) fn fresh(body: String) -> Self {
        Self { id: MessageId::from_random(clock::random()).to_string(), body }
    }
}

impl Target {
    /// Says why nothing can be sent there.
    pub(super) fn new(url: &str, roots_pem: Option<&str>, secret: Secret) -> Result<Self, String> {
        if url.len() > MAX_URL_BYTES || roots_pem.is_some_and(|pem| pem.len() > MAX_ROOTS_BYTES) {
            return Err("it is too long".to_owned());
        }
        let url = Url::parse(url).map_err(|error| error.to_string())?;
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err("it has a user, a password or a fragment".to_owned());
        }
        if url.host().is_none() {
            return Err("it names no host".to_owned());
        }
        let literal = outward::literal(&url);
        if let Some(why) = literal.and_then(never_upstream) {
            return Err(why.to_owned());
        }
        match url.scheme() {
            "https" => {}
            "http" if literal.is_some_and(|address| address.is_loopback()) => {}
            "http" => return Err("without TLS it must be a loopback address".to_owned()),
            _ => return Err("it is neither https nor http".to_owned()),
        }
        if let Some(pem) = roots_pem {
            tls::roots(pem, "root of the webhook").map_err(|error| error.to_string())?;
        }
        Ok(Self { url, roots_pem: roots_pem.map(ToOwned::to_owned), secret })
    }

    /// One out of the database.
    pub(super) fn open(context: &Context, name: &WebhookName, sealed: &[u8]) -> Result<Self, WebhookError> {
        let corrupt = || WebhookError::Store(StoreError::Corrupt { what: "webhook" });
        let opened = context.ca.open_webhook(&context.settings, name.as_str(), sealed)?;
        let Sealed { url, roots_pem, secret } = serde_json::from_slice(&opened).map_err(|_| corrupt())?;
        let secret = Secret::parse(&Zeroizing::new(secret)).ok_or_else(corrupt)?;
        Target::new(&url, roots_pem.as_deref(), secret).map_err(|_| corrupt())
    }

    /// What is to be sealed.
    pub(super) fn to_sealed(&self) -> Zeroizing<Vec<u8>> {
        let Self { url, roots_pem, secret } = self;
        let sealed = Sealed { url: url.to_string(), roots_pem: roots_pem.clone(), secret: secret.expose().to_string() };
        // INVARIANT: three texts are always JSON.
        Zeroizing::new(serde_json::to_vec(&sealed).unwrap_or_default())
    }

    pub(super) const fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Scheme, host and port, which may be shown.
    pub(super) fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// Sends a message once; says why it was not taken, in words without the address.
    pub(super) async fn send(&self, attempt: &Attempt, tasks: &TaskGroup) -> Result<(), String> {
        match tokio::time::timeout(PATIENCE, self.exchange(attempt, tasks)).await {
            Ok(Ok(status)) if status.is_success() => Ok(()),
            Ok(Ok(status)) => Err(format!("it answered {}", status.as_u16())),
            Ok(Err(why)) => Err(why),
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }

    async fn exchange(&self, Attempt { id, body }: &Attempt, tasks: &TaskGroup) -> Result<StatusCode, String> {
        let timestamp = clock::unix_seconds(clock::now());
        let mut path = self.url.path().to_owned();
        if let Some(query) = self.url.query() {
            path = format!("{path}?{query}");
        }
        let request = Request::post(path)
            .header(HOST, self.authority())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("vouchsafe/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", self.secret.sign(id, timestamp, body))
            .body(full(Bytes::from(body.clone())))
            .map_err(|_| "the request can't be made".to_owned())?;
        let addresses = outward::addresses(&self.url, self.url.port_or_known_default().unwrap_or(443)).await?;
        let tcp = TcpStream::connect(&*addresses).await.map_err(|error| format!("can't connect: {error}"))?;
        let lost = |error: http_client::ExchangeError| chain(&error);
        let response = match self.url.scheme() {
            "https" => {
                let trust = match &self.roots_pem {
                    Some(pem) => {
                        ServerTrust::Roots(tls::roots(pem, "root of the webhook").map_err(|error| chain(&error))?)
                    }
                    None => ServerTrust::Public,
                };
                let config = tls::client(trust, None, &[b"http/1.1"]).map_err(|error| chain(&error))?;
                let name =
                    ServerName::try_from(outward::host(&self.url)).map_err(|_| "its name is none of TLS".to_owned())?;
                let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
                http_client::send(tls.map_err(|error| chain(&error))?, request, tasks).await.map_err(lost)?
            }
            _ => http_client::send(tcp, request, tasks).await.map_err(lost)?,
        };
        // What it says beside is nothing to us: dropped, the connection ends.
        Ok(response.status())
    }

    fn authority(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

/// Starts what delivers.
pub(crate) fn start(context: &Context) {
    let context = context.clone();
    let tasks = context.tasks.clone();
    tasks.clone().spawn_vital("webhooks", async move {
        let busy: Arc<Mutex<BTreeSet<WebhookName>>> = Arc::default();
        loop {
            if let Err(error) = begin_due(&context, &busy).await {
                tracing::error!(error = &error as &dyn std::error::Error, "messages to webhooks can't be read");
            }
            tokio::select! {
                () = context.store.message() => {}
                () = tokio::time::sleep(PERIOD) => {}
                () = tasks.draining() => return,
            }
        }
    });
}

/// Begins with each webhook that has something due and isn't being served: a slow one holds up no other.
async fn begin_due(context: &Context, busy: &Arc<Mutex<BTreeSet<WebhookName>>>) -> Result<(), StoreError> {
    let mut read = context.store.read().await?;
    context.webhooks.waiting.store(webhooks::waiting(&mut read).await?, Ordering::Relaxed);
    for name in webhooks::due(&mut read, clock::unix_seconds(clock::now())).await? {
        if !busy.lock().insert(name.clone()) {
            continue;
        }
        let (context, busy) = (context.clone(), Arc::clone(busy));
        context.tasks.clone().spawn("webhook", async move {
            tokio::select! {
                served = serve(&context, &name) => if let Err(error) = served {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(webhook = %name, error, "messages to a webhook can't be sent");
                },
                () = context.tasks.draining() => {}
            }
            busy.lock().remove(&name);
        });
    }
    Ok(())
}

/// Sends what is due, until it is not taken.
async fn serve(context: &Context, name: &WebhookName) -> Result<(), WebhookError> {
    loop {
        let (message, sealed) = {
            let mut read = context.store.read().await?;
            let message = webhooks::next(&mut read, name, clock::unix_seconds(clock::now())).await?;
            (message, webhooks::sealed(&mut read, name).await?)
        };
        let (Some(message), Some(sealed)) = (message, sealed) else { return Ok(()) };
        let attempt = Attempt { id: message.id.clone(), body: message.body.clone() };
        let outcome = match Target::open(context, name, &sealed) {
            Ok(target) => target.send(&attempt, &context.tasks).await,
            Err(error) => Err(chain(&error)),
        };
        let mut write = context.store.write().await?;
        settle(context, &mut write, name, &message, &outcome).await?;
        write.commit().await?;
        if outcome.is_err() {
            return Ok(());
        }
    }
}

/// Notes what came of an attempt.
async fn settle(
    context: &Context,
    write: &mut Write,
    name: &WebhookName,
    message: &Message,
    outcome: &Result<(), String>,
) -> Result<(), StoreError> {
    let now = clock::unix_seconds(clock::now());
    let counted = &context.webhooks;
    let Err(why) = outcome else {
        counted.delivered.fetch_add(1, Ordering::Relaxed);
        webhooks::forget(write.connection(), message).await?;
        return webhooks::note(write.connection(), name, Ok(()), false, now).await;
    };
    counted.failed.fetch_add(1, Ordering::Relaxed);
    tracing::warn!(webhook = %name, message = message.id, why, "a message to a webhook was not taken");
    let due = again_at(message, now);
    match due {
        Some(due) => webhooks::again(write.connection(), message, due).await?,
        None => {
            counted.dropped.fetch_add(1, Ordering::Relaxed);
            webhooks::forget(write.connection(), message).await?;
            let mut record = Actor::Controller.changed(
                "webhook.give-up",
                format!("webhook/{name}"),
                format!("{}: {why}", message.id),
            );
            record.outcome = Some("failed".to_owned());
            write.audit(record);
        }
    }
    webhooks::note(write.connection(), name, Err(why), due.is_none(), now).await
}

/// When a message that was not taken is tried again; never, once its time is over.
fn again_at(message: &Message, now: u64) -> Option<u64> {
    let failed = usize::try_from(message.attempts).unwrap_or(usize::MAX);
    let pause = PAUSES.get(failed).or(PAUSES.last()).copied()?;
    // Up to a tenth longer, so that not all that failed at once comes back at once.
    let [more] = clock::random::<1>();
    let due = now.saturating_add(pause).saturating_add(pause.saturating_mul(u64::from(more)) / 2_560);
    (due <= message.created.saturating_add(LIFE_SECONDS)).then_some(due)
}

#[cfg(test)]
mod tests;
