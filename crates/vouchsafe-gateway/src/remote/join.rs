//! How a gateway becomes one, and gets its next certificates. All keys are made here; only requests that
//! prove them are sent.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt as _, Limited};
use hyper::client::conn::http2::SendRequest;
use rcgen::{CertificateParams, KeyPair};
use serde::Serialize;
use serde::de::DeserializeOwned;
use vouchsafe_runtime::body::{self, Body};
use vouchsafe_runtime::clock;
use vouchsafe_runtime::task::TaskGroup;
use vouchsafe_runtime::tls::{ServerTrust, TlsError};
use vouchsafe_wire::api::Problem;
use vouchsafe_wire::gateway::{Certificates, JOIN, JoinCode, JoinRequest, Joined, RENEW, RenewRequest};
use zeroize::Zeroizing;

use super::RemoteLink;
use super::connection::{Reached, Windows, dial};
use super::state::{Kept, State, StateError};

/// Longest answer, bytes: chains and roots.
const MAX_ANSWER_BYTES: usize = 128 * 1024;
/// Longest wait for one.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often to look whether certificates want to be renewed.
const LOOK: Duration = Duration::from_secs(600);
/// Pause after a renewal that failed; there are two days left then.
const AGAIN: Duration = Duration::from_secs(60);

/// Failure to join, or to get the next certificates.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The gateway's own files can't be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A key can't be made.
    #[error("a key can't be made")]
    Key(#[from] rcgen::Error),
    /// TLS can't be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No connection.
    #[error("no trusted connection to the controller at `{address}`")]
    Dial {
        /// Where it was looked for.
        address: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The exchange broke off.
    #[error("the exchange with the controller broke off")]
    Broken,
    /// The controller said no.
    #[error("{0}")]
    Refused(String),
    /// It said something that can't be used.
    #[error("the answer of the controller can't be used")]
    Answer,
}

/// Makes the keys of a new gateway and gets its first certificates for a one-time code. Gives its name.
///
/// # Errors
/// [`JoinError`]; nothing is kept then, and the code is spent only if the controller answered.
pub async fn join(dir: &Path, code: &JoinCode, tasks: &TaskGroup) -> Result<String, JoinError> {
    State::prepare(dir)?;
    let JoinCode { code, root_sha256, host, port } = code;
    let (identity, server, assertion) = (Own::new()?, Own::new()?, Own::new()?);
    let trust = ServerTrust::NewController { root_sha256: *root_sha256 };
    let reached = Reached { host, port: *port, own: None };
    let mut sender = dial(&reached, trust, Windows::CHANNEL, tasks).await?;
    let request = JoinRequest {
        code: code.clone(),
        identity_csr: identity.request,
        server_csr: server.request,
        assertion_csr: assertion.request,
    };
    let joined: Joined = exchange(&mut sender, JOIN, &request).await?;
    let name = joined.name.clone();
    let kept = Kept {
        host: host.clone(),
        port: *port,
        identity_key: identity.key_pem,
        server_key: server.key_pem,
        assertion_key: assertion.key_pem,
        joined,
    };
    State::create(dir, &kept)?;
    // Read back and used once, so that what can't be used is known now.
    let state = State::load(dir)?;
    state.identity()?;
    state.snapshot_key()?;
    Ok(name)
}

/// A key with the request that proves it.
struct Own {
    key_pem: Zeroizing<String>,
    request: String,
}

impl Own {
    fn new() -> Result<Self, JoinError> {
        let key = KeyPair::generate()?;
        let request = CertificateParams::default().serialize_request(&key)?.pem()?;
        Ok(Self { key_pem: Zeroizing::new(key.serialize_pem()), request })
    }
}

/// Renews the gateway's certificates, with new keys, when two thirds of their life are over.
pub(super) async fn renewals(state: Arc<State>, link: Arc<RemoteLink>, tasks: TaskGroup) {
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = tasks.draining() => return,
        }
        pause = LOOK;
        if clock::unix_seconds(clock::now()) < state.kept().joined.certificates.renew_at {
            continue;
        }
        match renew(&state, &link).await {
            Ok(()) => tracing::info!("the gateway's certificates have been renewed"),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "the gateway's certificates can't be renewed; it is tried again");
                pause = AGAIN;
            }
        }
    }
}

async fn renew(state: &Arc<State>, link: &RemoteLink) -> Result<(), JoinError> {
    let mut connection = link.connection.subscribe();
    // It may be that the gateway only begins.
    let there = async { connection.wait_for(Option::is_some).await.ok().and_then(|there| there.clone()) };
    let sender = tokio::time::timeout(PATIENCE, there).await.ok().flatten();
    let Some(mut sender) = sender else { return Err(JoinError::Broken) };
    let (identity, server) = (Own::new()?, Own::new()?);
    let request = RenewRequest { identity_csr: identity.request, server_csr: server.request };
    let certificates: Certificates = exchange(&mut sender, RENEW, &request).await?;
    let mut kept = state.kept();
    (kept.identity_key, kept.server_key) = (identity.key_pem, server.key_pem);
    kept.joined.certificates = certificates;
    let keeping = Arc::clone(state);
    tokio::task::spawn_blocking(move || keeping.replace(kept)).await.map_err(|_| JoinError::Broken)??;
    link.certificates.send_replace(Arc::new(super::shown(state)));
    Ok(())
}

async fn exchange<Q: Serialize, A: DeserializeOwned>(
    sender: &mut SendRequest<Body>,
    path: &str,
    question: &Q,
) -> Result<A, JoinError> {
    let text = serde_json::to_vec(question).map_err(|_| JoinError::Answer)?;
    let mut request = Request::new(body::full(text));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = format!("https://controller{path}").parse().map_err(|_| JoinError::Answer)?;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|_| JoinError::Broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        Ok((status, body.map_err(|_| JoinError::Broken)?.to_bytes()))
    };
    let exchanged = tokio::time::timeout(PATIENCE, exchange).await;
    let (status, bytes) = exchanged.unwrap_or(Err(JoinError::Broken))?;
    if status.is_success() {
        return serde_json::from_slice(&bytes).map_err(|_| JoinError::Answer);
    }
    match serde_json::from_slice::<Problem>(&bytes) {
        Ok(problem) => {
            let title = problem.title.chars().filter(|letter| !letter.is_control()).take(300).collect();
            Err(JoinError::Refused(title))
        }
        Err(_) => Err(JoinError::Refused(format!("the controller answered {status}"))),
    }
}
