//! Requests that an existing proxy has, and asks us about (`docs/guide/existing-proxies.md`).
//!
//! - `told`: what the proxy says of a request, read once, or refused
//! - `ext_authz`: the same, asked and answered as Envoy does it
//!
//! They are decided and recorded as if they had come to us. Nothing is forwarded here: with the answer the proxy lets
//! its client pass, and the flow ends with it.

mod ext_authz;
mod told;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as _;
use vouchsafe_model::action::Action;
use vouchsafe_model::decision::Reason;
use vouchsafe_model::resource::ResourceSpec;
use vouchsafe_runtime::body::{Body, empty};
use vouchsafe_wire::canonical::CanonicalTarget;

use self::told::{Told, Unclear};
use crate::answer::{self, Form};
use crate::authenticate::{self, Presented};
use crate::decide::Observed;
use crate::forward::headers::{self, Known};
use crate::forward::http::ForwardError;
use crate::gateway::Shared;
use crate::listen::{Owner, Refused};
use crate::names::{Names, Site};
use crate::proxies::{Proxy, ProxyKind};
use crate::route::app::{self, Denied, Sought};
use crate::route::case::Case;
use crate::route::named::Named;
use crate::route::read::{Asked, Connection, Familiar, Via};
use crate::route::{own_path, warned};
use crate::sign_in::{self, step_up};

/// Where nginx, Caddy and Traefik ask.
const CHECK: &str = "/forward-auth";

/// Whether that is for us: there are proxies at all, and it is what they ask for.
pub(super) fn is_for(shared: &Shared, connection: &Connection, target: &CanonicalTarget) -> bool {
    let path = target.path();
    !shared.proxies.is_empty()
        && connection.via == Via::Network
        && (path == CHECK || path == ext_authz::METHOD || path.starts_with(sign_in::OWN_PREFIX))
}

/// Answers a proxy. What isn't asked by a proven one is refused, and no answer but a permit is a 2xx.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    connection: &Connection,
    asked: Asked<'_>,
    target: CanonicalTarget,
    request: Request<Body>,
) -> Response<Body> {
    let Some((number, proxy)) = shared.proxies.proven(request.headers()) else {
        shared.proxies.refused(request.headers(), Instant::now());
        let case = Case { shared, connection, observed: asked.observed, form: Form::Problem };
        let words = "Only a proxy that proves itself may ask for others.";
        return case.refuse_as(StatusCode::FORBIDDEN, Reason::CredentialInvalid, words).await;
    };
    connection.place.prove(Owner::Proxy(number));
    let asking = Inquiry { shared, connection, proxy };
    let mut response = match (proxy.kind(), target.path()) {
        (_, path) if path.starts_with(sign_in::OWN_PREFIX) => asking.own(&target, request.headers()).await,
        (ProxyKind::Envoy, ext_authz::METHOD) => ext_authz::serve(&asking, request).await,
        (ProxyKind::Nginx | ProxyKind::Caddy | ProxyKind::Traefik, CHECK) => asking.check(request).await,
        (ProxyKind::Nginx | ProxyKind::Caddy | ProxyKind::Traefik | ProxyKind::Envoy, _) => {
            answer::plain(StatusCode::NOT_FOUND, "A proxy of this kind doesn't ask here.")
        }
    };
    response.extensions_mut().insert(OfAnotherHost);
    response
}

/// On an answer that a proxy passes on for a host that it serves itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct OfAnotherHost;

/// A proxy that is proven, on its connection.
struct Inquiry<'r> {
    shared: &'r Arc<Shared>,
    connection: &'r Connection,
    proxy: &'r Proxy,
}

/// What becomes of the client's request.
enum Verdict {
    /// It passes, with these fields in the place of the client's own.
    Pass(HeaderMap),
    /// It doesn't.
    Refuse {
        response: Response<Body>,
        /// Where a browser goes to change that.
        to: Option<String>,
    },
}

impl Inquiry<'_> {
    async fn check(&self, request: Request<Body>) -> Response<Body> {
        let headers = request.headers();
        let told = match (request.method(), request.body().is_end_stream()) {
            (&Method::GET, true) => Told::of_fields(self, headers),
            _ => Err(Unclear::ambiguous("a proxy asks with GET, and without the body of its client")),
        };
        let verdict = match told {
            Ok(told) => self.decide(&told, headers, "forward-auth").await,
            Err(unclear) => self.refuse(unclear, "forward-auth").await,
        };
        match verdict {
            Verdict::Pass(fields) => {
                let mut response = Response::new(empty());
                *response.headers_mut() = fields;
                response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                response
            }
            Verdict::Refuse { response, to } => refusal(self.proxy.kind(), response, to.as_deref()),
        }
    }

    /// A path of ours at a host that a proxy serves: what comes of it is shown to its client as it is.
    async fn own(&self, target: &CanonicalTarget, headers: &HeaderMap) -> Response<Body> {
        match told::Origin::of_fields(self, headers) {
            // Nobody is proven here, and the controller may be asked: as often as somebody without a proxy might.
            Ok(origin) if !self.shared.census.may_ask(origin.ip, Instant::now()) => answer::shed(Refused::TooFast),
            Ok(origin) => {
                let connection = self.connection_of(&origin.named, &origin.site, origin.ip);
                own_path(self.shared, &origin.names, &connection, origin.site.label(), target, headers).await
            }
            Err(unclear) => match self.refuse(unclear, "forward-auth").await {
                Verdict::Pass(_) => answer::plain(StatusCode::FORBIDDEN, "This can't be answered."),
                Verdict::Refuse { response, .. } => response,
            },
        }
    }

    /// What can't be read, or isn't for this proxy to ask for.
    async fn refuse(&self, unclear: Unclear, protocol: &'static str) -> Verdict {
        let connection = self.connection;
        let observed = Observed {
            ip: Some(unclear.ip.unwrap_or(connection.ip)),
            shown: Some(match unclear.ip {
                Some(ip) => connection.shown.of_another(ip),
                None => Arc::clone(&connection.shown),
            }),
            protocol,
            host: unclear.host,
            resource: unclear.label,
            proxy: Some(Arc::clone(self.proxy.name())),
            ..Observed::default()
        };
        let case = Case { shared: self.shared, connection, observed, form: Form::Problem };
        let detail = Some(unclear.why.as_str()).filter(|_| unclear.reason == Reason::Ambiguous);
        let response = case.refuse(unclear.reason, detail).await;
        // Its clients could cause that without end.
        if let Some(times) = self.proxy.was_unclear(Instant::now()) {
            let proxy = self.proxy.name();
            tracing::info!(%proxy, times, why = unclear.why, "a proxy asks for what can't be answered");
        }
        Verdict::Refuse { response, to: None }
    }

    /// Decides as if the client had come to us, on no device: its certificate, if it has one, isn't proven here.
    async fn decide(&self, told: &Told, headers: &HeaderMap, protocol: &'static str) -> Verdict {
        let Told { origin, target, upgrades } = told;
        let connection = self.connection_of(&origin.named, &origin.site, origin.ip);
        let method = Method::from_bytes(target.method().as_bytes()).unwrap_or_default();
        let (site, label) = (&origin.site, origin.site.label());
        let action = if *upgrades { Action::HttpUpgrade } else { target.action() };
        let observed = Observed {
            ip: Some(origin.ip),
            shown: Some(Arc::clone(&connection.shown)),
            protocol,
            host: Some(Arc::clone(&origin.named.host)),
            port: Some(origin.port),
            target: Some(Arc::clone(target)),
            resource: Some(site.shared_label()),
            action: Some(action),
            device: None,
            proxy: Some(Arc::clone(self.proxy.name())),
        };
        let form = Form::wanted(&method, headers);
        let mut case = Case { shared: self.shared, connection: &connection, observed, form };
        let refused = |response| Verdict::Refuse { response, to: None };
        if target.path().starts_with(sign_in::OWN_PREFIX) {
            return refused(case.refuse(Reason::Ambiguous, Some("This path is the gateway's own.")).await);
        }
        if *upgrades && app::cross_origin(&origin.names, site, headers) {
            let words = "A WebSocket may be opened only from the app's own pages.";
            return refused(case.refuse(Reason::CredentialInvalid, Some(words)).await);
        }
        let presented = Presented::cookie(headers);
        if !self.may_show(&presented, origin.ip) {
            return refused(answer::shed(Refused::TooFast));
        }
        let sought = Sought {
            site,
            named: &origin.named,
            action,
            target: Arc::clone(target),
            presented,
            audience: label.to_owned().into(),
            device: None,
        };
        let admitted = match app::admit(&mut case, sought).await {
            Ok(admitted) => admitted,
            Err(Denied::Nobody(reason)) => {
                let response = case.refuse(reason, None).await;
                let asks = form == Form::Page && response.status() == StatusCode::UNAUTHORIZED;
                let to = asks.then(|| leads_to(&origin.names, label, sign_in::BEGIN, target));
                return Verdict::Refuse { response, to };
            }
            Err(Denied::Answered(response)) => {
                let helps = step_up::would_help(&response, &method, headers);
                let to = helps.then(|| leads_to(&origin.names, label, step_up::AGAIN, target));
                return Verdict::Refuse { response, to };
            }
        };
        let admission = admitted.admission();
        let known = match admission.subject() {
            None => Ok(None),
            Some(facts) => self
                .shared
                .assertions
                .value(facts, &admission.resource().name)
                .map(|assertion| Some(Known { facts, assertion })),
        };
        let known = match known {
            Ok(known) => known,
            Err(error) => return refused(case.failed(&admitted, &ForwardError::Assertion(error)).await),
        };
        let ResourceSpec::Http(spec) = &admission.resource().spec else {
            return refused(case.failed(&admitted, &ForwardError::NotHttp).await);
        };
        let mut fields = headers::through_proxy(headers, spec, known.as_ref());
        warned::tell(&mut fields, warned::of(&admitted).as_ref());
        if let Ok(id) = HeaderValue::from_str(&admitted.decision().to_string()) {
            fields.insert("x-vouchsafe-decision", id);
        }
        admitted.flow().set_status(StatusCode::OK.as_u16());
        admitted.flow().set_detail("the proxy was told to let it pass; what came of it, the proxy knows");
        Verdict::Pass(fields)
    }

    /// Whether what a client shows is looked at. What is remembered is; the rest is a guess until the controller was
    /// asked, and there are only so many of them for one address.
    fn may_show(&self, presented: &Presented<'_>, ip: IpAddr) -> bool {
        let Shared { census, facts, current, .. } = &**self.shared;
        let may = matches!(presented, Presented::Nothing)
            || census.may_guess(ip, Instant::now())
            || authenticate::is_remembered(presented, facts, &current.engine());
        if !may {
            census.shed(Instant::now());
        }
        may
    }

    /// As if the client had come to us, from where the proxy says.
    fn connection_of(&self, named: &Named, site: &Site, ip: IpAddr) -> Connection {
        Connection {
            ip,
            host: named.host.to_string(),
            site: site.clone(),
            device: None,
            via: Via::Network,
            shown: self.connection.shown.of_another(ip),
            place: Arc::clone(&self.connection.place),
            framing: Arc::default(),
            familiar: Familiar::default(),
        }
    }
}

/// A page of ours at that host, which leads back to what was wanted.
fn leads_to(names: &Names, label: &str, page: &str, target: &CanonicalTarget) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("to", &target.to_target()).finish();
    format!("{}{page}?{query}", names.origin(label))
}

/// A refusal in the form that this kind of proxy makes something of. It is never a 2xx, whatever came before.
fn refusal(kind: ProxyKind, mut response: Response<Body>, to: Option<&str>) -> Response<Body> {
    if !(response.status().is_client_error() || response.status().is_server_error()) {
        *response.status_mut() = StatusCode::FORBIDDEN;
    }
    let to = to.and_then(|to| HeaderValue::from_str(to).ok());
    match (kind, to) {
        // nginx fails on every other status, and shows a page of its own.
        (ProxyKind::Nginx, to) => {
            if response.status() != StatusCode::UNAUTHORIZED {
                *response.status_mut() = StatusCode::FORBIDDEN;
            }
            response.headers_mut().remove(CONTENT_TYPE);
            if let Some(to) = to {
                response.headers_mut().insert(LOCATION, to);
            }
            *response.body_mut() = empty();
        }
        (ProxyKind::Caddy | ProxyKind::Traefik | ProxyKind::Envoy, Some(to)) => {
            *response.status_mut() = StatusCode::FOUND;
            response.headers_mut().remove(CONTENT_TYPE);
            response.headers_mut().insert(LOCATION, to);
            *response.body_mut() = empty();
        }
        (ProxyKind::Caddy | ProxyKind::Traefik | ProxyKind::Envoy, None) => {}
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_refusal_is_ever_a_success() {
        for kind in [ProxyKind::Nginx, ProxyKind::Caddy, ProxyKind::Traefik, ProxyKind::Envoy] {
            for status in [200, 204, 206, 301, 302, 304, 399, 400, 401, 403, 421, 429, 500, 502, 503] {
                for to in [None, Some("https://wiki.corp.example/.vouchsafe/sign-in?to=%2F")] {
                    let mut response = Response::new(empty());
                    *response.status_mut() = StatusCode::from_u16(status).unwrap();
                    let refused = refusal(kind, response, to);
                    let found = to.is_some() && kind != ProxyKind::Nginx;
                    assert!(refused.status().as_u16() >= 400 || (found && refused.status() == 302), "{status}");
                    assert_eq!(refused.headers()[CACHE_CONTROL], "no-store");
                    if kind == ProxyKind::Nginx {
                        assert!([401, 403].contains(&refused.status().as_u16()), "{status}");
                    }
                }
            }
        }
    }
}
