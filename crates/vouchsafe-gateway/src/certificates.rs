//! What the gateway shows of itself, and of whom it asks the same.
//!
//! The configurations stay for the life of the gateway, and with them their ticket keys; what they
//! show is replaced in place. Whatever can't be used is logged and left out, and what was shown
//! before is shown on.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::client::ResolvesClientCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, SignatureScheme};
use tokio::sync::watch;
use vouchsafe_runtime::link::{Challenge, GatewayCertificates, GatewayIdentity, KeyAndChain};
use vouchsafe_runtime::tls::shown::Pair;
use vouchsafe_runtime::tls::{self, ClientCertificates, Credentials, Shown, TlsError};
use vouchsafe_wire::connector;
use zeroize::Zeroizing;

use crate::gateway::Shared;

const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];
/// The protocol of `tls-alpn-01` (RFC 8737 §6.1).
const ACME_TLS: &[u8] = b"acme-tls/1";

/// The operator's certificate for the names that browsers use.
pub struct BrowserCertificate {
    /// PEM chain, leaf first.
    pub chain_pem: String,
    /// PEM key.
    pub key_pem: Zeroizing<String>,
}

/// TLS configurations by what a host name demands, and what they show.
pub(crate) struct Certificates {
    /// For names that browsers use: no client certificate is asked for, so none prompts.
    pub(crate) browser: Arc<ServerConfig>,
    /// For `gw` and `api`: a device certificate is asked for.
    pub(crate) device: Arc<ServerConfig>,
    /// For connectors, which know us by the certificate of our role; none where none is vouched for.
    pub(crate) connector: Option<Arc<ServerConfig>>,
    to_connectors: Arc<Shown>,
    to_browsers: Arc<Shown>,
    to_devices: Arc<Shown>,
    /// Browsers see the operator's certificate instead of our own.
    operators: bool,
    to_upstreams: Arc<ShownToUpstreams>,
    received: watch::Receiver<Arc<GatewayCertificates>>,
}

impl Certificates {
    pub(crate) fn new(
        identity: &GatewayIdentity,
        received: watch::Receiver<Arc<GatewayCertificates>>,
        operators: Option<&BrowserCertificate>,
    ) -> Result<Self, TlsError> {
        let first = Arc::clone(&received.borrow());
        let own = load(&first.server)?;
        let for_browsers = match operators {
            Some(given) => Pair::load(&Credentials { chain_pem: &given.chain_pem, key_pem: &given.key_pem })?,
            None => own.clone(),
        };
        let (to_browsers, to_devices) = (Shown::new(for_browsers), Shown::new(own));
        let devices = ClientCertificates::OfDevices { roots_pem: &identity.device_roots_pem, domain: &identity.domain };
        let to_connectors = Shown::new(load(&first.client)?);
        let roots_pem = &identity.connector_roots_pem;
        let connectors = ClientCertificates::OfConnectors { roots_pem, domain: &identity.domain };
        let connector = (!roots_pem.is_empty())
            .then(|| tls::server(Arc::clone(&to_connectors) as _, &connectors, &[connector::ALPN]).map(Arc::new));
        let made = Self {
            connector: connector.transpose()?,
            to_connectors,
            browser: Arc::new(tls::server(Arc::clone(&to_browsers) as _, &ClientCertificates::NotAsked, ALPN)?),
            device: Arc::new(tls::server(Arc::clone(&to_devices) as _, &devices, ALPN)?),
            to_browsers,
            to_devices,
            operators: operators.is_some(),
            to_upstreams: Arc::new(ShownToUpstreams(RwLock::new(certified(&first.client)?))),
            received,
        };
        made.show_public(&first);
        Ok(made)
    }

    /// What upstreams see that ask who connects; it stays true when our certificate is renewed.
    pub(crate) fn to_upstreams(&self) -> Arc<dyn ResolvesClientCert> {
        Arc::clone(&self.to_upstreams) as _
    }

    /// Replaces the operator's certificate.
    pub(crate) fn replace_operators(&self, given: &BrowserCertificate) -> Result<(), TlsError> {
        self.to_browsers.replace(Pair::load(&Credentials { chain_pem: &given.chain_pem, key_pem: &given.key_pem })?);
        Ok(())
    }

    fn take(&self, given: &GatewayCertificates) {
        match load(&given.server) {
            Ok(own) => {
                if !self.operators {
                    self.to_browsers.replace(own.clone());
                }
                self.to_devices.replace(own);
            }
            Err(error) => unusable("our own server certificate", &error),
        }
        match load(&given.client) {
            Ok(own) => self.to_connectors.replace(own),
            Err(error) => unusable("our own certificate for connectors", &error),
        }
        match certified(&given.client) {
            Ok(own) => *self.to_upstreams.0.write() = own,
            Err(error) => unusable("our own certificate for upstreams", &error),
        }
        self.show_public(given);
    }

    fn show_public(&self, given: &GatewayCertificates) {
        let mut by_name = HashMap::new();
        for (host, pair) in &given.public {
            match load(pair) {
                Ok(pair) => drop(by_name.insert(host.clone(), pair)),
                Err(error) => unusable(host, &error),
            }
        }
        self.to_browsers.replace_named(by_name);
    }

    /// The configuration that answers a public authority's question over TLS, if one waits for that
    /// very name. It is of use for nothing else: no protocol of ours is spoken under it (A051).
    pub(crate) fn challenge(&self, host: &str, offered: &[&[u8]]) -> Option<Arc<ServerConfig>> {
        if offered != [ACME_TLS] {
            return None;
        }
        let given = Arc::clone(&self.received.borrow());
        let answer = given.challenges.iter().find_map(|challenge| match challenge {
            Challenge::TlsAlpn { host: asked, answer } if asked == host => Some(answer),
            Challenge::TlsAlpn { .. } | Challenge::Http { .. } => None,
        })?;
        match answering(answer) {
            Ok(config) => Some(Arc::new(config)),
            Err(error) => {
                unusable("the answer to a public authority", &error);
                None
            }
        }
    }

    /// The answer to a public authority's question over HTTP.
    pub(crate) fn http_answer(&self, host: &str, token: &str) -> Option<String> {
        let given = Arc::clone(&self.received.borrow());
        given.challenges.iter().find_map(|challenge| match challenge {
            Challenge::Http { host: asked, token: of, answer } if asked == host && of == token => Some(answer.clone()),
            Challenge::TlsAlpn { .. } | Challenge::Http { .. } => None,
        })
    }
}

/// Our certificate for upstreams, as it is now.
#[derive(Debug)]
struct ShownToUpstreams(RwLock<Arc<CertifiedKey>>);

impl ResolvesClientCert for ShownToUpstreams {
    fn resolve(&self, _issuers: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let shown = Arc::clone(&self.0.read());
        shown.key.choose_scheme(schemes).is_some().then_some(shown)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn certified(pair: &KeyAndChain) -> Result<Arc<CertifiedKey>, TlsError> {
    let what = "our own certificate for upstreams";
    let chain = tls::certificates(&pair.chain_pem, what)?;
    let key = tls::private_key(&pair.key_pem, what)?;
    let pair = CertifiedKey::from_der(chain, key, &tls::provider());
    pair.map(Arc::new).map_err(|source| TlsError::Unusable { what, source })
}

fn load(pair: &KeyAndChain) -> Result<Pair, TlsError> {
    Pair::load(&Credentials { chain_pem: &pair.chain_pem, key_pem: &pair.key_pem })
}

/// A configuration that shows the answer. Its certificate has a critical extension (RFC 8737 §3) which
/// whoever compares it with its key would refuse to read; both were made together, in one place.
fn answering(answer: &KeyAndChain) -> Result<ServerConfig, TlsError> {
    let what = "the answer to a public authority";
    let chain = tls::certificates(&answer.chain_pem, what)?;
    let key = tls::private_key(&answer.key_pem, what)?;
    let key = tls::provider().key_provider.load_private_key(key);
    let key = key.map_err(|source| TlsError::Unusable { what, source })?;
    let shown = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
    tls::server(shown, &ClientCertificates::NotAsked, &[ACME_TLS])
}

fn unusable(what: &str, error: &TlsError) {
    let error = error as &dyn std::error::Error;
    tracing::error!(what, error, "a certificate can't be used; the one before is shown on");
}

/// Shows what the controller renews, as it comes.
pub(crate) async fn follow(shared: Arc<Shared>, mut received: watch::Receiver<Arc<GatewayCertificates>>) {
    loop {
        tokio::select! {
            changed = received.changed() => if changed.is_err() { return },
            () = shared.tasks.draining() => return,
        }
        let given = Arc::clone(&received.borrow_and_update());
        shared.certificates.take(&given);
    }
}
