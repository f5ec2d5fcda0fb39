//! A request for a web app.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{ORIGIN, UPGRADE};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use vouchsafe_model::action::Action;
use vouchsafe_model::decision::Reason;
use vouchsafe_model::resource::{AuditTiming, PathRules, Resource, ResourceSpec};
use vouchsafe_policy::{Admission, Engine};
use vouchsafe_runtime::body::Body;
use vouchsafe_runtime::clock;
use vouchsafe_runtime::internal::ProvenDevice;
use vouchsafe_runtime::spans;
use vouchsafe_wire::canonical::CanonicalTarget;
use vouchsafe_wire::token::AUDIENCE_GATEWAY;

use crate::answer::{self, Form};
use crate::authenticate::{self, Presented};
use crate::decide::{Decided, Question};
use crate::facts::Asking;
use crate::forward::http::{Forward, Wanted, forward};
use crate::gateway::Shared;
use crate::names::{Names, Site};
use crate::record::Until;
use crate::route::case::{Asker, Case, Whose};
use crate::route::read::{Asked, Connection, Purpose};
use crate::route::{Admitted, Named, demand_sign_in, own_path, warned};
use crate::sign_in::{self, step_up};

pub(super) async fn serve(
    shared: &Arc<Shared>,
    connection: &Connection,
    asked: Asked<'_>,
    target: CanonicalTarget,
    request: Request<Body>,
) -> Response<Body> {
    let Asked { named, site, form, purpose, device, mut observed } = asked;
    let proxied = form == Form::Proxy;
    let wanted = wanted(&request, purpose);
    if target.path().starts_with(sign_in::OWN_PREFIX) {
        return match form {
            _ if wanted != Wanted::Answer => answer::plain(StatusCode::NOT_FOUND, "There is nothing here."),
            Form::Proxy => answer::plain(StatusCode::NOT_FOUND, "There is nothing here."),
            Form::Page | Form::Problem => {
                Box::pin(own_path(shared, &shared.names, connection, site.label(), &target, request.headers())).await
            }
        };
    }
    let action = if wanted == Wanted::Answer { target.action() } else { Action::HttpUpgrade };
    let target = Arc::new(target);
    observed.target = Some(Arc::clone(&target));
    observed.action = Some(action);
    let mut case = Case { shared, connection, observed, form };
    if wanted == Wanted::WebSocket && !request.body().is_end_stream() {
        // It would reach the app as if it were said on the WebSocket, before there is one.
        return Box::pin(case.refuse(Reason::Ambiguous, Some("The request for a WebSocket has no body."))).await;
    }
    if wanted != Wanted::Answer && !proxied && cross_origin(&shared.names, &site, request.headers()) {
        // A page of another site made this browser's cookie come along (G5).
        let words = "A WebSocket may be opened only from the app's own pages.";
        return Box::pin(case.refuse(Reason::CredentialInvalid, Some(words))).await;
    }
    let (presented, audience) = match proxied {
        true => (Presented::proxy_token(request.headers()), Cow::Borrowed(AUDIENCE_GATEWAY)),
        false => (Presented::cookie(request.headers()), Cow::Owned(site.label().to_owned())),
    };
    let sought =
        Sought { site: &site, named: &named, action, target: Arc::clone(&target), presented, audience, device };
    let admitted = match admit(&mut case, sought).await {
        Ok(admitted) => admitted,
        Err(Denied::Nobody(reason)) => {
            return Box::pin(demand_sign_in(&case, reason, site.label(), &target)).await;
        }
        Err(Denied::Answered(response)) => {
            return Box::pin(step_up::offer(shared, site.label(), request, response)).await;
        }
    };
    let warning = warned::of(&admitted);
    if let Some(warning) = &warning
        && let Some(page) = warned::page(&admitted, warning, case.form, wanted, &request)
    {
        admitted.flow().set_status(page.status().as_u16());
        admitted.flow().set_detail("she was told first that access ends; nothing went upstream");
        return page;
    }
    let place = Arc::clone(&connection.place);
    let what = Forward { named: &named, ip: connection.shown.ip_value(), wanted, place };
    let forwarded = {
        let _stage = spans::stage("forward");
        forward(shared, &admitted, what, request).await
    };
    match forwarded {
        Ok(mut response) => {
            admitted.flow().set_status(response.status().as_u16());
            warned::tell(response.headers_mut(), warning.as_ref());
            response
        }
        Err(error) => Box::pin(case.failed(&admitted, &error)).await,
    }
}

/// What is asked for, and by what somebody says who she is.
pub(super) struct Sought<'r> {
    pub(super) site: &'r Site,
    pub(super) named: &'r Named,
    pub(super) action: Action,
    pub(super) target: Arc<CanonicalTarget>,
    pub(super) presented: Presented<'r>,
    /// Host label or token audience that it must be for.
    pub(super) audience: Cow<'static, str>,
    pub(super) device: Option<&'r ProvenDevice>,
}

/// Why nothing was admitted.
pub(super) enum Denied {
    /// Nobody is proven. Nothing is on record yet.
    Nobody(Reason),
    /// It is on record, and this is the answer.
    Answered(Response<Body>),
}

/// Finds out who asks, and decides: the same for whoever comes to us and for whom a proxy asks.
pub(super) async fn admit(case: &mut Case<'_>, sought: Sought<'_>) -> Result<Admitted, Denied> {
    let Sought { site, named, action, target, presented, audience, device } = sought;
    let (shared, connection) = (case.shared, case.connection);
    let seen = shared.facts.changes_seen();
    let engine = shared.current.engine();
    let asker = match Asker::proven(case, presented, audience, device, &engine).await {
        Ok(asker) => asker,
        Err(reason) => match nobody(shared, connection, site, device, reason, &engine).await {
            Ok(whose) => Asker { whose, device: device.cloned(), seen },
            Err(reason) => return Err(Denied::Nobody(reason)),
        },
    };
    // How its paths are read would tell whoever may not know of it that a resource exists, so to her
    // every path is as good as any: she is told that there is nothing.
    let resource = match site {
        Site::App(name) => engine.resource(name).map(|resource| (name.clone(), path_rules(resource))),
        Site::Nothing(_) | Site::Own(_) => None,
    };
    let Some((resource, rules)) = resource else {
        let denied = Decided::denied(Reason::UnknownResource, &engine);
        return Err(Denied::Answered(Box::pin(case.deny(&denied, Some(&asker), None)).await));
    };
    let question =
        |target| Question::http(resource.clone(), action, connection.origin(), Arc::clone(&named.host), target);
    let target = match read_by(target, rules) {
        Ok(target) => target,
        Err(why) => {
            let root = CanonicalTarget::parse("GET", "/", PathRules::STRICT);
            let root = root.map(|root| asker.admit(&question(Arc::new(root)), clock::now()));
            let known = !matches!(root, Ok(Err(denial)) if denial.reason == Reason::NoPermit);
            let reason = if known { Reason::Ambiguous } else { Reason::NoPermit };
            let why = Some(why.as_str()).filter(|_| known);
            let denied = Decided::denied(reason, &engine);
            return Err(Denied::Answered(Box::pin(case.deny(&denied, Some(&asker), why)).await));
        }
    };
    case.observed.target = Some(Arc::clone(&target));
    case.admit(question(target), asker, record_until).await.map_err(Denied::Answered)
}

/// Nobody where the resource takes nobody: it is observed, and nothing at all was said of who asks. Whoever showed
/// something that isn't good, or comes from a device that isn't enrolled any more, is refused there too.
async fn nobody(
    shared: &Shared,
    connection: &Connection,
    site: &Site,
    device: Option<&ProvenDevice>,
    reason: Reason,
    engine: &Arc<Engine>,
) -> Result<Whose, Reason> {
    let observed = match site {
        Site::App(name) => engine.admits_nobody(name, connection.ip, clock::now()),
        Site::Nothing(_) | Site::Own(_) => false,
    };
    if reason != Reason::SignInRequired || !observed {
        return Err(reason);
    }
    if let Some(device) = device {
        authenticate::device_alone(device, &shared.facts, Asking::Request).await?;
    }
    Ok(Whose::Nobody { engine: Arc::clone(engine) })
}

fn path_rules(resource: &Resource) -> PathRules {
    match &resource.spec {
        ResourceSpec::Http(http) => http.paths,
        ResourceSpec::Tcp(_) | ResourceSpec::Udp(_) | ResourceSpec::Console => PathRules::STRICT,
    }
}

/// The target as this resource reads it, or why it has no single reading there.
fn read_by(target: Arc<CanonicalTarget>, rules: PathRules) -> Result<Arc<CanonicalTarget>, String> {
    let target = match target.stands_under(rules) {
        true => target,
        false => Arc::new(Arc::unwrap_or_clone(target).under(rules).map_err(|why| why.to_string())?),
    };
    if leads_to_own_path(&target) {
        return Err("some servers would take this path for one of ours".to_owned());
    }
    Ok(target)
}

/// Whether a path in another case or reading is one that we answer ourselves: then it is not the
/// app's either.
fn leads_to_own_path(target: &CanonicalTarget) -> bool {
    let mut paths = target.other_readings().iter().map(String::as_str).chain([target.path()]);
    paths.any(|path| path.starts_with(sign_in::OWN_PREFIX))
}

/// When the record of an HTTP decision must be on disk, as the resource says.
fn record_until(admission: &Admission) -> Until {
    match &admission.resource().spec {
        ResourceSpec::Http(http) if http.audit == AuditTiming::Before => Until::Durable,
        ResourceSpec::Http(_) | ResourceSpec::Tcp(_) | ResourceSpec::Udp(_) | ResourceSpec::Console => Until::Written,
    }
}

fn wanted<B>(request: &Request<B>, purpose: Purpose) -> Wanted {
    if purpose == Purpose::WebSocket {
        return Wanted::WebSocketStream;
    }
    let is_websocket = request.version() == Version::HTTP_11
        && request.method() == Method::GET
        && request.headers().get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if is_websocket { Wanted::WebSocket } else { Wanted::Answer }
}

/// Whether a browser says that another site's page makes this request. Browsers always send
/// `Origin` with a WebSocket handshake (RFC 6455 §4.1); programs without one have no ambient cookies.
pub(super) fn cross_origin(names: &Names, site: &Site, headers: &HeaderMap) -> bool {
    let own = names.origin(site.label());
    headers.get_all(ORIGIN).iter().any(|origin| origin.as_bytes() != own.as_bytes())
}
