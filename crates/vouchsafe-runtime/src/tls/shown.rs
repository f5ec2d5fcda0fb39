//! The certificates a server shows. They are replaced while it serves: connections that are open
//! keep what they have, and each new handshake takes whole what stands there at that moment.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::RwLock;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{Credentials, TlsError, certificates, identity, private_key, provider};

/// A certificate chain with its key, which belong together.
#[derive(Debug, Clone)]
pub struct Pair(Arc<CertifiedKey>);

impl Pair {
    /// Reads both and checks that the key is the certificate's: a pair of which one half was
    /// replaced already and the other not yet is an error here, and never shown to anybody (A183).
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(credentials: &Credentials<'_>) -> Result<Self, TlsError> {
        let what = "server certificate";
        let unusable = |source| TlsError::Unusable { what, source };
        let chain = certificates(credentials.chain_pem, what)?;
        let key = private_key(credentials.key_pem, what)?;
        let pair = CertifiedKey::from_der(chain, key, &provider()).map_err(unusable)?;
        // `from_der` lets pass what it can't compare.
        pair.keys_match().map_err(unusable)?;
        Ok(Self(Arc::new(pair)))
    }

    /// End of the leaf's validity.
    #[must_use]
    pub fn not_after(&self) -> Option<SystemTime> {
        self.0.cert.first().and_then(identity::not_after)
    }
}

#[derive(Debug)]
struct Table {
    by_name: HashMap<String, Pair>,
    otherwise: Pair,
}

/// What is shown to whom: one pair for each name that has its own, and one for all others.
#[derive(Debug)]
pub struct Shown(RwLock<Table>);

impl Shown {
    /// Shows one pair for every name.
    #[must_use]
    pub fn new(pair: Pair) -> Arc<Self> {
        Arc::new(Self(RwLock::new(Table { by_name: HashMap::new(), otherwise: pair })))
    }

    /// Reads a pair and shows it for every name.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(credentials: &Credentials<'_>) -> Result<Arc<Self>, TlsError> {
        Ok(Self::new(Pair::load(credentials)?))
    }

    /// Replaces the pair for names without one of their own.
    pub fn replace(&self, pair: Pair) {
        self.0.write().otherwise = pair;
    }

    /// Replaces the pairs of single names, all of them; names are lower case.
    pub fn replace_named(&self, by_name: HashMap<String, Pair>) {
        self.0.write().by_name = by_name;
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.0.read();
        let own = hello.server_name().and_then(|name| {
            // rustls gives the name as it came.
            table.by_name.get(name).or_else(|| table.by_name.get(&name.to_ascii_lowercase()))
        });
        Some(Arc::clone(&own.unwrap_or(&table.otherwise).0))
    }
}
