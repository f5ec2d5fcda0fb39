//! What the gateway shows of itself, and of whom it asks the same.

use std::sync::Arc;

use rustls::ServerConfig;
use vouchsafe_runtime::link::GatewayIdentity;
use vouchsafe_runtime::tls::shown::Pair;
use vouchsafe_runtime::tls::{self, ClientCertificates, Credentials, Shown, TlsError};
use zeroize::Zeroizing;

const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

/// The operator's certificate for the names that browsers use.
pub struct BrowserCertificate {
    /// PEM chain, leaf first.
    pub chain_pem: String,
    /// PEM key.
    pub key_pem: Zeroizing<String>,
}

impl BrowserCertificate {
    fn credentials(&self) -> Credentials<'_> {
        Credentials { chain_pem: &self.chain_pem, key_pem: &self.key_pem }
    }
}

/// TLS configurations by what a host name demands. They stay for the life of the gateway, and with
/// them their ticket keys; what they show is replaced in place.
pub(crate) struct Certificates {
    /// For names that browsers use: no client certificate is asked for, so none prompts.
    pub(crate) browser: Arc<ServerConfig>,
    /// For `gw` and `api`: a device certificate is asked for.
    pub(crate) device: Arc<ServerConfig>,
}

impl Certificates {
    pub(crate) fn new(identity: &GatewayIdentity, browser: Option<&BrowserCertificate>) -> Result<Self, TlsError> {
        let own =
            Pair::load(&Credentials { chain_pem: &identity.server_chain_pem, key_pem: &identity.server_key_pem })?;
        let for_browsers = match browser {
            Some(given) => Pair::load(&given.credentials())?,
            None => own.clone(),
        };
        let devices = ClientCertificates::OfDevices { roots_pem: &identity.device_roots_pem, domain: &identity.domain };
        Ok(Self {
            browser: Arc::new(tls::server(Shown::new(for_browsers), &ClientCertificates::NotAsked, ALPN)?),
            device: Arc::new(tls::server(Shown::new(own), &devices, ALPN)?),
        })
    }
}
