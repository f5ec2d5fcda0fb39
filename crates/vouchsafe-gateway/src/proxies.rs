//! Existing proxies that ask us whether their clients may pass (`docs/guide/existing-proxies.md`).
//!
//! What such a proxy says of a request is believed: which host and path, from where, with which cookies. So it has to
//! prove that it is one, by a secret of its own, and may ask for the resources alone that it is named for.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::{HeaderMap, HeaderName};
use vouchsafe_model::name::{ResourceName, SiteName};
use vouchsafe_runtime::tls::sha256;
use zeroize::Zeroizing;

use crate::seldom::Seldom;

/// Field by which a proxy proves itself: `<name>:<secret>`.
pub(crate) const PROOF: HeaderName = HeaderName::from_static("x-vouchsafe-proxy");
/// Shortest secret, characters: 128 random bits have 22 in base64.
const MIN_SECRET: usize = 22;
/// Longest secret, characters.
const MAX_SECRET: usize = 256;

/// A proxy that may ask.
#[derive(Debug, Clone)]
pub struct Proxy {
    name: Arc<str>,
    kind: ProxyKind,
    secret: ProxySecret,
    resources: BTreeSet<ResourceName>,
    /// Its questions that can't be answered.
    unclear: Arc<Seldom>,
}

/// Which program it is: each takes answers in its own form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyKind {
    /// nginx with `auth_request`, which knows 2xx, 401 and 403 and shows no answer of ours.
    Nginx,
    /// Caddy with `forward_auth`, which passes a refusal on as it is.
    Caddy,
    /// Traefik with `ForwardAuth`, which does the same.
    Traefik,
    /// Envoy with `ext_authz` over gRPC.
    Envoy,
}

impl ProxyKind {
    /// The kind of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "nginx" => Some(ProxyKind::Nginx),
            "caddy" => Some(ProxyKind::Caddy),
            "traefik" => Some(ProxyKind::Traefik),
            "envoy" => Some(ProxyKind::Envoy),
            _ => None,
        }
    }
}

/// The digest of a secret, which is all that is kept of it.
#[derive(Clone)]
pub struct ProxySecret([u8; 32]);

impl fmt::Debug for ProxySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxySecret(hidden)")
    }
}

/// Failure to take a proxy in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The secret could be guessed, or can't stand in a header.
    #[error(
        "the secret must be {MIN_SECRET} to {MAX_SECRET} letters, digits, `-`, `_`, `+`, `/` or `=`; make one with `openssl rand -hex 32`"
    )]
    Secret,
    /// It may ask for nothing.
    #[error("it names no resource that it may ask for")]
    NoResources,
}

impl ProxySecret {
    /// Takes a secret in, white space around it left out.
    ///
    /// # Errors
    /// [`ProxyError::Secret`].
    pub fn new(text: &Zeroizing<String>) -> Result<Self, ProxyError> {
        let text = text.trim();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'+' | b'/' | b'=');
        if !(MIN_SECRET..=MAX_SECRET).contains(&text.len()) || !text.bytes().all(fits) {
            return Err(ProxyError::Secret);
        }
        Ok(Self(sha256(text.as_bytes())))
    }

    fn is(&self, given: &str) -> bool {
        verify_slices_are_equal(&self.0, &sha256(given.as_bytes())).is_ok()
    }
}

impl Proxy {
    /// A proxy of that name, which may ask for those resources.
    ///
    /// # Errors
    /// [`ProxyError::NoResources`].
    pub fn new(
        name: &SiteName,
        kind: ProxyKind,
        secret: ProxySecret,
        resources: BTreeSet<ResourceName>,
    ) -> Result<Self, ProxyError> {
        if resources.is_empty() {
            return Err(ProxyError::NoResources);
        }
        Ok(Self { name: name.to_shared(), kind, secret, resources, unclear: Arc::default() })
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn kind(&self) -> ProxyKind {
        self.kind
    }

    /// It asked once more what can't be answered: how often since that was told, if it is to be told again.
    pub(crate) fn was_unclear(&self, now: Instant) -> Option<u64> {
        self.unclear.happened(now)
    }

    pub(crate) fn may_ask_for(&self, resource: &ResourceName) -> bool {
        self.resources.contains(resource)
    }
}

/// The proxies that may ask here, and those that only say so.
pub(crate) struct Proxies {
    known: Vec<Proxy>,
    /// Proofs that were none.
    refused: AtomicU64,
    pretended: Seldom,
}

impl Proxies {
    pub(crate) fn new(known: Vec<Proxy>) -> Self {
        Self { known, refused: AtomicU64::new(0), pretended: Seldom::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The proxy that those fields prove, with its number; none where there are two proofs, or half of one.
    pub(crate) fn proven(&self, headers: &HeaderMap) -> Option<(usize, &Proxy)> {
        let mut proofs = headers.get_all(PROOF).iter();
        let (Some(proof), None) = (proofs.next(), proofs.next()) else { return None };
        let (name, secret) = proof.to_str().ok()?.split_once(':')?;
        let (number, proxy) = self.known.iter().enumerate().find(|(_, proxy)| *proxy.name == *name)?;
        proxy.secret.is(secret).then_some((number, proxy))
    }

    /// Somebody asked as a proxy, and proved to be none. Who shows no proof at all isn't guessing.
    pub(crate) fn refused(&self, headers: &HeaderMap, now: Instant) {
        if !headers.contains_key(PROOF) {
            return;
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        if let Some(times) = self.pretended.happened(now) {
            tracing::warn!(
                times,
                "`X-Vouchsafe-Proxy` is shown with a secret that is none; if a proxy of yours does, compare it with `--proxies`"
            );
        }
    }

    /// How often that was so.
    pub(crate) fn refusals(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn secret(text: &str) -> Result<ProxySecret, ProxyError> {
        ProxySecret::new(&Zeroizing::new(text.to_owned()))
    }

    fn proxy(name: &str, text: &str) -> Proxy {
        let resources = BTreeSet::from([ResourceName::parse("wiki").unwrap()]);
        Proxy::new(&SiteName::parse(name).unwrap(), ProxyKind::Nginx, secret(text).unwrap(), resources).unwrap()
    }

    fn shown(proofs: &[String]) -> HeaderMap {
        proofs.iter().map(|proof| (PROOF, HeaderValue::from_str(proof).unwrap())).fold(
            HeaderMap::new(),
            |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            },
        )
    }

    #[test]
    fn a_proxy_is_proven_by_its_own_secret_and_by_one_proof() {
        let (edge, inner) = ("e".repeat(32), "i".repeat(32));
        let proxies = Proxies::new(vec![proxy("edge", &format!(" {edge}\n")), proxy("inner", &inner)]);
        let who = |proofs: &[String]| {
            let headers = shown(proofs);
            proxies.proven(&headers).map(|(number, proxy)| (number, proxy.name.to_string()))
        };
        assert_eq!(who(&[format!("edge:{edge}")]), Some((0, "edge".to_owned())));
        assert_eq!(who(&[format!("inner:{inner}")]), Some((1, "inner".to_owned())));
        for bad in [
            vec![],
            vec![format!("edge:{inner}")],
            vec![format!("inner:{edge}")],
            vec![format!("other:{edge}")],
            vec!["edge:".to_owned()],
            vec!["edge".to_owned()],
            vec![edge.clone()],
            vec![format!("edge:{edge} ")],
            vec![format!("edge:{edge}, edge:{edge}")],
            vec![format!("edge:{edge}"), format!("edge:{edge}")],
            vec![format!("edge:{edge}"), "edge:x".to_owned()],
            vec![format!("Edge:{edge}")],
        ] {
            assert_eq!(who(&bad), None, "{bad:?}");
        }
        assert!(!format!("{:?}", proxies.known).contains(&edge));
    }

    #[test]
    fn proofs_that_are_none_are_counted() {
        let (proxies, now) = (Proxies::new(vec![proxy("edge", &"e".repeat(32))]), Instant::now());
        proxies.refused(&shown(&[]), now);
        assert_eq!(proxies.refusals(), 0, "no proof, no guess");
        proxies.refused(&shown(&["edge:x".to_owned()]), now);
        proxies.refused(&shown(&["other:x".to_owned(), "edge:y".to_owned()]), now);
        assert_eq!(proxies.refusals(), 2);
    }

    #[test]
    fn a_secret_that_can_be_guessed_is_refused() {
        assert!(secret(&"a".repeat(22)).is_ok() && secret(&"a".repeat(256)).is_ok());
        for bad in ["", "short", &"a".repeat(21), &"a".repeat(257), &format!("{}:", "a".repeat(30)), &" ".repeat(40)] {
            assert_eq!(secret(bad).unwrap_err(), ProxyError::Secret, "{bad}");
        }
        let name = SiteName::parse("edge").unwrap();
        let made = Proxy::new(&name, ProxyKind::Envoy, secret(&"a".repeat(32)).unwrap(), BTreeSet::new());
        assert_eq!(made.unwrap_err(), ProxyError::NoResources);
    }
}
