//! What a proxy says of a request, read once. What it doesn't say, says twice or could mean in two ways is refused:
//! the proxy acts on its own reading, so there must not be another.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{HeaderName, UPGRADE};
use http::{HeaderMap, HeaderValue};
use vouchsafe_model::address;
use vouchsafe_model::decision::Reason;
use vouchsafe_model::resource::{PathRules, ResourceSpec};
use vouchsafe_wire::authority::Authority;
use vouchsafe_wire::canonical::CanonicalTarget;

use super::Inquiry;
use crate::forward::headers;
use crate::names::{Names, Site};
use crate::proxies::{PROOF, ProxyKind};
use crate::route::named::{LastHost, Named};

const METHOD: &str = "x-forwarded-method";
const PROTO: &str = "x-forwarded-proto";
const HOST: &str = "x-forwarded-host";
const URI: &str = "x-forwarded-uri";
const FOR: &str = "x-forwarded-for";
/// `Upgrade` itself belongs to one hop, and most proxies don't send it on.
const UPGRADES: HeaderName = HeaderName::from_static("x-forwarded-upgrade");

/// Where a request came from, and to which of our hosts.
pub(super) struct Origin {
    pub(super) ip: IpAddr,
    pub(super) site: Site,
    pub(super) named: Arc<Named>,
    /// Port at which the proxy serves that host.
    pub(super) port: u16,
    /// Our names, with apps at that port.
    pub(super) names: Names,
}

/// A request.
pub(super) struct Told {
    pub(super) origin: Origin,
    pub(super) target: Arc<CanonicalTarget>,
    /// Whether the connection is to be taken up for another protocol.
    pub(super) upgrades: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Unclear {
    pub(super) reason: Reason,
    /// Words for whoever runs the proxy.
    pub(super) why: String,
    pub(super) ip: Option<IpAddr>,
    pub(super) host: Option<Arc<str>>,
    pub(super) label: Option<Arc<str>>,
}

impl Unclear {
    pub(super) fn ambiguous(why: impl Into<String>) -> Self {
        Self { reason: Reason::Ambiguous, why: why.into(), ip: None, host: None, label: None }
    }
}

/// A request in the words of a proxy.
pub(super) struct Said<'r> {
    pub(super) method: &'r str,
    pub(super) proto: &'r str,
    pub(super) host: &'r str,
    pub(super) uri: &'r str,
    pub(super) ip: &'r str,
}

impl Origin {
    /// Out of the fields `X-Forwarded-Proto`, `-Host` and `-For`.
    pub(super) fn of_fields(asking: &Inquiry<'_>, headers: &HeaderMap) -> Result<Self, Unclear> {
        let (proto, host, ip) = (only(headers, PROTO)?, only(headers, HOST)?, only(headers, FOR)?);
        Self::read(asking, proto, host, ip)
    }

    fn read(asking: &Inquiry<'_>, proto: &str, host: &str, ip: &str) -> Result<Self, Unclear> {
        if proto != "https" {
            return Err(Unclear::ambiguous("the client's connection is not https, and cookies don't travel without"));
        }
        let ip: IpAddr = ip.parse().map_err(|_| Unclear::ambiguous("the client's address is not exactly one"))?;
        let ip = address::of_client(ip);
        let at = |unclear: Unclear| Unclear { ip: Some(ip), ..unclear };
        let authority = Authority::parse(host).map_err(|error| at(Unclear::ambiguous(error.to_string())))?;
        let host: Arc<str> = authority.host.as_str().into();
        let names = &asking.shared.names;
        // What isn't there, is no web app, is served by no proxy, or not by this one, is the same: nothing.
        let nothing = |label: Option<Arc<str>>, why: String| Unclear {
            reason: Reason::UnknownResource,
            why,
            ip: Some(ip),
            host: Some(Arc::clone(&host)),
            label,
        };
        let Some(site @ Site::App(name)) = &names.site(&authority.host) else {
            return Err(nothing(None, format!("`{host}` is not the host of a web app")));
        };
        let label = || Some(site.shared_label());
        if !asking.proxy.may_ask_for(name) {
            return Err(nothing(label(), format!("`{name}` is not among the resources of this proxy (`--proxies`)")));
        }
        let engine = asking.shared.current.engine();
        let spec = engine.resource(name).map(|resource| &resource.spec);
        let Some(ResourceSpec::Http(spec)) = spec else {
            return Err(nothing(label(), format!("there is no web app `{name}`")));
        };
        let Some(port) = spec.proxy_port.map(std::num::NonZeroU16::get) else {
            return Err(nothing(label(), format!("the resource `{name}` has no `proxy_port`")));
        };
        if authority.port.is_some_and(|asked| asked != port) {
            return Err(nothing(label(), format!("the resource `{name}` has another `proxy_port`")));
        }
        let names = names.with_apps_at(port);
        let named =
            LastHost::default().read(&host, &names).map_err(|error| at(Unclear::ambiguous(error.to_string())))?;
        Ok(Self { ip, site: site.clone(), named, port, names })
    }
}

impl Told {
    /// Out of the fields that nginx is told to send, and Caddy and Traefik send by themselves.
    pub(super) fn of_fields(asking: &Inquiry<'_>, headers: &HeaderMap) -> Result<Self, Unclear> {
        let said = Said {
            method: only(headers, METHOD)?,
            proto: only(headers, PROTO)?,
            host: only(headers, HOST)?,
            uri: only(headers, URI)?,
            ip: only(headers, FOR)?,
        };
        Self::read(asking, &said, headers)
    }

    /// Out of a proxy's words, and the fields of its client.
    pub(super) fn read(asking: &Inquiry<'_>, said: &Said<'_>, headers: &HeaderMap) -> Result<Self, Unclear> {
        let origin = Origin::read(asking, said.proto, said.host, said.ip)?;
        let at = |why: String| Unclear {
            ip: Some(origin.ip),
            host: Some(Arc::clone(&origin.named.host)),
            label: Some(origin.site.shared_label()),
            ..Unclear::ambiguous(why)
        };
        if let Some(name) = headers.keys().find(|name| misleads(asking.proxy.kind(), name)) {
            let name: String = name.as_str().chars().take(MOST_OF_A_NAME).collect();
            return Err(at(format!("the field `{name}` would mislead the app, and through a proxy it would arrive")));
        }
        let target = target(said.method, said.uri).map_err(at)?;
        Ok(Self { origin, target: Arc::new(target), upgrades: upgrades(headers) })
    }
}

/// The one value of a field.
fn only<'r>(headers: &'r HeaderMap, name: &str) -> Result<&'r str, Unclear> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or_else(|| Unclear::ambiguous(format!("the proxy doesn't send `{name}`")))?;
    if values.next().is_some() {
        return Err(Unclear::ambiguous(format!("the proxy sends `{name}` more than once")));
    }
    value.to_str().map_err(|_| Unclear::ambiguous(format!("`{name}` is not ASCII")))
}

/// The target, which the proxy sends on as it is: so it has to be in its canonical form already.
fn target(method: &str, uri: &str) -> Result<CanonicalTarget, String> {
    let target = CanonicalTarget::parse(method, uri, PathRules::WIDEST).map_err(|why| why.to_string())?;
    if target.to_target() != uri {
        return Err("path is not in its canonical form, and through a proxy it would arrive as it is".to_owned());
    }
    Ok(target)
}

/// How much of a client's name of a field is told.
const MOST_OF_A_NAME: usize = 40;

/// Whether a field that came with a question would have gone on to the app, though it says what a client may not say.
/// Envoy takes away what the answer names. With the other kinds a question has every field of the client that the
/// configuration doesn't take away, so what is left of those is refused: also by a list there that is older than ours.
fn misleads(kind: ProxyKind, name: &HeaderName) -> bool {
    let said_by_itself = match kind {
        ProxyKind::Envoy => return headers::redirects(name),
        ProxyKind::Nginx | ProxyKind::Caddy => false,
        // It writes these anew for every request.
        ProxyKind::Traefik => matches!(name.as_str(), "x-forwarded-port" | "x-forwarded-server" | "x-real-ip"),
    };
    let asks = *name == PROOF || *name == UPGRADES || [METHOD, PROTO, HOST, URI, FOR].contains(&name.as_str());
    headers::is_stripped(name) && !asks && !said_by_itself
}

/// Whether a client asks to change the protocol. The handshake of a WebSocket has fields that pass every hop; who
/// leaves them out gets no WebSocket.
fn upgrades(headers: &HeaderMap) -> bool {
    let says = |name: &HeaderName| headers.get_all(name).iter().any(|value| !HeaderValue::is_empty(value));
    says(&UPGRADE) || says(&UPGRADES) || headers.keys().any(|name| name.as_str().starts_with("sec-websocket-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_field_counts_when_it_is_there_once() {
        assert_eq!(only(&with(&[(URI, "/")]), URI).unwrap(), "/");
        assert!(only(&with(&[]), URI).is_err());
        assert!(only(&with(&[(URI, "/"), (URI, "/")]), URI).is_err());
        let mut bytes = HeaderMap::new();
        bytes.insert(URI, HeaderValue::from_bytes(b"/\xff").unwrap());
        assert!(only(&bytes, URI).is_err());
    }

    #[test]
    fn a_target_that_would_arrive_in_another_form_is_refused() {
        for good in ["/", "/a/b?c=d", "/%C3%A9", "/a%20b", "/?to=https://x/", "/a//b", "/a%2Fb", "/a;b"] {
            assert_eq!(target("GET", good).unwrap().to_target(), good);
        }
        for bad in [
            "",
            "a",
            "//a",
            "/../a",
            "/a/..",
            "/%2e%2e/a",
            "/%61",
            "/%c3%a9",
            "/a|b",
            "/a\\b",
            "/a#b",
            "/a b",
            "/.%76ouchsafe/callback",
            "https://wiki.corp.example/a",
            "/a%00",
            "*",
        ] {
            assert!(target("GET", bad).is_err(), "{bad}");
        }
        for method in ["", "get", "CONNECT", "TRACE", "GET ", "GET,POST"] {
            assert!(target(method, "/").is_err(), "{method}");
        }
    }

    #[test]
    fn what_would_mislead_an_app_is_refused_unless_the_proxy_takes_it_away() {
        let misleads = |kind, name: &str| misleads(kind, &name.parse::<HeaderName>().unwrap());
        for kind in [ProxyKind::Nginx, ProxyKind::Caddy, ProxyKind::Traefik, ProxyKind::Envoy] {
            for name in
                ["x-original-url", "X_Original_URL", "x-rewrite-uri", "x-http-method", "x-method-override", "path-info"]
            {
                assert!(misleads(kind, name), "{kind:?} {name}");
            }
            for name in ["cookie", "accept", "user-agent", "x-requested-with", "x-csrf-token", "via", "upgrade"] {
                assert!(!misleads(kind, name), "{kind:?} {name}");
            }
            let asks = [METHOD, PROTO, HOST, URI, FOR, "x-forwarded-upgrade", "x-vouchsafe-proxy"];
            assert!(!asks.iter().any(|name| misleads(kind, name)), "{kind:?}");
            for name in ["remote-user", "x-webauth-user", "x-vouchsafe-user", "x-forwarded-user", "x_vouchsafe_proxy"] {
                assert_eq!(misleads(kind, name), kind != ProxyKind::Envoy, "{kind:?} {name}");
            }
        }
        assert!(misleads(ProxyKind::Nginx, "x-real-ip") && !misleads(ProxyKind::Traefik, "x-real-ip"));
    }

    #[test]
    fn every_sign_of_an_upgrade_counts() {
        for fields in [
            &[("upgrade", "websocket")][..],
            &[("upgrade", "h2c")],
            &[("x-forwarded-upgrade", "websocket")],
            &[("x-forwarded-upgrade", ""), ("x-forwarded-upgrade", "x")],
            &[("sec-websocket-key", "")],
            &[("sec-websocket-version", "13")],
        ] {
            assert!(upgrades(&with(fields)), "{fields:?}");
        }
        for fields in [&[][..], &[("x-forwarded-upgrade", "")], &[("upgrade-insecure-requests", "1")]] {
            assert!(!upgrades(&with(fields)), "{fields:?}");
        }
    }
}
