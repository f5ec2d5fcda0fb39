//! One reading of a request's head, or a refusal.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{Method, Request, Version};
use hyper::ext::Protocol;
use vouchsafe_model::resource::PathRules;
use vouchsafe_runtime::body::Body;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::internal::{OwnHost, ProvenDevice};
use vouchsafe_wire::authority::Authority;
use vouchsafe_wire::canonical::{Ambiguity, CanonicalTarget};

use crate::answer::Form;
use crate::authenticate::LastToken;
use crate::decide::{Observed, Origin, Shown};
use crate::gateway::Shared;
use crate::listen::{Framing, Place};
use crate::names::Site;
use crate::route::named::{LastHost, Named};

/// What is known of a connection once its handshake is over.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Address of the client's socket; for a connection inside a tunnel, the tunnel's.
    pub(crate) ip: IpAddr,
    /// Host that the handshake asked for.
    pub(crate) host: String,
    /// Its site.
    pub(crate) site: Site,
    /// Device proven by this connection's certificate, or by the tunnel it came through.
    pub(crate) device: Option<ProvenDevice>,
    /// Inside a tunnel or not.
    pub(crate) via: Via,
    /// The same on all its records.
    pub(crate) shown: Arc<Shown>,
    /// Its place among all connections; what outlives it keeps the place.
    pub(crate) place: Arc<Place>,
    /// Where its requests begin and end, in HTTP/1.1.
    pub(crate) framing: Arc<Framing>,
    /// What its requests keep saying.
    pub(crate) familiar: Familiar,
}

/// What the last request on a connection said, read: nearly always the next one says just the same.
#[derive(Debug, Default)]
pub(crate) struct Familiar {
    pub(crate) host: LastHost,
    pub(crate) token: LastToken,
}

impl Familiar {
    /// Gives its memory back, while nothing is asked.
    pub(crate) fn forget(&self) {
        self.host.forget();
        self.token.forget();
    }
}

impl Connection {
    /// Where what comes on it comes from, for a policy.
    pub(crate) fn origin(&self) -> Origin {
        Origin { ip: self.ip, agreement: self.shown.agreement() }
    }

    /// The device that is proven now: its certificate may have ended since the handshake.
    pub(crate) fn device(&self) -> Option<&ProvenDevice> {
        self.device.as_ref().filter(|device| device.is_valid(clock::now()))
    }
}

/// How a connection reached us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    /// From the network.
    Network,
    /// Through a device's tunnel.
    Tunnel,
}

/// One request, read.
pub(super) struct Asked<'c> {
    pub(super) named: Arc<Named>,
    pub(super) site: Site,
    pub(super) form: Form,
    pub(super) purpose: Purpose,
    /// Device that is proven now.
    pub(super) device: Option<&'c ProvenDevice>,
    pub(super) observed: Observed,
}

/// Why a request is refused before anybody asks who sent it.
pub(super) enum Unreadable {
    /// It could be read in more than one way.
    Ambiguous(String),
    /// It is for another host than the handshake was for (RFC 9110 §15.5.20).
    Misdirected,
}

pub(super) fn read<'c>(
    shared: &Shared,
    connection: &'c Connection,
    request: &Request<Body>,
    purpose: Purpose,
) -> Result<Asked<'c>, Unreadable> {
    let ambiguous = |why: &str| Unreadable::Ambiguous(why.to_owned());
    if !matches!(request.version(), Version::HTTP_11 | Version::HTTP_2 | Version::HTTP_3) {
        return Err(ambiguous("only HTTP/1.1, HTTP/2 and HTTP/3 are served"));
    }
    let headers = request.headers();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => {}
        (Some(coding), None) if coding == "chunked" && !headers.contains_key(CONTENT_LENGTH) => {}
        (Some(_), _) => {
            return Err(ambiguous("the body may be framed by Content-Length or by `chunked`, and by nothing else"));
        }
    }
    let mut expectations = headers.get_all(EXPECT).iter();
    if let Some(one) = expectations.next()
        && (expectations.next().is_some() || !one.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    {
        // An expectation that the library does not know would be met by silence (RFC 9110 §10.1.1).
        return Err(ambiguous("the only expectation that can be met is `100-continue`"));
    }
    let target = request.uri();
    let well_formed = match purpose {
        Purpose::Other => {
            return Err(ambiguous("a stream may be taken for a WebSocket or for UDP, and for nothing else"));
        }
        Purpose::Tunnel => target.authority().is_some() && target.path_and_query().is_none(),
        Purpose::WebSocket => target.path_and_query().is_some() && target.scheme_str() == Some("https"),
        Purpose::Exchange | Purpose::Udp => {
            target.path_and_query().is_some() && matches!(target.scheme_str(), None | Some("https" | "http"))
        }
    };
    if !well_formed {
        return Err(ambiguous("the target does not have the form that its method demands"));
    }
    let named = named(shared, connection, request).map_err(Unreadable::Ambiguous)?;
    let authority = &named.authority;
    let device = connection.device();
    let observed = |resource| observed(connection, device, protocol(request.version(), purpose), &named, resource);
    if purpose == Purpose::Tunnel {
        // The authority of a CONNECT is its target (RFC 9110 §9.3.6); only the tunnel host takes it.
        let site = Site::Own(OwnHost::Gateway);
        let observed = observed(None);
        return if connection.site == site && connection.via == Via::Network {
            Ok(Asked { named, site, form: Form::Proxy, purpose, device, observed })
        } else {
            Err(ambiguous("CONNECT is served on the gateway's own host only"))
        };
    }
    let form = Form::wanted(request.method(), headers);
    let site = named.site.clone().ok_or(Unreadable::Misdirected)?;
    if purpose == Purpose::Udp {
        // The target stands in the path (RFC 9298 §3), on the tunnel host only.
        let observed = observed(None);
        let own = authority.host == connection.host && shared.names.is_our_port(authority);
        return if own && site == Site::Own(OwnHost::Gateway) && connection.via == Via::Network {
            Ok(Asked { named, site, form: Form::Proxy, purpose, device, observed })
        } else {
            Err(ambiguous("CONNECT-UDP is served on the gateway's own host only"))
        };
    }
    let proxied = connection.site == Site::Own(OwnHost::Gateway)
        && connection.via == Via::Network
        && matches!(site, Site::App(_) | Site::Nothing(_));
    if proxied {
        // A client that uses us as its HTTP proxy names the app in the request, and the tunnel
        // host in the handshake; the certificate of this very connection proves its device.
        let observed = observed(Some(site.shared_label()));
        return Ok(Asked { named, site, form: Form::Proxy, purpose, device, observed });
    }
    if authority.host != connection.host || !shared.names.is_our_port(authority) {
        return Err(Unreadable::Misdirected);
    }
    let label = match &site {
        Site::Own(OwnHost::Console | OwnHost::Api) => Some("console".into()),
        Site::Own(OwnHost::Auth | OwnHost::Gateway) => None,
        Site::App(_) | Site::Nothing(_) => Some(site.shared_label()),
    };
    let observed = observed(label);
    Ok(Asked { named, site, form, purpose, device, observed })
}

/// The canonical target, under the widest rules that a resource of this site may have. Its own are
/// asked once it is known who asks: what they are is not for everybody to find out.
pub(super) fn target<B>(request: &Request<B>, site: &Site, purpose: Purpose) -> Result<CanonicalTarget, Ambiguity> {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let rules = match site {
        Site::App(_) | Site::Nothing(_) => PathRules::WIDEST,
        Site::Own(_) => PathRules::STRICT,
    };
    // A WebSocket on a stream is what in HTTP/1.1 is a GET with an upgrade (RFC 8441 §5).
    let method = if purpose == Purpose::WebSocket { &Method::GET } else { request.method() };
    CanonicalTarget::parse(method.as_str(), target, rules)
}

/// The one authority of a request: `:authority` or absolute form, and `Host`, must agree.
fn named(shared: &Shared, connection: &Connection, request: &Request<Body>) -> Result<Arc<Named>, String> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (None, _) => None,
        (Some(host), None) => Some(host.to_str().map_err(|_| "Host is not ASCII")?),
        (Some(_), Some(_)) => return Err("Host is given more than once".to_owned()),
    };
    let target = request.uri().authority().map(http::uri::Authority::as_str);
    let only = match (target, host) {
        (None, None) => return Err("no host is given".to_owned()),
        (None, Some(host)) => host,
        (Some(target), None) if matches!(request.version(), Version::HTTP_2 | Version::HTTP_3) => target,
        (Some(_), None) => return Err("no Host is given".to_owned()),
        // Nearly always the very same bytes, which are read once.
        (Some(target), Some(host)) if target == host => host,
        (Some(target), Some(host)) => {
            let parse = |text: &str| Authority::parse(text).map_err(|error| error.to_string());
            let (host, read) = (parse(host)?, parse(target)?);
            // curl and others leave the port out of the Host of a CONNECT.
            if read.host != host.host || (read.port != host.port && request.method() != Method::CONNECT) {
                return Err("the target and Host name different hosts".to_owned());
            }
            target
        }
    };
    connection.familiar.host.read(only, &shared.names).map_err(|error| error.to_string())
}

/// What a request asks of its connection or stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// An answer, or an upgrade of the connection.
    Exchange,
    /// Bytes to a target (CONNECT, RFC 9110 §9.3.6).
    Tunnel,
    /// Datagrams to a target (CONNECT-UDP, RFC 9298).
    Udp,
    /// A WebSocket on a stream (extended CONNECT, RFC 8441 §4 and §5, RFC 9220).
    WebSocket,
    /// Some other protocol on a stream.
    Other,
}

pub(super) fn purpose<B>(request: &Request<B>) -> Purpose {
    let protocol = request.extensions().get::<Protocol>().map(Protocol::as_str);
    match (request.method(), protocol) {
        (&Method::CONNECT, None) => Purpose::Tunnel,
        (&Method::CONNECT, Some("connect-udp")) => Purpose::Udp,
        (&Method::CONNECT, Some("websocket")) => Purpose::WebSocket,
        (_, Some(_)) => Purpose::Other,
        // RFC 9298 §3.2: in HTTP/1.1 it is an upgrade.
        (&Method::GET, None) if request.version() == Version::HTTP_11 && asks_for(request, "connect-udp") => {
            Purpose::Udp
        }
        (_, None) => Purpose::Exchange,
    }
}

/// Whether the connection is to be taken up for that protocol. `Upgrade` counts only where `Connection`
/// names it (RFC 9110 §7.8).
fn asks_for<B>(request: &Request<B>, protocol: &str) -> bool {
    let headers = request.headers();
    let options = headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(protocol.as_bytes()))
        && options.map(<[u8]>::trim_ascii).any(|option| option.eq_ignore_ascii_case(b"upgrade"))
}

pub(super) fn protocol(version: Version, purpose: Purpose) -> &'static str {
    match (version, purpose) {
        (Version::HTTP_3, Purpose::Tunnel) => "connect-h3",
        (Version::HTTP_3, Purpose::Udp) => "connect-udp-h3",
        (Version::HTTP_3, Purpose::Exchange | Purpose::WebSocket | Purpose::Other) => "h3",
        (Version::HTTP_2, Purpose::Tunnel) => "connect-h2",
        (Version::HTTP_2, Purpose::Udp) => "connect-udp-h2",
        (Version::HTTP_2, Purpose::Exchange | Purpose::WebSocket | Purpose::Other) => "h2",
        (_, Purpose::Tunnel) => "connect",
        (_, Purpose::Udp) => "connect-udp",
        (_, Purpose::Exchange | Purpose::WebSocket | Purpose::Other) => "http/1.1",
    }
}

/// What is known of a request that can't be read: its connection.
pub(super) fn unread(connection: &Connection, protocol: &'static str) -> Observed {
    Observed {
        ip: Some(connection.ip),
        shown: Some(Arc::clone(&connection.shown)),
        protocol,
        device: connection.device().map(|device| device.id),
        ..Observed::default()
    }
}

fn observed(
    connection: &Connection,
    device: Option<&ProvenDevice>,
    protocol: &'static str,
    named: &Named,
    resource: Option<Arc<str>>,
) -> Observed {
    Observed {
        ip: Some(connection.ip),
        shown: Some(Arc::clone(&connection.shown)),
        protocol,
        host: Some(Arc::clone(&named.host)),
        port: named.authority.port,
        target: None,
        resource,
        action: None,
        device: device.map(|device| device.id),
        proxy: None,
    }
}
