//! What the fuzzers call of this crate, and the replay of their seeds: what must hold of foreign
//! bytes that no public function takes. A finding is a panic. The drivers stand in `fuzz/roles`.

#![allow(clippy::expect_used, clippy::panic, reason = "a broken expectation is what is looked for")]

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::UNIX_EPOCH;

use http::header::{AUTHORIZATION, COOKIE, HeaderName, SET_COOKIE};
use http::{HeaderMap, HeaderValue};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use vouchsafe_model::decision::Reason;
use vouchsafe_model::id::{SessionId, UserId};
use vouchsafe_model::name::{BaseDomain, UserName};
use vouchsafe_model::resource::{Endpoint, HttpSpec, IdentityHeaders, UpstreamScheme};
use vouchsafe_model::subject::{AuthFacts, Epoch, SubjectFacts, UserFacts};
use vouchsafe_policy::{Engine, PolicyFile, PolicySource, Severity};
use vouchsafe_runtime::tls::verify::{ClientRole, Clients, Servers};
use vouchsafe_runtime::tls::{CertifiedPeer, ServerTrust};

use crate::authenticate::{Authenticator, LastToken, Presented, SESSION_COOKIE, cookies, looks_like_ours};
use crate::forward::headers::{self, Facing, Known};

/// A target: what it is called with.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its seeds' folder.
pub const TARGETS: &[(&str, Target)] = &[
    ("access_token", access_token),
    ("certificate", certificate),
    ("header_fields", header_fields),
    ("policy_text", policy_text),
];

/// `name: value` lines as fields; what the HTTP library would not have let through is left out.
fn fields(bytes: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(64) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            fields.append(name, value);
        }
    }
    fields
}

/// How a framework might read a name: nothing but letters and digits tells names apart.
fn bare(name: &str) -> String {
    let bare: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect();
    bare.strip_prefix("http").map(str::to_owned).unwrap_or(bare)
}

/// Whether a line of cookies, or one that sets a cookie, has one of ours, wherever somebody might cut it.
fn names_our_cookie(value: &HeaderValue) -> bool {
    let pairs = value.as_bytes().split(|byte| *byte == b';');
    pairs.map(<[u8]>::trim_ascii).any(|pair| {
        pair.get(..SESSION_COOKIE.len()).is_some_and(|name| name.eq_ignore_ascii_case(SESSION_COOKIE.as_bytes()))
    })
}

static SUBJECT: LazyLock<(HttpSpec, SubjectFacts)> = LazyLock::new(|| {
    let upstream = Endpoint::parse("10.0.0.1:80").expect("an endpoint");
    let spec = HttpSpec { identity_headers: IdentityHeaders::Plain, ..HttpSpec::new(UpstreamScheme::Http, upstream) };
    let user = UserFacts {
        id: UserId::from_random([2; 16]),
        name: UserName::parse("alice").expect("a name"),
        groups: BTreeSet::new(),
    };
    let facts = SubjectFacts {
        session: SessionId::from_random([1; 16]),
        user,
        device: None,
        auth: AuthFacts { methods: BTreeSet::new(), at: UNIX_EPOCH },
        expires: UNIX_EPOCH,
        epoch: Epoch(1),
    };
    (spec, facts)
});

/// Fields of a request and of an answer: nothing in them speaks in our name behind the gateway, and
/// our credentials go no further (I9).
pub fn header_fields(bytes: &[u8]) {
    let from = fields(bytes);
    let (spec, facts) = &*SUBJECT;
    let facing = Facing {
        spec,
        known: Some(Known { facts, assertion: HeaderValue::from_static("signed") }),
        public_host: &HeaderValue::from_static("app.corp.example:8443"),
        ip: &HeaderValue::from_static("192.0.2.1"),
    };
    let to = headers::to_upstream(&from, &facing);
    for (name, value) in &to {
        let expected = match name.as_str() {
            "x-vouchsafe-user" => Some("alice"),
            "x-vouchsafe-groups" => Some(""),
            "x-vouchsafe-assertion" => Some("signed"),
            "x-forwarded-for" => Some("192.0.2.1"),
            "x-forwarded-host" | "host" => Some("app.corp.example:8443"),
            "x-forwarded-proto" => Some("https"),
            other => {
                let bare = bare(other);
                let foreign = ["xvouchsafe", "xforwarded", "xrealip", "remoteuser", "xoriginal"];
                assert!(bare != "forwarded" && !foreign.iter().any(|ours| bare.starts_with(ours)), "{other}");
                None
            }
        };
        assert!(expected.is_none_or(|expected| value == expected), "{name}: {value:?}");
        assert!(*name != COOKIE || !names_our_cookie(value), "{value:?}");
        assert!(*name != AUTHORIZATION || !value.to_str().is_ok_and(looks_like_ours), "{value:?}");
    }
    for name in ["host", "x-vouchsafe-assertion", "x-vouchsafe-user", "x-forwarded-for", "x-forwarded-proto"] {
        assert_eq!(to.get_all(name).iter().count(), 1, "{name}");
    }
    assert!(to.get_all(COOKIE).iter().count() <= 1);
    for name in
        headers::trailers_to_upstream(from.clone()).keys().chain(headers::trailers_from_upstream(from.clone()).keys())
    {
        assert!(!bare(name.as_str()).starts_with("xvouchsafe"), "{name}");
        assert!(
            !["cookie", "host", "authorization", "content-length", "set-cookie"].contains(&name.as_str()),
            "{name}"
        );
    }
    let mut answer = from.clone();
    headers::from_upstream(&mut answer, "app.corp.example");
    for (name, value) in &answer {
        assert!(!bare(name.as_str()).starts_with("xvouchsafe") && name != "alt-svc", "{name}");
        assert!(*name != SET_COOKIE || !names_our_cookie(value), "{value:?}");
    }
    // One cookie of ours counts, and two are none.
    let ours = cookies(&from).filter(|(name, _)| *name == SESSION_COOKIE).count();
    match Presented::cookie(&from) {
        Presented::Nothing => assert_eq!(ours, 0),
        Presented::Cookie(value) => assert!(ours == 1 && !value.contains(';')),
        Presented::Ambiguous => assert!(ours > 1),
        Presented::Token(_) => panic!("a cookie is no token"),
    }
    let _ = (Presented::token(&from), Presented::proxy_token(&from));
}

/// A token that we did not sign is nobody's.
pub fn access_token(bytes: &[u8]) {
    static KEYS: LazyLock<Authenticator> = LazyLock::new(|| {
        // The generator of P-256 (FIPS 186-4 §D.1.2.3), whose private key is 1: not one of ours.
        let point = "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
        let byte = |at: usize| u8::from_str_radix(point.get(at..at + 2).unwrap_or_default(), 16).unwrap_or_default();
        let point = (0..65).map(|index| byte(index * 2)).collect();
        Authenticator::new("https://auth.corp.example".to_owned(), &[("a".to_owned(), point)])
    });
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    assert_eq!(KEYS.verify(text, "gateway", None, &LastToken::default()).err(), Some(Reason::CredentialInvalid));
    let _ = looks_like_ours(text);
}

/// A certificate that nobody issued is refused, by each verifier and however it looks.
pub fn certificate(bytes: &[u8]) {
    static NOBODY: LazyLock<(Clients, Servers, BaseDomain)> = LazyLock::new(|| {
        let domain = BaseDomain::parse("corp.example").expect("a domain");
        let roots = || std::sync::Arc::new(RootCertStore::empty());
        (Clients::new(ClientRole::Device, roots(), domain.clone()), Servers::new(ServerTrust::Roots(roots())), domain)
    });
    let (devices, servers, domain) = &*NOBODY;
    let leaf = CertificateDer::from(bytes);
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_800_000_000));
    assert!(devices.verify(&leaf, std::slice::from_ref(&leaf), now).is_err());
    let name = ServerName::try_from("db.corp.example").expect("a name");
    assert!(servers.verify(&leaf, std::slice::from_ref(&leaf), &name, now).is_err());
    // Reading is not verifying: here any id of the domain is taken, and no other.
    if let Ok(peer) = CertifiedPeer::read(&leaf, domain) {
        assert!(peer.identity.to_uri(domain).starts_with("spiffe://corp.example/"));
    }
    let _ = vouchsafe_runtime::tls::verify::is_for(&leaf, "db.corp.example");
}

/// Policies as an administrator could write them: each mistake has its place in the text, and what
/// has none can be compiled.
pub fn policy_text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let file = PolicyFile { name: "a.cedar".to_owned(), text: text.to_owned() };
    let found = vouchsafe_policy::check(std::slice::from_ref(&file));
    for mistake in &found {
        assert!(text.is_char_boundary(mistake.offset), "{mistake:?}");
        assert!(mistake.offset + mistake.length <= text.len(), "{mistake:?}");
        assert!(!mistake.to_string().is_empty());
    }
    let usable = found.iter().all(|mistake| mistake.severity == Severity::Warning);
    let source = PolicySource { version: 1, files: vec![file], ..PolicySource::default() };
    assert_eq!(Engine::compile(source).is_ok(), usable, "{found:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_of_the_fuzzers_passes() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/roles/seeds");
        for (name, target) in TARGETS {
            let seeds =
                std::fs::read_dir(folder.join(name)).unwrap_or_else(|error| panic!("no seeds of {name}: {error}"));
            let seeds: Vec<_> = seeds.map(|seed| std::fs::read(seed.unwrap().path()).unwrap()).collect();
            assert!(!seeds.is_empty(), "{name}");
            for bytes in seeds {
                target(&bytes);
                // Policies take milliseconds each.
                let step = if *name == "policy_text" { bytes.len() / 8 + 1 } else { 1 };
                for at in (0..bytes.len().min(512)).step_by(step) {
                    target(&bytes[..at]);
                    let mut changed = bytes.clone();
                    changed[at] ^= 0x20;
                    target(&changed);
                }
            }
        }
    }
}
