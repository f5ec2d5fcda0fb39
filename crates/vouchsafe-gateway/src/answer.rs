//! Denials in the form the client understands: a page, or problem details (RFC 9457).
//!
//! Every form carries the same facts as the audit record: reason, words, advice and the id of the
//! decision. A closed resource and one that doesn't exist look the same.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, PROXY_AUTHENTICATE, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use vouchsafe_model::decision::{Advice, Decision, Reason, StepUp};
use vouchsafe_runtime::body::{Body, full};
use vouchsafe_runtime::tls::sha256;
use vouchsafe_wire::api::Problem;

use crate::decide::Decided;
use crate::listen::Refused;

/// Authentication context class of a sign-in that resists phishing (OpenID Connect EAP ACR Values §4).
const ACR_PHISHING_RESISTANT: &str = "phr";

const STYLE: &str = include_str!("answer/denied.css");

/// For pages that have no form.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| policy("'none'"));

/// Nothing but our own style sheet, known by its hash, and forms that lead there alone.
fn policy(form_action: &str) -> HeaderValue {
    let text = format!(
        "default-src 'none'; style-src 'sha256-{}'; frame-ancestors 'none'; base-uri 'none'; form-action {form_action}",
        STANDARD.encode(sha256(STYLE.as_bytes()))
    );
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// How the client wants to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A person with a browser.
    Page,
    /// A program asking for a resource.
    Problem,
    /// A program asking to be let through: its credentials are those of a proxy (RFC 9110 §11.7).
    Proxy,
}

impl Form {
    /// A page for a browser that navigates, problem details for everything else.
    pub(crate) fn wanted(method: &Method, headers: &HeaderMap) -> Self {
        let wants_html = headers
            .get(http::header::ACCEPT)
            .and_then(|accept| accept.to_str().ok())
            .is_some_and(|accept| accept.to_ascii_lowercase().contains("text/html"));
        if wants_html && (method == Method::GET || method == Method::HEAD) { Form::Page } else { Form::Problem }
    }
}

/// The status of a denial.
pub(crate) fn status(reason: Reason, form: Form) -> StatusCode {
    match reason {
        Reason::SignInRequired
        | Reason::SessionEnded
        | Reason::CredentialInvalid
        | Reason::DeviceMismatch
        | Reason::StepUpRequired => match form {
            Form::Proxy => StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            Form::Page | Form::Problem => StatusCode::UNAUTHORIZED,
        },
        Reason::DeviceRequired
        | Reason::DeviceUnknown
        | Reason::ConditionFailed
        | Reason::NoPermit
        | Reason::Forbidden
        | Reason::PolicyError
        | Reason::UnknownResource
        | Reason::Permitted => StatusCode::FORBIDDEN,
        Reason::Ambiguous => StatusCode::BAD_REQUEST,
        Reason::Misdirected => StatusCode::MISDIRECTED_REQUEST,
        Reason::FactsUnavailable | Reason::ControllerSilent | Reason::AuditUnavailable | Reason::TooManyFlows => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Reason::UpstreamUnavailable => StatusCode::BAD_GATEWAY,
    }
}

/// The code that the client is told. Closed and unknown resources look the same.
fn told(reason: Reason) -> &'static str {
    match reason {
        Reason::UnknownResource => Reason::NoPermit.code(),
        other => other.code(),
    }
}

/// Answers a denial.
pub(crate) fn denial(decided: &Decided, form: Form, detail: Option<&str>) -> Response<Body> {
    denial_as(decided, status(decided.decision.reason, form), form, detail)
}

/// Answers a denial with a status of its own, where one says more than the usual one.
pub(crate) fn denial_as(decided: &Decided, status: StatusCode, form: Form, detail: Option<&str>) -> Response<Body> {
    let mut response = match form {
        Form::Page => {
            let mut response = Response::new(full(denied(decided, status, detail).into_string()));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
            headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
            response
        }
        Form::Problem | Form::Proxy => {
            let problem = problem(decided, status, detail);
            let mut response = Response::new(full(serde_json::to_vec(&problem).unwrap_or_default()));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
            response
        }
    };
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::from_str(&decided.id.to_string()) {
        headers.insert("x-vouchsafe-decision", id);
    }
    let challenge = challenge(&decided.decision);
    match status {
        StatusCode::UNAUTHORIZED => drop(headers.insert(WWW_AUTHENTICATE, challenge)),
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => drop(headers.insert(PROXY_AUTHENTICATE, challenge)),
        StatusCode::SERVICE_UNAVAILABLE => drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("5"))),
        _ => {}
    }
    response
}

/// What has to be proven, to programs (RFC 6750 §3; RFC 9470 §3 where it is a fresh sign-in).
fn challenge(decision: &Decision) -> HeaderValue {
    let invalid = HeaderValue::from_static("Bearer realm=\"vouchsafe\", error=\"invalid_token\"");
    match (decision.reason, decision.step_up) {
        (Reason::SignInRequired, _) => HeaderValue::from_static("Bearer realm=\"vouchsafe\""),
        (Reason::StepUpRequired, Some(StepUp { max_age, phishing_resistant })) => {
            let mut text = "Bearer realm=\"vouchsafe\", error=\"insufficient_user_authentication\", \
                            error_description=\"A fresh sign-in is needed\""
                .to_owned();
            if let Some(age) = max_age {
                text.push_str(&format!(", max_age=\"{}\"", age.as_secs()));
            }
            if phishing_resistant {
                text.push_str(&format!(", acr_values=\"{ACR_PHISHING_RESISTANT}\""));
            }
            HeaderValue::from_str(&text).unwrap_or(invalid)
        }
        _ => invalid,
    }
}

fn problem(decided: &Decided, status: StatusCode, detail: Option<&str>) -> Problem {
    let decision = &decided.decision;
    let advice: Vec<&str> = decision.advice.iter().map(|advice| advice.words()).collect();
    let next = (!advice.is_empty()).then(|| advice.join(" "));
    Problem {
        kind: format!("urn:vouchsafe:reason:{}", told(decision.reason)),
        status: status.as_u16(),
        title: decision.words.as_ref().to_owned(),
        detail: detail.map(ToOwned::to_owned).or(next),
        decision: Some(decided.id.to_string()),
        reason: Some(told(decision.reason).to_owned()),
        advice: decision.advice.iter().map(|advice| advice.as_str().to_owned()).collect(),
        max_age: decision.step_up.and_then(|step_up| step_up.max_age).map(|age| age.as_secs()),
        diagnostics: Vec::new(),
        failed_tests: Vec::new(),
        unproven: Vec::new(),
    }
}

fn denied(decided: &Decided, status: StatusCode, detail: Option<&str>) -> Markup {
    let decision = &decided.decision;
    let heading = match status {
        StatusCode::BAD_REQUEST | StatusCode::MISDIRECTED_REQUEST => "This request can't be accepted",
        StatusCode::BAD_GATEWAY => "The resource doesn't answer",
        StatusCode::SERVICE_UNAVAILABLE => "Access can't be decided right now",
        StatusCode::UNAUTHORIZED if decision.reason == Reason::StepUpRequired => "A fresh sign-in is needed",
        StatusCode::UNAUTHORIZED => "Please sign in",
        _ => "You can't open this",
    };
    let main = html! {
        p.mark role="status" { span aria-hidden="true" { "⛔" } "Access denied" }
        h1 { (heading) }
        p { (decision.words.as_ref()) }
        @if let Some(detail) = detail { p { (detail) } }
        @if !decision.advice.is_empty() {
            h2 { "What you can do" }
            ul { @for advice in decision.advice.iter() { li { (advice_markup(*advice)) } } }
        }
        footer {
            "Decision " code { (decided.id) } " · reason " code { (told(decision.reason)) }
            p { "Quote the decision to an administrator: it says who asked for what, and why it was refused." }
        }
    };
    document(heading, main)
}

fn document(title: &str, main: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · vouchsafe" }
                style { (PreEscaped(STYLE)) }
            }
            body { main { (main) } }
        }
    }
}

/// A page of an app host in front of what was asked for.
pub(crate) fn page(title: &str, main: Markup) -> Response<Body> {
    let mut response = plain(StatusCode::OK, "");
    *response.body_mut() = full(document(title, main).into_string());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    response
}

/// A page of an app host with a form, whose answer leads on to this origin.
pub(crate) fn page_with_form(title: &str, main: Markup, leads_to: &str) -> Response<Body> {
    let mut response = plain(StatusCode::OK, "");
    *response.body_mut() = full(document(title, main).into_string());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_SECURITY_POLICY, policy(&format!("'self' {leads_to}")));
    response
}

/// The answer of a denial, shown as another page than the usual one.
pub(crate) fn as_page(denial: Response<Body>, title: &str, main: Markup, form_action: &str) -> Response<Body> {
    let mut response = denial.map(|_| full(document(title, main).into_string()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_SECURITY_POLICY, policy(form_action));
    response
}

/// Words in backticks are commands.
pub(crate) fn advice_markup(advice: Advice) -> Markup {
    html! {
        @for (index, part) in advice.words().split('`').enumerate() {
            @if index % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// Work that is not taken on now: 503 when there is too much of it, 429 when one source asks too
/// often. No decision stands behind it, so nothing is recorded; it is counted and logged.
pub(crate) fn shed(refused: Refused) -> Response<Body> {
    let mut response = match refused {
        Refused::Overloaded => {
            plain(StatusCode::SERVICE_UNAVAILABLE, "Too much is being asked at once; try again soon.")
        }
        Refused::TooFast => {
            plain(StatusCode::TOO_MANY_REQUESTS, "Too many requests from your network; try again soon.")
        }
    };
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

/// A plain answer of our own: redirects and refusals that no decision stands behind.
pub(crate) fn plain(status: StatusCode, words: &str) -> Response<Body> {
    let mut response = Response::new(full(format!("{words}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use http_body_util::BodyExt;
    use vouchsafe_model::decision::Decision;

    async fn text(reason: Reason, form: Form) -> String {
        let mut decided = Decided::new(Decision::denied(reason, 1), SystemTime::UNIX_EPOCH);
        decided.id = vouchsafe_model::id::DecisionId::from_random([1; 16]);
        let response = denial(&decided, form, None);
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_closed_and_an_unknown_resource_look_the_same() {
        for form in [Form::Page, Form::Problem, Form::Proxy] {
            assert_eq!(text(Reason::NoPermit, form).await, text(Reason::UnknownResource, form).await);
            assert_eq!(status(Reason::NoPermit, form), status(Reason::UnknownResource, form));
        }
    }

    #[tokio::test]
    async fn words_of_a_policy_are_text_not_markup() {
        let mut decision = Decision::denied(Reason::Forbidden, 1);
        decision.words = "<script>alert(1)</script>".into();
        let response = denial(&Decided::new(decision, SystemTime::UNIX_EPOCH), Form::Page, Some("<b>"));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&body);
        assert!(!text.contains("<script>") && !text.contains("<b>"));
    }
}
