//! How a connector becomes one, and gets its next certificate. Its key is made here, and it keeps it; only
//! requests that prove it are sent.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{ServerName, UnixTime};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_rustls::TlsConnector;
use vouchsafe_runtime::body;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::http_client::{collect, send};
use vouchsafe_runtime::limits::HANDSHAKE_TIMEOUT;
use vouchsafe_runtime::roster::RosterError;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_runtime::tls::verify::{ClientRole, Clients};
use vouchsafe_runtime::tls::{self, Credentials, ServerTrust, TlsError};
use vouchsafe_wire::api::Problem;
use vouchsafe_wire::connector::{JOIN, JoinRequest, Joined, RENEW, RenewRequest};
use vouchsafe_wire::roster::MAX_ROSTER_BYTES;
use vouchsafe_wire::spiffe::CertifiedIdentity;
use vouchsafe_wire::ticket::Ticket;
use zeroize::Zeroizing;

use crate::connector::{Origin, Shared};
use crate::dial::{Address, Proxy, Way};
use crate::roster::Rosters;
use crate::state::{Kept, Member, State, StateError};

/// Longest answer, bytes: a chain, a root, and the list of gateways in base64.
const MAX_ANSWER_BYTES: usize = 64 * 1024 + MAX_ROSTER_BYTES / 3 * 4;
/// Longest wait for one.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often to look whether the certificate wants to be renewed.
const LOOK: Duration = Duration::from_secs(600);
/// Pause after a renewal that failed; there are days left then.
const AGAIN: Duration = Duration::from_secs(60);

/// Failure to join, or to get the next certificate.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The connector's own files can't be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The key can't be made or used.
    #[error("the connector's key can't be used")]
    Key(#[from] rcgen::Error),
    /// TLS can't be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No connection.
    #[error("no trusted connection to a gateway at `{address}`")]
    Dial {
        /// Where it was looked for.
        address: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The exchange broke off.
    #[error("the exchange with the gateway broke off")]
    Broken,
    /// The controller said no.
    #[error("{0}")]
    Refused(String),
    /// What it says of the gateways is not the controller's.
    #[error("its list of gateways is not believed; look at the gateway that was asked")]
    Roster(#[source] RosterError),
    /// It said something that can't be used.
    #[error("the answer can't be used: {0}")]
    Answer(&'static str),
}

/// Makes the key of a new connector and gets its first certificate for a one-time code. `gateway` says where to
/// dial when the ticket's host isn't it.
///
/// # Errors
/// [`JoinError`]; nothing is kept then, and the code is spent only if the controller answered.
pub async fn join(
    dir: &Path,
    ticket: &Ticket,
    gateway: Option<&Address>,
    proxy: Option<&Proxy>,
    tasks: &TaskGroup,
) -> Result<Member, JoinError> {
    State::prepare(dir)?;
    let Ticket { host, port, code, root_sha256 } = ticket;
    let key = KeyPair::generate()?;
    let asked = Address { host: host.clone(), port: *port };
    let request = JoinRequest { code: code.clone(), csr: signing_request(&key)? };
    let trust = || ServerTrust::PinnedRoot(*root_sha256);
    let mut joined: Joined = exchange(&asked, gateway.unwrap_or(&asked), trust, proxy, JOIN, &request, tasks).await?;
    let roots = tls::certificates(&joined.root, "the answer")?;
    let [root] = roots.as_slice() else { return Err(JoinError::Answer("it has not exactly one root")) };
    if tls::sha256(root) != *root_sha256 {
        return Err(JoinError::Answer("its root is not the ticket's"));
    }
    let list = take_list(&mut joined)?;
    let mut kept = Kept { port: *port, key: Zeroizing::new(key.serialize_pem()), joined };
    let member = checked(&mut kept)?;
    if member.gateway_host() != *host {
        return Err(JoinError::Answer("its base domain is not the ticket's"));
    }
    let rosters = Rosters::load(dir, tls::roots(&kept.joined.root, "root")?, member.domain.clone());
    rosters.take(&list).map_err(JoinError::Roster)?;
    State::create(dir, &kept)?;
    Ok(member)
}

/// The list of gateways in an answer; it has a file of its own.
fn take_list(joined: &mut Joined) -> Result<Vec<u8>, JoinError> {
    let list = std::mem::take(&mut joined.gateways);
    STANDARD.decode(list).map_err(|_| JoinError::Answer("its list of gateways is no base64"))
}

/// Who it is whose certificate this is. Whoever handed it on, it is of this connector, of its key and of the
/// installation; and what it says of its time is what counts.
fn checked(kept: &mut Kept) -> Result<Member, JoinError> {
    let member = kept.member().ok_or(JoinError::Answer("a name or id in it is malformed"))?;
    let roots = tls::roots(&kept.joined.root, "root")?;
    let chain = tls::certificates(&kept.joined.certificate, "the answer")?;
    let (leaf, issuers) = chain.split_first().ok_or(JoinError::Answer("it has no certificate"))?;
    let since = clock::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let verifier = Clients::new(ClientRole::Connector, Arc::clone(&roots), member.domain.clone());
    let refused = |_| JoinError::Answer("its certificate is not of a connector of the installation");
    let peer = verifier.verify(leaf, issuers, UnixTime::since_unix_epoch(since)).map_err(refused)?;
    if peer.identity != CertifiedIdentity::Connector(member.id) {
        return Err(JoinError::Answer("its certificate is not of this connector"));
    }
    let own = Credentials { chain_pem: &kept.joined.certificate, key_pem: &kept.key };
    // Refused where the certificate is not of the key.
    tls::client(ServerTrust::Gateway { roots, domain: member.domain.clone() }, Some(&own), &[])?;
    let life = peer.not_after.duration_since(peer.not_before).unwrap_or_default();
    kept.joined.not_after = clock::unix_seconds(peer.not_after);
    let latest = clock::unix_seconds(peer.not_after.checked_sub(life / 3).unwrap_or(peer.not_before));
    kept.joined.renew_at = kept.joined.renew_at.min(latest);
    Ok(member)
}

/// Renews the certificate when two thirds of its life are over.
pub(crate) async fn renewals(shared: Arc<Shared>) {
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.tasks.draining() => return,
        }
        pause = LOOK;
        if clock::unix_seconds(clock::now()) < shared.state.kept().borrow().joined.renew_at {
            continue;
        }
        match renew(&shared).await {
            Ok(()) => tracing::info!("the connector's certificate has been renewed"),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "the connector's certificate can't be renewed; it is tried again");
                pause = AGAIN;
            }
        }
    }
}

async fn renew(shared: &Shared) -> Result<(), JoinError> {
    let kept = Kept::clone(&shared.state.kept().borrow());
    let member = shared.state.member();
    let key = KeyPair::from_pem(&kept.key)?;
    let request = RenewRequest { connector: member.id.to_string(), csr: signing_request(&key)? };
    let asked = Address { host: member.gateway_host(), port: member.port };
    let roots = tls::roots(&kept.joined.root, "root")?;
    let trust = || ServerTrust::Roots(Arc::clone(&roots));
    let mut last = JoinError::Broken;
    for (gateway, _) in shared.gateways() {
        let renewed = async {
            let mut joined: Joined =
                exchange(&asked, &gateway, trust, shared.proxy.as_ref(), RENEW, &request, &shared.tasks).await?;
            let list = take_list(&mut joined)?;
            // Whoever answers, the root is the one that was pinned when it joined, and the site and name stay.
            let Joined { certificate, not_after, renew_at, .. } = joined;
            let joined = Joined { certificate, not_after, renew_at, ..kept.joined.clone() };
            let mut renewed = Kept { joined, ..kept.clone() };
            checked(&mut renewed)?;
            if renewed.joined.not_after <= kept.joined.not_after {
                return Err(JoinError::Answer("its certificate is no newer one"));
            }
            shared.rosters.take(&list).map_err(JoinError::Roster)?;
            Ok(shared.state.replace(renewed)?)
        };
        match renewed.await {
            Ok(()) => return Ok(()),
            // Another one may be honest, or have a way.
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A PKCS#10 request; only its key and signature count.
fn signing_request(key: &KeyPair) -> Result<String, JoinError> {
    Ok(CertificateParams::default().serialize_request(key)?.pem()?)
}

async fn exchange<Q: Serialize, A: DeserializeOwned>(
    asked: &Address,
    gateway: &Address,
    trust: impl Fn() -> ServerTrust,
    proxy: Option<&Proxy>,
    path: &str,
    question: &Q,
    tasks: &TaskGroup,
) -> Result<A, JoinError> {
    let failed = |source| JoinError::Dial { address: gateway.to_string(), source };
    let name = ServerName::try_from(asked.host.clone()).map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?;
    let mut stream = Err(io::ErrorKind::NotFound.into());
    for way in Way::all(gateway, Origin::Configured, proxy).await.map_err(failed)? {
        stream = way.connect(proxy, tasks).await;
        if stream.is_ok() {
            break;
        }
    }
    let connector = TlsConnector::from(Arc::new(tls::client(trust(), None, &[b"http/1.1"])?));
    let shaking = tokio::time::timeout(HANDSHAKE_TIMEOUT, connector.connect(name, stream.map_err(failed)?));
    let stream = shaking.await.map_err(|_| failed(io::ErrorKind::TimedOut.into()))?.map_err(failed)?;
    let text = serde_json::to_vec(question).map_err(|_| JoinError::Broken)?;
    let mut request = Request::new(body::full(text));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.parse().map_err(|_| JoinError::Broken)?;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let host = HeaderValue::from_str(&asked.to_string()).map_err(|_| JoinError::Broken)?;
    request.headers_mut().insert(HOST, host);
    let exchange = async {
        let response = send(stream, request, tasks).await.map_err(|_| JoinError::Broken)?;
        let status = response.status();
        let bytes = collect(response.into_body(), MAX_ANSWER_BYTES).await.map_err(|_| JoinError::Broken)?;
        Ok((status, bytes))
    };
    let (status, bytes) = tokio::time::timeout(PATIENCE, exchange).await.unwrap_or(Err(JoinError::Broken))?;
    if status.is_success() {
        return serde_json::from_slice(&bytes).map_err(|_| JoinError::Answer("it is no answer to that"));
    }
    match serde_json::from_slice::<Problem>(&bytes) {
        Ok(problem) => {
            let words = problem.detail.unwrap_or(problem.title);
            Err(JoinError::Refused(words.chars().filter(|letter| !letter.is_control()).take(300).collect()))
        }
        Err(_) => Err(JoinError::Refused(format!("the gateway answered {status}"))),
    }
}
