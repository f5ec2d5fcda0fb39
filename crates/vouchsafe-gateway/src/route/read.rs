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
use crate::decide::{Observed, Shown};
use crate::gateway::Shared;
use crate::listen::{Framing, Place};
use crate::names::Site;

/// What is known of a connection once its handshake is over.
#[derive(Debug, Clone)]
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
}

impl Connection {
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
pub(super) struct Asked {
    pub(super) authority: Authority,
    pub(super) site: Site,
    pub(super) form: Form,
    pub(super) observed: Observed,
}

/// Why a request is refused before anybody asks who sent it.
pub(super) enum Unreadable {
    /// It could be read in more than one way.
    Ambiguous(String),
    /// It is for another host than the handshake was for (RFC 9110 §15.5.20).
    Misdirected,
}

pub(super) fn read(shared: &Shared, connection: &Connection, request: &Request<Body>) -> Result<Asked, Unreadable> {
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
    let purpose = purpose(request);
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
    let authority = authority(request).map_err(Unreadable::Ambiguous)?;
    if purpose == Purpose::Tunnel {
        // The authority of a CONNECT is its target (RFC 9110 §9.3.6); only the tunnel host takes it.
        let site = Site::Own(OwnHost::Gateway);
        let observed = observed(connection, request, &authority, None);
        return if connection.site == site && connection.via == Via::Network {
            Ok(Asked { authority, site, form: Form::Proxy, observed })
        } else {
            Err(ambiguous("CONNECT is served on the gateway's own host only"))
        };
    }
    let form = Form::wanted(request.method(), headers);
    let site = shared.names.site(&authority.host).ok_or(Unreadable::Misdirected)?;
    if purpose == Purpose::Udp {
        // The target stands in the path (RFC 9298 §3), on the tunnel host only.
        let observed = observed(connection, request, &authority, None);
        let own = authority.host == connection.host && shared.names.is_our_port(&authority);
        return if own && site == Site::Own(OwnHost::Gateway) && connection.via == Via::Network {
            Ok(Asked { authority, site, form: Form::Proxy, observed })
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
        let observed = observed(connection, request, &authority, Some(site.label()));
        return Ok(Asked { authority, site, form: Form::Proxy, observed });
    }
    if authority.host != connection.host || !shared.names.is_our_port(&authority) {
        return Err(Unreadable::Misdirected);
    }
    let label = match &site {
        Site::Own(OwnHost::Console | OwnHost::Api) => Some("console"),
        Site::Own(OwnHost::Auth | OwnHost::Gateway) => None,
        Site::App(_) | Site::Nothing(_) => Some(site.label()),
    };
    let observed = observed(connection, request, &authority, label);
    Ok(Asked { authority, site, form, observed })
}

/// The canonical target, under the widest rules that a resource of this site may have. Its own are
/// asked once it is known who asks: what they are is not for everybody to find out.
pub(super) fn target<B>(request: &Request<B>, site: &Site) -> Result<CanonicalTarget, Ambiguity> {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let rules = match site {
        Site::App(_) | Site::Nothing(_) => PathRules::WIDEST,
        Site::Own(_) => PathRules::STRICT,
    };
    // A WebSocket on a stream is what in HTTP/1.1 is a GET with an upgrade (RFC 8441 §5).
    let method = if purpose(request) == Purpose::WebSocket { &Method::GET } else { request.method() };
    CanonicalTarget::parse(method.as_str(), target, rules)
}

/// The one authority of a request: `:authority` or absolute form, and `Host`, must agree.
fn authority(request: &Request<Body>) -> Result<Authority, String> {
    let parse = |text: &str| Authority::parse(text).map_err(|error| error.to_string());
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (None, _) => None,
        (Some(host), None) => {
            let text = host.to_str().map_err(|_| "Host is not ASCII")?;
            Some((text, parse(text)?))
        }
        (Some(_), Some(_)) => return Err("Host is given more than once".to_owned()),
    };
    let target = match (request.uri().authority(), &host) {
        // Nearly always the very same bytes, which are read once.
        (Some(target), Some((text, host))) if target.as_str() == *text => Some(host.clone()),
        (Some(target), _) => Some(parse(target.as_str())?),
        (None, _) => None,
    };
    match (target, host.map(|(_, host)| host)) {
        (None, None) => Err("no host is given".to_owned()),
        (None, Some(host)) => Ok(host),
        (Some(target), None) if matches!(request.version(), Version::HTTP_2 | Version::HTTP_3) => Ok(target),
        (Some(_), None) => Err("no Host is given".to_owned()),
        // curl and others leave the port out of the Host of a CONNECT.
        (Some(target), Some(host))
            if target.host == host.host && (target.port == host.port || request.method() == Method::CONNECT) =>
        {
            Ok(target)
        }
        (Some(_), Some(_)) => Err("the target and Host name different hosts".to_owned()),
    }
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

pub(super) fn protocol<B>(request: &Request<B>) -> &'static str {
    match (request.version(), purpose(request)) {
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

fn observed<B>(
    connection: &Connection,
    request: &Request<B>,
    authority: &Authority,
    resource: Option<&str>,
) -> Observed {
    Observed {
        ip: Some(connection.ip),
        shown: Some(Arc::clone(&connection.shown)),
        protocol: protocol(request),
        host: Some(authority.host.clone()),
        port: authority.port,
        method: None,
        path: None,
        resource: resource.map(ToOwned::to_owned),
        action: None,
        device: connection.device().map(|device| device.id),
    }
}
