//! One way to a gateway: a connection on it, and after its end the next, for as long as it is wanted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use vouchsafe_model::id::GatewayId;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::limits::HANDSHAKE_TIMEOUT;
use vouchsafe_runtime::tls::{self, Credentials, ServerTrust, TlsError, proven_gateway};
use vouchsafe_wire::connector::ALPN;
use vouchsafe_wire::spiffe::CertifiedIdentity;

use crate::connector::Shared;
use crate::dial::{Stream, Way};
use crate::serve::{self, Ended};
use crate::state::Kept;

/// First and longest pause between two attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// A connection that lasted as long was a good one.
const GOOD: Duration = Duration::from_secs(10);

/// Failure to connect to a gateway.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("no way to the gateway")]
    Dial(#[source] io::Error),
    #[error("it is no gateway of ours, or doesn't take this connector")]
    Handshake(#[source] io::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("it is no gateway")]
    Role,
    #[error("it does not speak our protocol")]
    Protocol(#[source] h2::Error),
}

/// Keeps a connection on that way.
pub(crate) async fn keep(shared: Arc<Shared>, way: Way, wanted: Arc<AtomicBool>) {
    let mut pause = FIRST_PAUSE;
    let mut told = false;
    while wanted.load(Ordering::Relaxed) && !shared.tasks.is_draining() {
        let began = Instant::now();
        match once(&shared, &way).await {
            // The next, with the new certificate, while the former lets its streams end.
            Ok(Ended::Renewed) => continue,
            Ok(Ended::Drained) => return,
            Ok(Ended::Lost(why)) => {
                tracing::warn!(%way, why, "the connection to a gateway is gone; it is tried again");
                told = false;
            }
            Err(error) if told => {
                tracing::debug!(%way, error = &error as &dyn std::error::Error, "a gateway is not reached yet");
            }
            Err(error) => {
                tracing::warn!(%way, error = &error as &dyn std::error::Error, "a gateway is not reached; trying on");
                told = true;
            }
        }
        if began.elapsed() > GOOD {
            pause = FIRST_PAUSE;
        }
        // Half of it at least, the rest by chance: a thousand connectors don't come back at once.
        let [dice] = clock::random::<1>();
        let wait = pause / 2 + pause / 2 * u32::from(dice) / 255;
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.tasks.draining() => return,
        }
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

async fn once(shared: &Arc<Shared>, way: &Way) -> Result<Ended, LinkError> {
    let mut kept = shared.state.kept();
    let present = Arc::clone(&kept.borrow_and_update());
    let connecting = way.connect(shared.proxy.as_ref(), &shared.tasks);
    let stream = tokio::select! {
        connected = connecting => connected.map_err(LinkError::Dial)?,
        () = shared.tasks.draining() => return Ok(Ended::Drained),
    };
    let (stream, gateway) = secure(shared, &present, stream).await?;
    let connection = serve::begin(stream).await.map_err(LinkError::Protocol)?;
    tracing::info!(%way, %gateway, "attached to a gateway");
    Ok(serve::serve(shared, connection, gateway, &mut kept).await)
}

/// TLS, in which both ends know each other by their roles.
async fn secure(
    shared: &Shared,
    kept: &Kept,
    stream: Box<dyn Stream>,
) -> Result<(TlsStream<Box<dyn Stream>>, GatewayId), LinkError> {
    let member = shared.state.member();
    let own = Credentials { chain_pem: &kept.joined.certificate, key_pem: &kept.key };
    let trust = ServerTrust::Gateway { roots: tls::roots(&kept.joined.root, "root")?, domain: member.domain.clone() };
    let config = tls::client(trust, Some(&own), &[ALPN])?;
    let invalid = || LinkError::Handshake(io::ErrorKind::InvalidInput.into());
    // The gateway goes by it; it is not this name that is verified, but the role.
    let name = ServerName::try_from(member.gateway_host()).map_err(|_| invalid())?;
    let shaking = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let timed_out = |_| LinkError::Handshake(io::ErrorKind::TimedOut.into());
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, shaking).await.map_err(timed_out)?;
    let stream = stream.map_err(LinkError::Handshake)?;
    let session = stream.get_ref().1;
    if session.alpn_protocol() != Some(ALPN) {
        return Err(LinkError::Role);
    }
    let proven = proven_gateway(session, &member.domain, clock::now()).ok().flatten();
    match proven.map(|proven| proven.identity) {
        Some(CertifiedIdentity::Gateway(gateway)) => Ok((stream, gateway)),
        Some(CertifiedIdentity::Device(_) | CertifiedIdentity::Controller(_) | CertifiedIdentity::Connector(_))
        | None => Err(LinkError::Role),
    }
}
