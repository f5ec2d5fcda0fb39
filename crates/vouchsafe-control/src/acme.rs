//! Certificates of a public authority for the names that browsers use (RFC 8555).
//!
//! One certificate for each name, in one order of its own, so that a name which the authority can't
//! reach holds up no other. Until a name has one, browsers are shown our own authority's. A
//! certificate is renewed at two thirds of its life, and what is there is shown until there is
//! another. Keys and the account lie sealed in the database like every other key.

mod client;
mod order;
mod schedule;

use std::sync::Arc;
use std::time::Duration;

use instant_acme::{Account, AccountCredentials, NewAccount};
use tokio::sync::watch;
use vouchsafe_model::resource::ResourceSpec;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::link::Snapshot;
use vouchsafe_runtime::tls::{self, ServerTrust, TlsError};
use vouchsafe_wire::api::CertificateState;

use self::client::Client;
use self::order::{OrderError, obtain};
use self::schedule::Schedule;
use crate::ca::{CaError, Life};
use crate::context::Context;

/// How often it is looked whether a name is due.
const PERIOD: Duration = Duration::from_secs(5);

/// How the authority makes sure that a name is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeKind {
    /// `tls-alpn-01` (RFC 8737): on the port of the gateway, which must be reached as 443.
    TlsAlpn,
    /// `http-01` (RFC 8555 §8.3): on a port of its own, which must be reached as 80.
    Http,
}

/// Which authority, and how.
#[derive(Debug, Clone)]
pub struct AcmeOptions {
    /// Address of its directory, `https://…`.
    pub directory: String,
    /// Address for its mail, without `mailto:`.
    pub email: Option<String>,
    /// PEM of the roots that vouch for the authority's own server; the public ones when absent.
    pub roots_pem: Option<String>,
    /// Challenge to answer.
    pub challenge: ChallengeKind,
}

/// Makes ready. What was issued in an earlier run is shown when this returns; nothing is asked of
/// the authority yet, since it looks at our names at once, and nobody serves them yet.
///
/// # Errors
/// [`AcmeError`] when what is kept can't be read, or the options can't be used.
pub(crate) async fn prepare(
    context: &Context,
    options: AcmeOptions,
    snapshots: watch::Receiver<Arc<Snapshot>>,
) -> Result<Keeper, AcmeError> {
    let trust = match &options.roots_pem {
        Some(pem) => ServerTrust::Roots(tls::roots(pem, "the authority's root")?),
        None => ServerTrust::Public,
    };
    let tls = Arc::new(tls::client(trust, None, &[b"http/1.1"])?);
    let client = Client { tls, tasks: context.tasks.clone() };
    let (context, schedule) = (context.clone(), Schedule::default());
    let mut keeper = Keeper { context, options, client, account: None, schedule, snapshots };
    let first = Arc::clone(&keeper.snapshots.borrow());
    keeper.want(&first);
    keeper.show_kept().await?;
    Ok(keeper)
}

/// Failure to begin.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// Keys or certificates of an earlier run can't be read.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The authority's root can't be used.
    #[error("TLS with the certificate authority can't be set up")]
    Tls(#[from] TlsError),
}

/// Keeps a certificate for every name that browsers go to.
pub(crate) struct Keeper {
    context: Context,
    options: AcmeOptions,
    client: Client,
    account: Option<Account>,
    schedule: Schedule,
    snapshots: watch::Receiver<Arc<Snapshot>>,
}

impl Keeper {
    /// Orders what is due, until the drain.
    pub(crate) async fn run(mut self) {
        loop {
            let due = self.schedule.due(clock::unix_seconds(clock::now())).map(ToOwned::to_owned);
            if let Some(host) = due {
                let tasks = self.context.tasks.clone();
                tokio::select! {
                    () = self.renew(&host) => {}
                    () = tasks.draining() => return,
                }
            } else {
                tokio::select! {
                    () = tokio::time::sleep(PERIOD) => {}
                    changed = self.snapshots.changed() => if changed.is_err() { return },
                    () = self.context.tasks.draining() => return,
                }
            }
            let snapshot = Arc::clone(&self.snapshots.borrow_and_update());
            self.want(&snapshot);
            self.tell();
        }
    }

    /// The names that browsers go to: sign-in, console, and each web app. `gw` and `api` are for
    /// devices, which know our own authority.
    fn want(&mut self, snapshot: &Snapshot) {
        let apps = snapshot.resources.iter().filter_map(|resource| match resource.spec {
            ResourceSpec::Http(_) => Some(resource.name.as_str()),
            _ => None,
        });
        let domain = &self.context.settings.domain;
        self.schedule.want(["auth", "console"].into_iter().chain(apps).map(|label| domain.host(label)));
    }

    async fn show_kept(&mut self) -> Result<(), AcmeError> {
        let Context { ca, store, settings, .. } = &self.context;
        for (host, life) in ca.show_kept(store, settings, &self.options.directory).await? {
            self.schedule.has(&host, life.into(), jitter());
        }
        self.tell();
        Ok(())
    }

    async fn renew(&mut self, host: &str) {
        let now = clock::unix_seconds(clock::now());
        match self.try_renew(host).await {
            Ok(life) => {
                tracing::info!(host, until = life.not_after, "the public authority issued a certificate");
                self.schedule.has(host, life, jitter());
            }
            Err(error) => {
                let problem = chain(&error);
                tracing::warn!(
                    host,
                    problem,
                    authority = self.options.directory,
                    "no certificate from the public authority; browsers see the one before, and it is tried again. \
                     The name must lead to this machine from the internet, port {}",
                    match self.options.challenge {
                        ChallengeKind::TlsAlpn => 443,
                        ChallengeKind::Http => 80,
                    },
                );
                self.account = None;
                self.schedule.failed(host, problem, error.is_rate_limit(), now, jitter());
            }
        }
    }

    async fn try_renew(&mut self, host: &str) -> Result<schedule::Life, OrderError> {
        let account = match &self.account {
            Some(account) => account.clone(),
            None => self.account.insert(self.open_account().await?).clone(),
        };
        let Context { ca, store, settings, .. } = &self.context;
        let pair = obtain(&account, ca, host, self.options.challenge).await?;
        Ok(ca.keep_public(store, settings, &self.options.directory, host, pair).await?.into())
    }

    /// The account of an earlier run, or a new one. Its key is kept before it is used.
    async fn open_account(&self) -> Result<Account, OrderError> {
        let Context { ca, store, settings, .. } = &self.context;
        let builder = || Account::builder_with_http(Box::new(self.client.clone()));
        let directory = &self.options.directory;
        if let Some(kept) = ca.kept_account(store, settings, directory).await? {
            let credentials: AccountCredentials = serde_json::from_slice(&kept).map_err(instant_acme::Error::from)?;
            return Ok(builder().from_credentials(credentials).await?);
        }
        let contact = self.options.email.as_ref().map(|email| format!("mailto:{email}"));
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let (account, credentials) = builder().create(&new, directory.clone(), None).await?;
        let kept = zeroize::Zeroizing::new(serde_json::to_vec(&credentials).map_err(instant_acme::Error::from)?);
        ca.keep_account(store, settings, directory, &kept).await?;
        Ok(account)
    }

    /// Tells administrators how each name stands.
    fn tell(&self) {
        let states = self.schedule.names().map(|(host, entry)| CertificateState {
            host: host.to_owned(),
            expires: entry.life.map(|life| life.not_after),
            next: entry.next,
            problem: entry.problem.clone(),
        });
        *self.context.certificates.write() = states.collect();
    }
}

impl From<Life> for schedule::Life {
    fn from(Life { not_before, not_after }: Life) -> Self {
        Self { not_before, not_after }
    }
}

fn jitter() -> u8 {
    let [byte] = clock::random::<1>();
    byte
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
