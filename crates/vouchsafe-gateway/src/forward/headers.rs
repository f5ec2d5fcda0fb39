//! Which header fields pass.
//!
//! Names are compared in the form that the laxest framework would read them in: lower case, every
//! byte outside `[a-z0-9]` a hyphen, rows of hyphens one, and without the `HTTP_` that CGI puts in
//! front. So `X_Vouchsafe_User`, `x-vouchsafe--user` and `HTTP_X_VOUCHSAFE_USER` are all ours (A003).

#[cfg(test)]
mod guide;

use std::borrow::Cow;

use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING,
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, COOKIE, DATE, EXPECT, EXPIRES, HOST, HeaderName, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LOCATION, MAX_FORWARDS, ORIGIN, PRAGMA, RANGE,
    REFERER, RETRY_AFTER, SET_COOKIE, STRICT_TRANSPORT_SECURITY, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    UPGRADE_INSECURE_REQUESTS, USER_AGENT, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue};
use vouchsafe_model::resource::{HostHeader, HttpSpec, IdentityHeaders};
use vouchsafe_model::subject::SubjectFacts;
use vouchsafe_wire::token::ASSERTION_HEADER;

use crate::authenticate::{OWN_COOKIE_PREFIX, looks_like_ours};

/// Canonical names that never come through from outside: who somebody is, and where a request came from, is ours to say
/// (A001, A007, A013, A031). What stands in front of an app in our place has to take the same away, so each is in the
/// files of `docs/guide/existing-proxies` too (a test says so).
const STRIPPED: &[&str] = &[
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "x-cluster-client-ip",
    "remote-user",
    "x-remote-user",
    "x-webauth-user",
    "x-user",
    "x-username",
    "x-email",
    "x-groups",
    "x-roles",
    "x-jwt-assertion",
    "x-authenticated-user",
    "x-authenticated-userid",
    "x-client-cert",
    "x-client-dn",
    "x-ssl-client-cert",
    "ssl-client-cert",
    "x-host",
    "x-arr-clientcert",
    "proxy",
    "keep-alive",
];
/// Canonical beginnings of such names.
const STRIPPED_PREFIXES: &[&str] = &[
    "x-vouchsafe",
    "x-forwarded",
    "x-auth-request-",
    "x-envoy-",
    "x-nginx-",
    "x-amzn-oidc-",
    "x-goog-authenticated-",
    "x-goog-iap-",
    "cf-access-",
    "x-pomerium-",
    "x-user-",
    "x-webauth-",
    "x-remote-",
    "remote-",
    "x-auth-",
    "x-ms-client-principal",
    "tailscale-user-",
    "x-consumer-",
    "x-authenticated-",
    "x-oidc-",
    "oidc-",
    "x-authentik-",
    "x-ssl-",
    "ssl-client",
    "proxy-",
    "secure-session-",
    "sec-secure-session-",
    "sec-session-",
];
/// Canonical names that don't come through either, by which an app would take a request for another one than was decided
/// on: another path or method, or one that it needn't look at.
const REDIRECTING: &[&str] = &["script-name", "path-info", "path-translated", "x-script-name", "x-path-info"];
/// Canonical beginnings of such names.
const REDIRECTING_PREFIXES: &[&str] =
    &["x-original-", "x-rewrite-", "x-http-method", "x-method-override", "x-middleware-", "x-envoy-original-"];

/// The form in which two header names are the same to some framework.
fn canonical_name(name: &str) -> Cow<'_, str> {
    // As if a hyphen stood in front, so that none may begin the name.
    let mut before = b'-';
    let plain = name.bytes().all(|byte| {
        let fits = byte.is_ascii_lowercase() || byte.is_ascii_digit() || (byte == b'-' && before != b'-');
        before = byte;
        fits
    });
    let is_canonical = plain && before != b'-' && !name.starts_with("http-");
    // Nearly every name is: the others cost an allocation.
    if is_canonical { Cow::Borrowed(name) } else { Cow::Owned(brought_to_canonical_form(name)) }
}

fn brought_to_canonical_form(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte.to_ascii_lowercase() {
            byte @ (b'a'..=b'z' | b'0'..=b'9') => out.push(char::from(byte)),
            _ if out.ends_with('-') => {}
            _ => out.push('-'),
        }
    }
    let trimmed = out.trim_matches('-');
    trimmed.strip_prefix("http-").unwrap_or(trimmed).to_owned()
}

/// What nearly every request brings, and what no rule here is about (a test says so): not to be held
/// against all of them each time.
const PLAIN: [HeaderName; 14] = [
    ACCEPT,
    ACCEPT_ENCODING,
    ACCEPT_LANGUAGE,
    AUTHORIZATION,
    CACHE_CONTROL,
    CONTENT_TYPE,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    ORIGIN,
    PRAGMA,
    RANGE,
    REFERER,
    UPGRADE_INSECURE_REQUESTS,
    USER_AGENT,
];

/// Whether a field of a client doesn't come through.
pub(crate) fn is_stripped(name: &HeaderName) -> bool {
    !PLAIN.contains(name) && breaks_a_rule(name)
}

fn breaks_a_rule(name: &HeaderName) -> bool {
    // CGI and its kin turn every other character into the same `_`, so a name with one is a second
    // spelling of some other name. nginx drops them for the same reason.
    if !name.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return true;
    }
    let canonical = canonical_name(name.as_str());
    STRIPPED.contains(&&*canonical)
        || STRIPPED_PREFIXES.iter().any(|prefix| canonical.starts_with(prefix))
        || leads_elsewhere(&canonical)
}

/// Whether some app would take a request with that field for another one.
pub(crate) fn redirects(name: &HeaderName) -> bool {
    leads_elsewhere(&canonical_name(name.as_str()))
}

fn leads_elsewhere(canonical: &str) -> bool {
    REDIRECTING.contains(&canonical) || REDIRECTING_PREFIXES.iter().any(|prefix| canonical.starts_with(prefix))
}

/// Fields that belong to one hop (RFC 9110 §7.6.1).
const HOP_BY_HOP: [HeaderName; 6] = [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, EXPECT];

/// Further fields that `Connection` makes belong to this hop. A name that carries meaning for us
/// can't be dropped that way: ours are added afterwards (A005).
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse::<HeaderName>().ok())
        .filter(|name| ![HOST, CONTENT_LENGTH, COOKIE, AUTHORIZATION].contains(name))
        .collect()
}

/// Fields that mean something only in front of a body: framing, routing, control, credentials, and
/// how the content is to be read (RFC 9110 §6.5.1).
const NEVER_TRAILERS: [HeaderName; 22] = [
    AUTHORIZATION,
    CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    COOKIE,
    DATE,
    EXPIRES,
    HOST,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    LOCATION,
    MAX_FORWARDS,
    RANGE,
    RETRY_AFTER,
    SET_COOKIE,
    STRICT_TRANSPORT_SECURITY,
    WWW_AUTHENTICATE,
];

fn may_trail(name: &HeaderName) -> bool {
    !HOP_BY_HOP.contains(name) && !NEVER_TRAILERS.contains(name) && !name.as_str().starts_with("access-control-")
}

/// The trailers of a request that go upstream: what may not stand in front of a body may not come
/// behind it either.
pub(crate) fn trailers_to_upstream(from: HeaderMap) -> HeaderMap {
    kept(from, |name| may_trail(name) && !is_stripped(name))
}

/// The trailers of an answer that go to the client.
pub(crate) fn trailers_from_upstream(from: HeaderMap) -> HeaderMap {
    kept(from, |name| may_trail(name) && !speaks_for_us(name))
}

fn kept(mut from: HeaderMap, keep: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let dropped: Vec<HeaderName> = from.keys().filter(|name| !keep(name)).cloned().collect();
    for name in dropped {
        from.remove(name);
    }
    from
}

/// The trailers that a message announces, without those that are dropped. Towards peers of HTTP/1.1
/// the library sends only what is announced.
fn announced(from: &HeaderMap, keep: impl Fn(&HeaderName) -> bool) -> Option<HeaderValue> {
    let mut names = String::new();
    let named = from.get_all(TRAILER).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    for name in named.filter_map(|name| name.trim().parse::<HeaderName>().ok()).filter(|name| keep(name)) {
        if !names.is_empty() {
            names.push_str(", ");
        }
        names.push_str(name.as_str());
    }
    if names.is_empty() { None } else { HeaderValue::from_str(&names).ok() }
}

/// Takes away what only a connection of HTTP/1.1 has a use for.
pub(crate) fn only_for_connections(headers: &mut HeaderMap) {
    headers.remove(CONNECTION);
}

/// Which of the fields that need work are there. Most are not, and one look at all names says so sooner
/// than a search for each.
#[derive(Debug, Default)]
struct Has {
    connection: bool,
    cookie: bool,
    set_cookie: bool,
    te: bool,
    trailer: bool,
    transfer_encoding: bool,
    /// Any that belongs to one hop.
    hop_by_hop: bool,
}

impl Has {
    fn of(headers: &HeaderMap) -> Self {
        let mut has = Self::default();
        for name in headers.keys() {
            has.connection |= *name == CONNECTION;
            has.cookie |= *name == COOKIE;
            has.set_cookie |= *name == SET_COOKIE;
            has.te |= *name == TE;
            has.trailer |= *name == TRAILER;
            has.transfer_encoding |= *name == TRANSFER_ENCODING;
            has.hop_by_hop |= HOP_BY_HOP.contains(name);
        }
        has
    }
}

/// What the upstream is told about the request besides its own fields.
pub(crate) struct Facing<'r> {
    pub(crate) spec: &'r HttpSpec,
    /// Who asks, where that is proven.
    pub(crate) known: Option<Known<'r>>,
    /// Host and port that the client asked for.
    pub(crate) public_host: &'r HeaderValue,
    /// Address of the client.
    pub(crate) ip: &'r HeaderValue,
}

/// Who asks, and the proof of it for the upstream.
pub(crate) struct Known<'r> {
    pub(crate) facts: &'r SubjectFacts,
    pub(crate) assertion: HeaderValue,
}

/// The fields of the request that goes upstream. Framing (`Content-Length`, `Transfer-Encoding`) is
/// left to the HTTP library, which writes it anew from the body itself (A053).
pub(crate) fn to_upstream(from: &HeaderMap, facing: &Facing<'_>) -> HeaderMap {
    let has = Has::of(from);
    let named = if has.connection { named_by_connection(from) } else { Vec::new() };
    let mut headers = HeaderMap::with_capacity(from.len() + 8);
    for (name, value) in from {
        let skip = HOP_BY_HOP.contains(name)
            || named.contains(name)
            || [HOST, CONTENT_LENGTH, COOKIE].contains(name)
            || is_stripped(name)
            || (*name == AUTHORIZATION && value.to_str().is_ok_and(looks_like_ours));
        if !skip {
            headers.append(name.clone(), value.clone());
        }
    }
    if has.cookie
        && let Some(cookies) = foreign_cookies(from)
    {
        headers.insert(COOKIE, cookies);
    }
    // The upstream's trailers pass, and gRPC sends none without this.
    if has.te && takes_trailers(from) {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        // It belongs to this hop, which HTTP/1.1 has to be told (RFC 9110 §10.1.4).
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    if has.trailer
        && let Some(names) = announced(from, |name| may_trail(name) && !is_stripped(name))
    {
        headers.insert(TRAILER, names);
    }
    headers.insert(X_FORWARDED_FOR, facing.ip.clone());
    headers.insert(X_FORWARDED_HOST, facing.public_host.clone());
    if facing.spec.host_header == HostHeader::Public {
        headers.insert(HOST, facing.public_host.clone());
    }
    if facing.spec.host_header == HostHeader::Upstream
        && let Ok(host) = HeaderValue::from_str(&facing.spec.upstream.to_string())
    {
        headers.insert(HOST, host);
    }
    if let (IdentityHeaders::Plain, Some(Known { facts, .. })) = (facing.spec.identity_headers, &facing.known) {
        insert_plain(&mut headers, facts);
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
    if let Some(Known { assertion, .. }) = &facing.known {
        headers.insert(ASSERTION, assertion.clone());
    }
    headers
}

/// What a proxy that asked for its client sends upstream besides the client's own fields: who it is, and the client's
/// cookies without ours. A field that is empty is to be taken away.
pub(crate) fn through_proxy(from: &HeaderMap, spec: &HttpSpec, known: Option<&Known<'_>>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(COOKIE, foreign_cookies(from).unwrap_or(HeaderValue::from_static("")));
    if let Some(Known { facts, assertion }) = known {
        headers.insert(ASSERTION, assertion.clone());
        if spec.identity_headers == IdentityHeaders::Plain {
            insert_plain(&mut headers, facts);
        }
    }
    headers
}

fn insert_plain(headers: &mut HeaderMap, facts: &SubjectFacts) {
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    let groups: Vec<&str> = facts.user.groups.iter().map(|group| group.as_str()).collect();
    set(HeaderName::from_static("x-vouchsafe-user"), facts.user.name.as_str());
    set(HeaderName::from_static("x-vouchsafe-groups"), &groups.join(","));
    if let Some(device) = &facts.device {
        set(HeaderName::from_static("x-vouchsafe-device"), &device.id.to_string());
    }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const ASSERTION: HeaderName = HeaderName::from_static(ASSERTION_HEADER);

fn takes_trailers(headers: &HeaderMap) -> bool {
    let members = headers.get_all(TE).iter().filter_map(|te| te.to_str().ok()).flat_map(|te| te.split(','));
    members.into_iter().any(|member| member.trim().eq_ignore_ascii_case("trailers"))
}

/// All cookies but ours, as one field.
fn foreign_cookies(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut kept: Vec<u8> = Vec::new();
    for value in headers.get_all(COOKIE) {
        let pairs = value.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        for pair in pairs.filter(|pair| !pair.is_empty() && !is_own_cookie(pair)) {
            if !kept.is_empty() {
                kept.extend_from_slice(b"; ");
            }
            kept.extend_from_slice(pair);
        }
    }
    if kept.is_empty() { None } else { HeaderValue::from_maybe_shared(bytes::Bytes::from(kept)).ok() }
}

/// Whether a cookie, or the line that sets one, is of a name of ours. One without a name whose value
/// looks like ours comes back as ours (RFC 6265bis §5.7).
fn is_own_cookie(pair: &[u8]) -> bool {
    let name = pair.trim_ascii();
    let name = name.strip_prefix(b"=").unwrap_or(name).trim_ascii_start();
    name.get(..OWN_COOKIE_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(OWN_COOKIE_PREFIX.as_bytes()))
}

/// A line that sets a cookie, without a `Domain` that reaches further than the app's own host: every
/// other app, and the sign-in host, would be sent the cookie as if it were theirs, in the place of one
/// of theirs, or as one too many (A143).
fn within_own_host(line: &HeaderValue, own_host: &str) -> Option<HeaderValue> {
    let reaches_further = |attribute: &&[u8]| -> bool {
        let (name, value) = match attribute.iter().position(|byte| *byte == b'=') {
            Some(at) => attribute.split_at(at),
            None => (*attribute, &b""[..]),
        };
        // As browsers read it (RFC 6265bis §5.6.3): a dot in front means nothing.
        let value = value.strip_prefix(b"=").unwrap_or(value).trim_ascii();
        let value = value.strip_prefix(b".").unwrap_or(value);
        name.trim_ascii().eq_ignore_ascii_case(b"domain") && !value.eq_ignore_ascii_case(own_host.as_bytes())
    };
    let mut parts = line.as_bytes().split(|byte| *byte == b';');
    let pair = parts.next().unwrap_or_default();
    let attributes: Vec<&[u8]> = parts.collect();
    if !attributes.iter().any(&reaches_further) {
        return Some(line.clone());
    }
    let kept = attributes.into_iter().filter(|attribute| !reaches_further(attribute));
    let kept: Vec<&[u8]> = std::iter::once(pair).chain(kept).collect();
    HeaderValue::from_bytes(&kept.join(&b';')).ok()
}

/// Removes from an upstream's answer what belongs to its hop or speaks in our name: it can't set
/// our cookies or those of other apps, move the browser to another port, or hand out decisions.
pub(crate) fn from_upstream(headers: &mut HeaderMap, own_host: &str) {
    let has = Has::of(headers);
    if has.transfer_encoding {
        // The body was framed by that, so a length beside it says nothing (RFC 9112 §6.3).
        headers.remove(CONTENT_LENGTH);
    }
    if has.hop_by_hop {
        hop_ends(headers);
    }
    if has.set_cookie {
        let cookies: Vec<HeaderValue> = headers.get_all(SET_COOKIE).iter().cloned().collect();
        headers.remove(SET_COOKIE);
        let theirs = cookies.iter().filter(|cookie| !is_own_cookie(cookie.as_bytes()));
        for cookie in theirs.filter_map(|cookie| within_own_host(cookie, own_host)) {
            headers.append(SET_COOKIE, cookie);
        }
    }
    let ours: Vec<HeaderName> = headers.keys().filter(|name| speaks_for_us(name)).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
    // The host is ours, and for TLS alone: `max-age=0` would make browsers forget that (A147).
    headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
}

/// Removes from an answer what belongs to the hop that it came over, but for the trailers that pass.
fn hop_ends(headers: &mut HeaderMap) {
    let trailers = announced(headers, |name| may_trail(name) && !speaks_for_us(name));
    for name in named_by_connection(headers).into_iter().chain(HOP_BY_HOP) {
        headers.remove(name);
    }
    if let Some(trailers) = trailers {
        headers.insert(TRAILER, trailers);
    }
}

/// Whether a field of an answer says what only we may say, or would move the browser elsewhere.
fn speaks_for_us(name: &HeaderName) -> bool {
    let canonical = canonical_name(name.as_str());
    canonical.starts_with("x-vouchsafe")
        || ["alt-svc", "clear-site-data", "keep-alive"].contains(&&*canonical)
        || canonical.starts_with("proxy-")
        || canonical.starts_with("secure-session-")
        || canonical.starts_with("sec-session-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use vouchsafe_model::resource::{Endpoint, UpstreamScheme};
    use vouchsafe_model::subject::{AuthFacts, Epoch, UserFacts};

    fn facts() -> SubjectFacts {
        SubjectFacts {
            session: vouchsafe_model::id::SessionId::from_random([1; 16]),
            user: UserFacts {
                id: vouchsafe_model::id::UserId::from_random([2; 16]),
                name: vouchsafe_model::name::UserName::parse("alice").unwrap(),
                groups: std::collections::BTreeSet::new(),
            },
            device: None,
            auth: AuthFacts { methods: std::collections::BTreeSet::new(), at: std::time::UNIX_EPOCH },
            expires: std::time::UNIX_EPOCH,
            epoch: Epoch(1),
        }
    }

    fn passed(fields: &[(&str, &str)]) -> HeaderMap {
        let mut from = HeaderMap::new();
        for (name, value) in fields {
            from.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let upstream = Endpoint::parse("10.0.0.1:80").unwrap();
        let spec =
            HttpSpec { identity_headers: IdentityHeaders::Plain, ..HttpSpec::new(UpstreamScheme::Http, upstream) };
        let facts = facts();
        to_upstream(
            &from,
            &Facing {
                spec: &spec,
                known: Some(Known { facts: &facts, assertion: HeaderValue::from_static("signed") }),
                public_host: &HeaderValue::from_static("app.corp.example:8443"),
                ip: &HeaderValue::from_static("192.0.2.1"),
            },
        )
    }

    #[test]
    fn a001_a003_identity_from_outside_never_passes_in_any_spelling() {
        for name in [
            "X-Vouchsafe-User",
            "x_vouchsafe_user",
            "X.Vouchsafe.User",
            "x-vouchsafe--user",
            "HTTP_X_VOUCHSAFE_USER",
            "X-Vouchsafe_Assertion",
            "x-vouchsafe-groups",
            "-x-vouchsafe-user",
            "X-VOUCHSAFE-ANYTHING-NEW",
        ] {
            let headers = passed(&[(name, "own")]);
            let ours: Vec<_> = headers.iter().filter(|(_, value)| *value == "own").collect();
            assert!(ours.is_empty(), "{name} passed");
            assert_eq!(headers.get_all("x-vouchsafe-user").iter().collect::<Vec<_>>(), ["alice"]);
            assert_eq!(headers.get_all(ASSERTION_HEADER).iter().collect::<Vec<_>>(), ["signed"]);
        }
    }

    #[test]
    fn of_nobody_nothing_is_said_upstream() {
        let mut from = HeaderMap::new();
        for name in ["x-vouchsafe-user", "x-vouchsafe-assertion", "x-vouchsafe-groups", "x_vouchsafe_user"] {
            from.insert(name.parse::<HeaderName>().unwrap(), HeaderValue::from_static("own"));
        }
        let upstream = Endpoint::parse("10.0.0.1:80").unwrap();
        let spec =
            HttpSpec { identity_headers: IdentityHeaders::Plain, ..HttpSpec::new(UpstreamScheme::Http, upstream) };
        let (host, ip) = (HeaderValue::from_static("app.corp.example"), HeaderValue::from_static("192.0.2.1"));
        let headers = to_upstream(&from, &Facing { spec: &spec, known: None, public_host: &host, ip: &ip });
        assert!(!headers.keys().any(|name| name.as_str().contains("vouchsafe")), "{headers:?}");
        assert_eq!(headers.get("x-forwarded-for"), Some(&ip));
    }

    #[test]
    fn what_is_not_held_against_the_rules_breaks_none() {
        for name in PLAIN {
            assert!(!breaks_a_rule(&name) && !HOP_BY_HOP.contains(&name), "{name}");
        }
    }

    #[test]
    fn a005_connection_cannot_drop_our_fields() {
        let headers =
            passed(&[("connection", "close, X-Vouchsafe-User, x-vouchsafe-assertion, Authorization, host, cookie")]);
        assert_eq!(headers.get(ASSERTION_HEADER).unwrap(), "signed");
        assert_eq!(headers.get("host").unwrap(), "app.corp.example:8443");
        assert!(headers.get("connection").is_none());
    }

    #[test]
    fn a007_a013_forwarding_and_framework_fields_are_rewritten_or_dropped() {
        for name in [
            "X-Forwarded-For",
            "x_forwarded_for",
            "X-Forwarded-Host",
            "X-Forwarded-User",
            "X-Forwarded-Uri",
            "Forwarded",
            "X-Real-IP",
            "X-Original-URL",
            "X-Rewrite-URL",
            "X-HTTP-Method-Override",
            "True-Client-IP",
            "CF-Connecting-IP",
            "x-middleware-subrequest",
            "x-envoy-original-path",
            "x-amzn-oidc-data",
            "Proxy-Authorization",
            "Proxy-Connection",
            "Remote_User",
            "script_name",
            "Script-Name",
            "path_info",
            "X-Webauth-Email",
            "X-Remote-Groups",
            "X-Auth-User",
            "any_thing",
            "any.thing",
        ] {
            assert!(!passed(&[(name, "evil")]).values().any(|value| value == "evil"), "{name} passed");
        }
        assert_eq!(passed(&[("x-forwarded-for", "127.0.0.1")]).get("x-forwarded-for").unwrap(), "192.0.2.1");
    }

    #[test]
    fn a145_our_cookies_and_tokens_never_reach_an_upstream() {
        let headers =
            passed(&[("cookie", "a=1; __Host-vouchsafe=secret; b=2"), ("cookie", "__host-Vouchsafe-pending=x; c=3")]);
        assert_eq!(headers.get("cookie").unwrap(), "a=1; b=2; c=3");
        let ours = "Bearer eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJFUzI1NiIsImtpZCI6ImEifQ.e30.AAAA";
        assert!(passed(&[("authorization", ours)]).get("authorization").is_none());
        assert_eq!(passed(&[("authorization", "Basic YTpi")]).get("authorization").unwrap(), "Basic YTpi");
    }

    #[test]
    fn cookies_that_are_no_text_pass_and_take_nothing_with_them() {
        let mut from = HeaderMap::new();
        let field = b"theirs=\xe9t\xe9; __Host-vouchsafe=secret; \xff; b=2";
        from.append(COOKIE, HeaderValue::from_bytes(field).unwrap());
        from.append(COOKIE, HeaderValue::from_static("c=3"));
        assert_eq!(foreign_cookies(&from).unwrap().as_bytes(), b"theirs=\xe9t\xe9; \xff; b=2; c=3");
    }

    #[test]
    fn trailers_bring_nothing_that_headers_may_not() {
        let mut from = HeaderMap::new();
        for name in [
            "x_vouchsafe-user",
            "x-vouchsafe-assertion",
            "x-forwarded-for",
            "cookie",
            "authorization",
            "host",
            "content-length",
            "transfer-encoding",
            "connection",
            "upgrade",
            "te",
            "x-http-method-override",
            "set-cookie",
            "alt-svc",
            "proxy-authenticate",
            "access-control-allow-origin",
        ] {
            from.insert(name.parse::<HeaderName>().unwrap(), HeaderValue::from_static("evil"));
        }
        let honest = ["grpc-status", "grpc-message", "x-checksum", "server-timing", "etag", "digest"];
        for name in honest {
            from.insert(name.parse::<HeaderName>().unwrap(), HeaderValue::from_static("fine"));
        }
        let (inward, outward) = (trailers_to_upstream(from.clone()), trailers_from_upstream(from));
        let evil = |trailers: &HeaderMap| -> Vec<String> {
            trailers.iter().filter(|(_, value)| *value == "evil").map(|(name, _)| name.to_string()).collect()
        };
        // What is left means nothing in that direction.
        assert_eq!(evil(&inward), ["alt-svc"]);
        assert_eq!(evil(&outward), ["x-forwarded-for", "x-http-method-override"]);
        for passed in [inward, outward] {
            assert!(honest.iter().all(|name| passed.get(*name).is_some_and(|value| value == "fine")), "{passed:?}");
        }
    }

    #[test]
    fn only_trailers_that_pass_are_announced() {
        let headers = passed(&[("te", "deflate, trailers"), ("trailer", "X-Checksum, Cookie, x_vouchsafe_user")]);
        assert_eq!(headers.get("trailer").unwrap(), "x-checksum");
        assert_eq!(headers.get("te").unwrap(), "trailers");
        assert_eq!(headers.get("connection").unwrap(), "te");
    }

    #[test]
    fn a143_an_upstream_cannot_set_our_cookies() {
        let mut headers = HeaderMap::new();
        headers.append(SET_COOKIE, HeaderValue::from_static("__Host-vouchsafe=evil; Path=/"));
        // Without a name of its own: browsers that take it send back `__Host-vouchsafe=evil`.
        for nameless in ["=__Host-vouchsafe=evil; Domain=d", " = __HOST-vouchsafe=evil", "=__Host-vouchsafe-pending=x"]
        {
            headers.append(SET_COOKIE, HeaderValue::from_str(nameless).unwrap());
        }
        headers.append(SET_COOKIE, HeaderValue::from_static("theirs=1"));
        headers.insert("alt-svc", HeaderValue::from_static("h3=\":443\""));
        headers.insert("x-vouchsafe-decision", HeaderValue::from_static("x"));
        from_upstream(&mut headers, "app.corp.example");
        assert_eq!(headers.get_all(SET_COOKIE).iter().collect::<Vec<_>>(), ["theirs=1"]);
        assert!(headers.get("alt-svc").is_none() && headers.get("x-vouchsafe-decision").is_none());
    }
    #[test]
    fn a143_an_upstreams_cookies_reach_no_other_host() {
        let set = |line: &str| {
            let mut headers = HeaderMap::new();
            headers.append(SET_COOKIE, HeaderValue::from_bytes(line.as_bytes()).unwrap());
            from_upstream(&mut headers, "app.corp.example");
            headers.get(SET_COOKIE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        for (line, passed) in [
            ("a=1; Domain=corp.example; Path=/login", "a=1; Path=/login"),
            ("a=1;domain=.corp.example", "a=1"),
            ("a=1; DOMAIN = CORP.example ; Secure", "a=1; Secure"),
            ("a=1; Domain=other.corp.example", "a=1"),
            ("a=1; Domain=\"app.corp.example\"", "a=1"),
            ("a=1; Domain=app.corp.example.", "a=1"),
            ("a=1; Domain=; HttpOnly", "a=1; HttpOnly"),
            ("a=1; Domain; HttpOnly", "a=1; HttpOnly"),
            // Of several the last one counts, so none may reach further.
            ("a=1; Domain=app.corp.example; Domain=corp.example", "a=1; Domain=app.corp.example"),
            ("a=ü; Domain=corp.example; Max-Age=1", "a=ü; Max-Age=1"),
            ("Domain=corp.example; Domain=example", "Domain=corp.example"),
            // Its own host, and a value that only looks like an attribute.
            ("a=1; Domain=app.corp.example; Path=/", "a=1; Domain=app.corp.example; Path=/"),
            ("a=1; Domain=.APP.corp.example", "a=1; Domain=.APP.corp.example"),
            ("a=Domain=corp.example; Path=/", "a=Domain=corp.example; Path=/"),
        ] {
            assert_eq!(set(line).as_deref(), Some(passed), "{line}");
        }
    }
}
